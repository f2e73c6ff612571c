// Messages that the server has not acknowledged. Each has its own key in localStorage, so that tabs don't overwrite
// each other's messages. Two tabs may send the same message: the server stores it once, by its client_id.
//
// Entry: {client_id, place, began, text, at, tab, failed?}. If `began` is true, `place` is a conversation's id.
// Otherwise it is the page's name for a conversation that the first of its messages will begin. A second kind of key
// maps this name to the conversation's id, for later messages and for other tabs.
//
// Emits "change", and "began" {place, conversation, elsewhere}.

import { uuid } from "./device.js";
import { ofBrowser } from "./storage.js";

const AGAIN_MS = 10_000; // without an answer on a live socket, until the message is sent again
const LATER_MS = 2000; // after a `try_again` of the server, until the message is sent again
const TAKE_OVER_MS = 10_000; // another tab's message that is this old is sent by this tab
const FORGET_MS = 86_400_000; // a day: no tab needs the id behind a name for longer

export class Outbox extends EventTarget {
  // `send(message)` returns whether it could send; `tab` is this tab's device id.
  constructor(user, tab, send) {
    super();
    this.prefix = `chat.outbox.${user}.`;
    this.beganPrefix = `chat.began.${user}.`;
    this.tab = tab;
    this.send = send;
    this.entries = new Map();
    this.inFlight = null;
    this.timer = null; // fires when an answer is overdue
    this.alarm = null; // fires when another tab's message is overdue
    this.last = 0;
    for (const key of ofBrowser.keys(this.prefix)) this.read(key);
    this.forgetOld();
    addEventListener("storage", ({ key }) => key !== null && this.heard(key));
  }

  // Another tab wrote a message, got an acknowledgement, or has begun a conversation.
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
      ofBrowser.remove(key); // not written by this page
    }
  }

  // The entries, in the order in which they were written.
  list() {
    return [...this.entries.values()].sort((a, b) => a.at - b.at);
  }

  // The entries of a conversation, by its id or by its name.
  at(place) {
    return this.list().filter((entry) => this.conversationOf(entry) === place || entry.place === place);
  }

  // The id of the conversation that began under this name; null if it has not begun.
  began(place) {
    return ofBrowser.get(this.beganPrefix + place)?.split(" ")[0] ?? null;
  }

  conversationOf(entry) {
    return entry.began ? entry.place : this.began(entry.place);
  }

  // The first entry of each conversation that has not begun.
  beginning() {
    const firsts = new Map();
    for (const entry of this.list()) {
      if (this.conversationOf(entry) === null && !firsts.has(entry.place)) firsts.set(entry.place, entry);
    }
    return [...firsts.values()];
  }

  // Whether an earlier entry must begin the conversation before this one is sent.
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

  // The server has no such conversation: let its entries begin a new one, under the name `place`.
  move(conversation, place) {
    for (const entry of this.at(conversation)) this.keep({ ...entry, place, began: false });
    this.pump();
  }

  discard(clientId) {
    this.drop(clientId);
    this.pump(); // the next entry may begin the conversation now
  }

  drop(clientId) {
    this.entries.delete(clientId);
    ofBrowser.remove(this.prefix + clientId);
    this.emit("change");
  }

  // Send one message at a time, so that no message overtakes the one before it.
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

  // Returns the entry, or undefined if it was acknowledged before.
  acknowledged(clientId, conversation) {
    const entry = this.entries.get(clientId);
    if (entry === undefined) return undefined;
    if (this.conversationOf(entry) === null) {
      // Write the id before the entry is removed: a tab that no longer finds the entry then finds the id.
      ofBrowser.set(this.beganPrefix + entry.place, `${conversation} ${Date.now()}`);
      this.emit("began", { place: entry.place, conversation, elsewhere: false });
    }
    this.drop(clientId);
    if (this.inFlight === clientId) this.again();
    return entry;
  }

  // `later`: the server asks for another attempt. Otherwise it will never accept this message.
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
