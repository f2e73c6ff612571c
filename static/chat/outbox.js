// Messages that the server has not acknowledged. Each is a key of its own in localStorage, so that tabs don't
// overwrite each other's; two tabs that send the same one do no harm, since its client_id names it.
//
// Entry: {client_id, place, began, text, at, tab, failed?}. `place` is a conversation's id, or, where `began` is false,
// a name of ours for one that the first of its messages will begin. Which conversation that became is kept beside the
// entries, for the later ones and for other tabs.
//
// Emits "change", and "began" {place, conversation, elsewhere}.

import { uuid } from "./device.js";
import { ofBrowser } from "./storage.js";

const AGAIN_MS = 10_000; // without an answer while the socket is live: sent again
const LATER_MS = 2000; // where the server asks for it
const TAKE_OVER_MS = 10_000; // what another tab has not brought out for so long is sent by this one
const FORGET_MS = 86_400_000; // what a place became is needed by nobody a day later

export class Outbox extends EventTarget {
  // `send(entry)` says whether it went out; `tab` is this tab's device id.
  constructor(user, tab, send) {
    super();
    this.prefix = `chat.outbox.${user}.`;
    this.beganPrefix = `chat.began.${user}.`;
    this.tab = tab;
    this.send = send;
    this.entries = new Map();
    this.inFlight = null;
    this.timer = null; // until an answer is overdue
    this.alarm = null; // until another tab's message is
    this.last = 0;
    for (const key of ofBrowser.keys(this.prefix)) this.read(key);
    this.forgetOld();
    addEventListener("storage", ({ key }) => key !== null && this.heard(key));
  }

  // From another tab: it wrote a message, was told that one is stored, or has begun a conversation.
  heard(key) {
    if (key.startsWith(this.beganPrefix)) {
      const place = key.slice(this.beganPrefix.length);
      const conversation = this.began(place);
      if (conversation !== null) this.emit("began", { place, conversation, elsewhere: true });
    } else if (key.startsWith(this.prefix)) {
      this.read(key);
      const gone = !this.entries.has(this.inFlight);
      if (gone) this.again();
      else this.pump();
    } else {
      return;
    }
    this.emit("change");
  }

  read(key) {
    const id = key.slice(this.prefix.length);
    const stored = ofBrowser.get(key);
    this.entries.delete(id);
    if (stored === null) return;
    try {
      this.entries.set(id, JSON.parse(stored));
    } catch {
      ofBrowser.remove(key); // not ours
    }
  }

  // In the order in which they were written.
  list() {
    return [...this.entries.values()].sort((a, b) => a.at - b.at);
  }

  // Those that belong to a conversation, or to one that is to begin.
  at(place) {
    return this.list().filter((entry) => this.conversationOf(entry) === place || entry.place === place);
  }

  // What conversation a place became; null if it has not yet.
  began(place) {
    return ofBrowser.get(this.beganPrefix + place)?.split(" ")[0] ?? null;
  }

  conversationOf(entry) {
    return entry.began ? entry.place : this.began(entry.place);
  }

  // Conversations that are to begin: the first message of each.
  beginning() {
    const firsts = new Map();
    for (const entry of this.list()) {
      if (this.conversationOf(entry) === null && !firsts.has(entry.place)) firsts.set(entry.place, entry);
    }
    return [...firsts.values()];
  }

  // Whether it waits for one that comes before it to begin their conversation.
  waits(entry) {
    return this.conversationOf(entry) === null && this.beginning().find(({ place }) => place === entry.place) !== entry;
  }

  add(place, began, text) {
    this.last = Math.max(this.last + 1, Date.now());
    this.keep({ client_id: uuid(), place, began, text, at: this.last, tab: this.tab });
    this.pump();
  }

  keep(entry) {
    this.entries.set(entry.client_id, entry);
    ofBrowser.set(this.prefix + entry.client_id, JSON.stringify(entry));
    this.emit("change");
  }

  // There is no such conversation: what was written for it is for one that is to begin.
  move(conversation, place) {
    for (const entry of this.at(conversation)) this.keep({ ...entry, place, began: false });
    this.pump();
  }

  discard(clientId) {
    this.drop(clientId);
    this.pump(); // another may begin the conversation now
  }

  drop(clientId) {
    this.entries.delete(clientId);
    ofBrowser.remove(this.prefix + clientId);
    this.emit("change");
  }

  // One at a time: a message never overtakes the one before it, whatever happens to either.
  pump() {
    if (this.inFlight !== null) return;
    clearTimeout(this.alarm);
    const due = (entry) => (entry.tab === this.tab ? 0 : entry.at + TAKE_OVER_MS - Date.now());
    const ready = this.list().filter((entry) => !entry.failed && !this.waits(entry));
    const next = ready.find((entry) => due(entry) <= 0);
    if (next === undefined) {
      if (ready.length) this.alarm = setTimeout(() => this.pump(), Math.min(...ready.map(due)));
      return;
    }
    const { client_id, text } = next;
    if (!this.send({ client_id, text, conversation: this.conversationOf(next) })) return;
    this.inFlight = client_id;
    this.timer = setTimeout(() => this.again(), AGAIN_MS);
  }

  again() {
    clearTimeout(this.timer);
    this.inFlight = null;
    this.pump();
  }

  // Returns the entry, undefined if it is known already that it was stored.
  acknowledged(clientId, conversation) {
    const entry = this.entries.get(clientId);
    if (entry === undefined) return undefined;
    if (this.conversationOf(entry) === null) {
      // First this, then the entry: whoever misses the entry finds what it began.
      ofBrowser.set(this.beganPrefix + entry.place, `${conversation} ${Date.now()}`);
      this.emit("began", { place: entry.place, conversation, elsewhere: false });
    }
    this.drop(clientId);
    if (this.inFlight === clientId) this.again();
    return entry;
  }

  // `later`: the server asks us to try again; otherwise it never will take this one.
  refused(clientId, message, later) {
    const entry = this.entries.get(clientId);
    if (entry === undefined) return;
    if (later) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.again(), LATER_MS);
      return;
    }
    this.keep({ ...entry, failed: message });
    if (this.inFlight === clientId) this.again();
  }

  retry(clientId) {
    const { failed, ...entry } = this.entries.get(clientId);
    this.keep({ ...entry, tab: this.tab });
    this.pump();
  }

  forgetOld() {
    const needed = new Set(this.list().map((entry) => this.beganPrefix + entry.place));
    for (const key of ofBrowser.keys(this.beganPrefix)) {
      const at = Number(ofBrowser.get(key).split(" ")[1]);
      if (!needed.has(key) && at < Date.now() - FORGET_MS) ofBrowser.remove(key);
    }
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
