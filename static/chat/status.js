// The connection indicator and the banner under the bar: the truth, and what can be done about it.

import { byId, el } from "./dom.js";

// Why a connection stays closed: the short word, the sentence, and the way back.
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
  node_full: "the server is full",
  rate_limited: "too many connects in a short time",
  try_again: "the server is busy",
  reset: "support has reset your sessions",
  closed_by_staff: "support closed this session",
};

export class Status {
  // `actions`: {connect, sessions}; `login` is the address of the log-in page.
  constructor(login, actions) {
    this.login = login;
    this.actions = actions;
    this.state = { name: "connecting" };
    this.notice = null;
    this.said = "";
    setInterval(() => this.state.name === "waiting" && this.label(), 250);
  }

  show(state) {
    this.state = state;
    if (state.name !== "live") this.notice = null;
    this.label();
    this.banner();
  }

  // {kind, live, soft_limit}: near the limit, or over it.
  limit(notice) {
    this.notice = notice;
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
    // A screen reader is told of changes, and not of every second.
    const said = name === "waiting" ? `Connection lost${why ? `: ${why}` : ""}. Reconnecting.` : `Connection: ${words}.`;
    if (said !== this.said) byId("connection-said").textContent = this.said = said;
  }

  banner() {
    const banner = byId("banner");
    const content = this.state.name === "ended" ? this.ended() : this.notice && this.near();
    banner.hidden = !content;
    banner.dataset.kind = this.state.name === "ended" ? "ended" : "notice";
    banner.replaceChildren(...(content || []));
  }

  ended() {
    const [, sentence, way] = ENDED[this.state.reason] ?? UNKNOWN;
    const button = (words) => el("button", { type: "button", onclick: this.actions.connect }, words);
    const back = {
      here: () => button("Use here"),
      again: () => button("Connect again"),
      login: () => el("a", { href: this.login, role: "button" }, "Log in"),
    }[way];
    return [el("p", {}, sentence), back ? back() : ""];
  }

  near() {
    const { kind, live, soft_limit } = this.notice;
    const text =
      kind === "over_limit"
        ? `You have ${live} sessions open, above your limit of ${soft_limit}. Those that are no longer in use are being closed.`
        : `You have ${live} of ${soft_limit} sessions open.`;
    const dismiss = () => this.limit(null);
    return [
      el("p", {}, text),
      el("button", { type: "button", class: "secondary outline", onclick: this.actions.sessions }, "See your sessions"),
      el("button", { type: "button", class: "secondary outline", onclick: dismiss }, "Dismiss"),
    ];
  }
}
