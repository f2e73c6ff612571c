// "Your sessions": the open sessions, with browser, address and times, and buttons to sign out one or all others.

import { age, byId, el, moment } from "./dom.js";

const BROWSERS = [["Edg/", "Edge"], ["OPR/", "Opera"], ["Firefox/", "Firefox"], ["FxiOS/", "Firefox"], ["CriOS/", "Chrome"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]];
const SYSTEMS = [["Android", "Android"], ["iPhone", "an iPhone"], ["iPad", "an iPad"], ["Windows", "Windows"], ["Mac OS X", "a Mac"], ["Linux", "Linux"]];

// "Firefox on Windows": as exact as a user needs to recognise a session.
function plainName(userAgent) {
  const named = (table) => table.find(([mark]) => userAgent.includes(mark))?.[1];
  const browser = named(BROWSERS);
  const system = named(SYSTEMS);
  if (browser === undefined) return userAgent.trim().slice(0, 40) || "An unknown browser";
  return system === undefined ? browser : `${browser} on ${system}`;
}

export class Sessions {
  // `send(type, fields)` returns whether it could send; `counted(number)` is called with the number of open sessions.
  constructor(send, counted) {
    this.send = send;
    this.counted = counted;
    this.dialog = byId("sessions");
    this.others = byId("sessions-others");
    byId("sessions-open").addEventListener("click", () => this.open());
    byId("sessions-close").addEventListener("click", () => this.dialog.close());
    this.others.addEventListener("click", () => this.end("others"));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
  }

  open() {
    byId("sessions-list").replaceChildren();
    this.others.parentElement.hidden = true;
    if (!this.dialog.open) this.dialog.showModal();
    this.ask();
  }

  ask() {
    if (!this.dialog.open) return;
    const asked = this.send("list_sessions");
    byId("sessions-text").textContent = asked ? "Asking the server …" : "This tab is not connected, so it can't ask.";
  }

  end(managers) {
    if (this.send("close_sessions", { managers })) byId("sessions-text").textContent = "Signing out …";
    else byId("sessions-text").textContent = "This tab is not connected, so nothing was signed out.";
  }

  // Show an error of the server. Returns false if the dialog is closed, so that the error is about something else.
  failed(message) {
    if (!this.dialog.open) return false;
    byId("sessions-text").textContent = message;
    return true;
  }

  show({ managers }) {
    this.counted(managers.length);
    const others = managers.filter((manager) => !manager.current).length;
    byId("sessions-text").textContent = others
      ? `${managers.length} sessions are open.`
      : "This is your only open session.";
    this.others.parentElement.hidden = others === 0;
    this.others.textContent = others === 1 ? "Sign out the other one" : `Sign out all ${others} others`;
    const focused = this.dialog.contains(document.activeElement);
    byId("sessions-list").replaceChildren(...managers.map((manager) => this.row(manager)));
    if (focused && !this.dialog.contains(document.activeElement)) byId("sessions-close").focus();
  }

  row({ id, current, opened_at, last_active_at, ip, user_agent }) {
    const name = plainName(user_agent);
    return el(
      "li",
      { class: current ? "current" : undefined },
      el(
        "div",
        {},
        el("strong", {}, name),
        current ? el("mark", {}, "this one") : null,
        el("p", {}, ip ? `From ${ip}. ` : "", "Open since ", moment(opened_at), `, last active ${age(last_active_at).replaceAll(" ", "\u00a0")}.`),
      ),
      current
        ? null
        : el("button", { type: "button", class: "secondary outline", "aria-label": `Sign out ${name}, open since ${moment(opened_at).textContent}`, onclick: () => this.end([id]) }, "Sign out"),
    );
  }
}
