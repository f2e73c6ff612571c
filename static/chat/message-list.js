// The messages of what is selected: those that are stored, the turn under way, and those on their way.

import { byId } from "./dom.js";
import { message, pending } from "./messages.js";
import { LiveTurn } from "./live-turn.js";

const NEAR_END = 80; // pixels from the end that count as there
const QUIET_MS = 500; // after a load: until a screen reader hears of what comes

export class MessageList {
  // `actions`: {retry, discard, earlier, isLoading, shown, stateOf}.
  constructor(actions) {
    this.actions = actions;
    this.scroll = byId("scroll");
    this.log = byId("log");
    this.spoken = byId("spoken");
    this.turn = new LiveTurn(byId("turn"));
    this.place = undefined;
    this.atEnd = true; // then it stays there, whatever grows
    this.quiet = null;
    this.scroll.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.scroll;
      this.atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
    });
    new ResizeObserver(() => this.stay()).observe(this.scroll);
    byId("earlier").addEventListener("click", () => {
      this.actions.earlier();
      this.scroll.focus(); // the button goes away
    });
  }

  toEnd() {
    this.atEnd = true;
    this.stay();
  }

  stay() {
    if (this.atEnd) this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  // What is shown has another name now.
  renamed(place) {
    this.place = place;
  }

  // `conversation` is undefined for one that has not begun; `mine` are the entries of the outbox that belong here.
  show(place, conversation, mine, live) {
    const selected = place !== this.place;
    const loading = conversation !== undefined && this.actions.isLoading(conversation.id);
    this.place = place;
    if (selected) {
      this.atEnd = true;
      this.log.replaceChildren();
    }
    if (selected || loading) this.hush();
    const fromEnd = this.scroll.scrollHeight - this.scroll.scrollTop;
    const first = this.log.firstElementChild;
    const unfolded = !selected && this.turn.unfolded; // then they are so in its message too
    this.showMessages(conversation === undefined ? [] : this.actions.shown(conversation), unfolded);
    this.turn.show(conversation?.turn ?? null, live, () => this.stay());
    this.showPending(mine, live);
    const nothing = conversation !== undefined && conversation.messages.size === 0 && mine.length === 0;
    byId("loading").hidden = !nothing;
    byId("loading").textContent = live ? "Loading …" : "This conversation is shown once the connection is back.";
    byId("empty").hidden = conversation !== undefined || mine.length > 0;
    byId("earlier").hidden = !conversation?.from || nothing;
    byId("earlier").disabled = !live || loading;
    if (this.atEnd) this.stay();
    else if (first !== null && first !== this.log.firstElementChild) {
      this.scroll.scrollTop = this.scroll.scrollHeight - fromEnd; // what was read stays where it is
    }
  }

  // The log is read out as it grows, but not what is loaded into it.
  hush() {
    this.spoken.setAttribute("aria-live", "off");
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.spoken.setAttribute("aria-live", "polite"), QUIET_MS);
  }

  // Only what is new is touched: a message never changes.
  showMessages(messages, unfolded) {
    const shown = new Map([...this.log.children].map((item) => [Number(item.dataset.seq), item]));
    let previous = null;
    for (const known of messages) {
      let element = shown.get(known.seq);
      if (element === undefined) {
        element = message(known, unfolded && previous === this.log.lastElementChild);
        if (previous !== null) previous.after(element);
        else this.log.prepend(element);
      }
      previous = element;
    }
  }

  showPending(mine, live) {
    const version = JSON.stringify([mine, live]);
    if (version === this.pendingVersion) return;
    this.pendingVersion = version;
    byId("pending").replaceChildren(...mine.map((entry) => pending(entry, this.actions.stateOf(entry), this.actions)));
  }
}
