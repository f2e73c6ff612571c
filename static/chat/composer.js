// The text field. Text that is typed and not sent is kept with its conversation, also over a reload.

import { byId } from "./dom.js";
import { ofTab } from "./storage.js";

const HIGHEST = 200; // pixels; a longer text scrolls
const SHOWN_FROM = 0.9; // of the longest message: from this length on, the length is shown

export class Composer {
  // `submit(words)` is called with the text of each message.
  constructor(user, longest, submit) {
    this.prefix = `chat.draft.${user}.`;
    this.longest = longest;
    this.submit = submit;
    this.form = byId("composer");
    this.text = byId("text");
    this.place = null;
    // Phone keyboards have no Shift+Enter for a new line. There Enter begins a new line, and only the button sends.
    this.enterSends = !matchMedia("(pointer: coarse)").matches;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.text.addEventListener("keydown", (event) => {
      // Safari ends a composition with an Enter of which only the keyCode shows that it belongs to the composition.
      const composing = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || composing || !this.enterSends) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
    this.text.addEventListener("input", () => this.changed());
  }

  // Count as the server does: code points, not UTF-16 code units.
  get length() {
    return [...this.text.value].length;
  }

  send() {
    const words = this.text.value;
    if (words.trim() !== "" && this.length <= this.longest) {
      this.text.value = "";
      this.changed();
      this.submit(words);
    }
    this.text.focus();
  }

  focus() {
    this.text.focus();
  }

  show(place) {
    if (place === this.place) return;
    this.place = place;
    this.text.value = ofTab.get(this.prefix + place) ?? "";
    this.changed();
  }

  // Follow the conversation to its new name.
  renamed(place) {
    ofTab.remove(this.prefix + this.place);
    this.place = place;
    this.changed();
  }

  changed() {
    if (this.text.value === "") ofTab.remove(this.prefix + this.place);
    else ofTab.set(this.prefix + this.place, this.text.value);
    const over = this.length > this.longest;
    byId("send").disabled = over;
    byId("length").hidden = this.length < SHOWN_FROM * this.longest;
    byId("length").textContent = over
      ? `${this.length} characters; a message has ${this.longest} at most.`
      : `${this.length} of ${this.longest} characters`;
    if (over) this.text.setAttribute("aria-invalid", "true");
    else this.text.removeAttribute("aria-invalid"); // Pico styles aria-invalid="false" as a success
    this.text.style.height = "auto";
    this.text.style.height = `${Math.min(this.text.scrollHeight + 2, HIGHEST)}px`;
  }
}
