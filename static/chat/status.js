// The connection indicator, and the banner under the bar: the state, and what the user can do about it.

import { byId, el, hide } from "./dom.js";

// By the reason for which a connection stays closed: the indicator's words, the sentence, and the way back.
const ENDED = {
  evicted: ["used elsewhere", "You have too many sessions open, and this tab was the least active one. It stays signed out until you want it back.", "here"],
  replaced: ["used elsewhere", "This tab was opened again somewhere else, and is used there now.", "here"],
  closed_by_user: ["signed out here", "You signed this tab out from another one of your sessions.", "here"],
  login_required: ["signed out", "You are logged out.", "login"],
  session_ended: ["signed out", "You are logged out.", "login"],
  account_disabled: ["account disabled", "Your account has been disabled. Please ask support to enable it.", null],
  too_big: ["stopped", "This tab sent something too big, and the server closed the connection.", "again"],
  protocol_abuse: ["stopped", "This tab sent too much too fast, and the server closed the connection.", "again"],
};
const UNKNOWN = ["stopped", "The server closed the connection.", "again"];

const WHY_WAITING = {
  node_draining: "the server is being restarted",
  node_lost: "the server was away",
  rate_limited: "too many connects in a short time",
  try_again: "the server is busy",
  reset: "support has reset your sessions",
  closed_by_staff: "support closed this session",
};

const QUIET = "secondary outline"; // the classes of a button that is not the main one
const LOST = "Connection lost";
const WORTH_A_CLICK = 3; // seconds of waiting from which on a button offers to connect now
const NEAR = 0.8; // of the limit: from this number on the server sends a notice

export class Status {
  // `actions`: {connect, dismissed, sessions}; `login` is the address of the log-in page.
  constructor(login, actions) {
    this.login = login;
    this.actions = actions;
    this.state = { name: "connecting" };
    this.notice = null;
    this.wrong = ""; // the sentence about a failed action
    this.said = "";
    byId("connect-now").addEventListener("click", actions.connect);
    setInterval(() => this.state.name === "waiting" && this.label(), 250);
  }

  show(state) {
    this.state = state;
    if (state.name !== "live") this.notice = null;
    this.label();
    this.banner();
  }

  // Show a notice {kind, live, soft_limit}: `kind` is near_limit or over_limit.
  limit(notice) {
    this.notice = notice;
    this.banner();
  }

  // Correct the notice by the number of sessions that are open now.
  open(live) {
    if (this.notice === null) return;
    const { soft_limit } = this.notice;
    const kind = live > soft_limit ? "over_limit" : "near_limit";
    this.limit(live < NEAR * soft_limit ? null : { kind, live, soft_limit });
  }

  trouble(sentence) {
    this.wrong = sentence;
    this.banner();
  }

  label() {
    const { name, until, reason } = this.state;
    const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
    const words = {
      connecting: "connecting",
      live: "live",
      waiting: `reconnecting in ${seconds} s`,
      ended: (ENDED[reason] ?? UNKNOWN)[0],
    }[name];
    const why = name === "waiting" && WHY_WAITING[reason];
    byId("connection").dataset.state = name;
    byId("connection").title = why ? `${why}; ${words}` : words;
    byId("connection-text").textContent = words;
    const now = byId("connect-now");
    hide(now, name !== "waiting" || (seconds < WORTH_A_CLICK && now.hidden));
    this.say(name, words, why);
  }

  // Announce changes to screen readers, but not every second and every attempt.
  say(name, words, why) {
    const lost = this.said.startsWith(LOST);
    if (name === "connecting" && lost) return;
    const said = name === "waiting" ? `${LOST}${why ? `: ${why}` : ""}. Reconnecting.` : `Connection: ${words}.`;
    if (said === this.said || (name === "waiting" && lost)) return;
    byId("connection-said").textContent = this.said = said;
  }

  banner() {
    const banner = byId("banner");
    const ended = this.state.name === "ended";
    const content = ended ? this.ended() : this.wrong ? this.troubled() : this.notice && this.near();
    banner.hidden = !content;
    banner.dataset.kind = ended || this.wrong ? "ended" : "notice";
    banner.replaceChildren(...(content || []));
  }

  ended() {
    const [, sentence, way] = ENDED[this.state.reason] ?? UNKNOWN;
    const back = {
      here: () => button("Use here", this.actions.connect),
      again: () => button("Connect again", this.actions.connect),
      login: () => el("a", { href: this.login + encodeURIComponent(location.hash), role: "button" }, "Log in"),
    }[way];
    return [el("p", {}, sentence), back ? back() : ""];
  }

  troubled() {
    return [el("p", {}, this.wrong), button("Dismiss", () => this.dismiss(), QUIET)];
  }

  near() {
    const { kind, live, soft_limit } = this.notice;
    const text =
      kind === "over_limit"
        ? `You have ${live} sessions open, above your limit of ${soft_limit}. Those that are no longer in use are being closed.`
        : `You have ${live} of ${soft_limit} sessions open.`;
    return [
      el("p", {}, text),
      button("See your sessions", this.actions.sessions, QUIET),
      button("Dismiss", () => this.dismiss(), QUIET),
    ];
  }

  dismiss() {
    if (this.wrong) this.wrong = "";
    else this.notice = null;
    this.banner();
    this.actions.dismissed();
  }
}

function button(words, onclick, kind) {
  return el("button", { type: "button", class: kind, onclick }, words);
}
