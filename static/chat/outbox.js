// Messages that the server has not acknowledged. Each is a key of its own in localStorage, so that tabs don't
// overwrite each other's; two tabs that send the same one do no harm, since its client_id names it.
//
// Entry: {client_id, conversation, after, text, at, failed?}. `conversation` is null for a new one; `after` is the
// client_id of the message that begins it, for those that were written before it was acknowledged.

import { uuid } from "./device.js";

const AGAIN_MS = 10_000; // without an answer while the socket is live: sent again

export class Outbox extends EventTarget {
  constructor(user, send) {
    super();
    this.prefix = `chat.outbox.${user}.`;
    this.send = send; // (entry) => whether it went out
    this.entries = new Map();
    this.inFlight = null;
    this.timer = null;
    this.last = 0;
    this.load();
    addEventListener("storage", (event) => {
      if (event.newValue !== null || !event.key?.startsWith(this.prefix)) return;
      this.entries.delete(event.key.slice(this.prefix.length)); // another tab was told that it is stored
      this.changed();
    });
  }

  // Also what other tabs left when they were closed.
  load() {
    for (const key of Object.keys(localStorage)) {
      if (!key.startsWith(this.prefix)) continue;
      try {
        const entry = JSON.parse(localStorage.getItem(key));
        this.entries.set(entry.client_id, entry);
      } catch {
        localStorage.removeItem(key);
      }
    }
  }

  // In the order in which they were written.
  list() {
    return [...this.entries.values()].sort((a, b) => a.at - b.at);
  }

  add(conversation, after, text) {
    this.last = Math.max(this.last + 1, Date.now());
    const entry = { client_id: uuid(), conversation, after, text, at: this.last };
    this.keep(entry);
    this.pump();
    return entry;
  }

  keep(entry) {
    this.entries.set(entry.client_id, entry);
    try {
      localStorage.setItem(this.prefix + entry.client_id, JSON.stringify(entry));
    } catch {
      // Storage is full or forbidden: it still goes out, it just does not survive a reload.
    }
    this.changed();
  }

  discard(clientId) {
    this.entries.delete(clientId);
    localStorage.removeItem(this.prefix + clientId);
    this.changed();
  }

  // One at a time: a message never overtakes the one before it, whatever happens to either.
  pump() {
    if (this.inFlight !== null) return;
    const next = this.list().find((entry) => !entry.failed && (entry.conversation !== null || !this.waits(entry)));
    if (next === undefined || !this.send(next)) return;
    this.inFlight = next.client_id;
    this.timer = setTimeout(() => this.again(), AGAIN_MS);
  }

  waits(entry) {
    return entry.after !== null && this.entries.has(entry.after);
  }

  again() {
    clearTimeout(this.timer);
    this.inFlight = null;
    this.pump();
  }

  acknowledged(clientId, conversation) {
    const entry = this.entries.get(clientId);
    this.discard(clientId);
    for (const later of this.list()) {
      if (later.after === clientId) this.keep({ ...later, conversation, after: null });
    }
    if (this.inFlight === clientId) this.again();
    return entry;
  }

  // `later`: the server asks us to try again; otherwise it never will take this one.
  refused(clientId, message, later) {
    const entry = this.entries.get(clientId);
    if (entry === undefined) return;
    if (later) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.again(), 2000);
      return;
    }
    this.keep({ ...entry, failed: message });
    if (this.inFlight === clientId) this.again();
  }

  retry(clientId) {
    const { failed, ...entry } = this.entries.get(clientId);
    this.keep(entry);
    this.pump();
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}
