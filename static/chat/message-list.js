// The messages of the selected conversation: stored messages, the turn under way, and messages not acknowledged yet.

import { byId } from "./dom.js";
import { message, pending } from "./messages.js";
import { LiveTurn } from "./live-turn.js";

const NEAR_END = 80; // pixels from the end that count as the end
const QUIET_MS = 500; // after a load, until screen readers announce new messages again

export class MessageList {
  // `actions`: {retry, discard, earlier, isLoading, shown, stateOf}.
  constructor(actions) {
    this.actions = actions;
    this.scroll = byId("scroll");
    this.log = byId("log");
    this.spoken = byId("spoken");
    this.turn = new LiveTurn(byId("turn"));
    this.place = undefined;
    this.atEnd = true; // if so, new content scrolls the list to its end
    this.quiet = null;
    this.scroll.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.scroll;
      this.atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
    });
    new ResizeObserver(() => this.stay()).observe(this.scroll);
    byId("earlier").addEventListener("click", () => {
      this.actions.earlier();
      this.scroll.focus(); // the button is hidden
    });
  }

  toEnd() {
    this.atEnd = true;
    this.stay();
  }

  stay() {
    if (this.atEnd) this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  // Follow the conversation to its new name.
  renamed(place) {
    this.place = place;
  }

  // `conversation` is undefined if it has not begun; `mine` are its entries in the outbox.
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
    const unfolded = !selected && this.turn.unfolded; // then the steps are unfolded in its message too
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
      this.scroll.scrollTop = this.scroll.scrollHeight - fromEnd; // keep what the user reads in place
    }
  }

  // Screen readers announce new messages, but not loaded ones.
  hush() {
    this.spoken.setAttribute("aria-live", "off");
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.spoken.setAttribute("aria-live", "polite"), QUIET_MS);
  }

  // Add only new messages: a message never changes.
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
