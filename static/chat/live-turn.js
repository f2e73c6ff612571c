// The turn under way. Pieces come many times a second, so it is drawn anew a few times a second, and then only what
// has changed: what a user has unfolded or selected in its steps stays.

import { el } from "./dom.js";
import { markdown } from "./markdown.js";
import { stepsOf } from "./messages.js";

const DRAW_MS = 100; // between two drawings of the text
const SHARE = 4; // and this many times as long as one took: a long answer must not take all there is

export class LiveTurn {
  constructor(holder) {
    this.holder = holder;
    this.state = el("span", {});
    this.steps = el("div", {});
    this.text = el("div", { class: "text markdown" });
    this.box = el(
      "div",
      { class: "message assistant live" },
      el("p", { class: "who" }, el("span", { class: "name" }, "Assistant"), " ", this.state),
      this.steps,
      this.text,
    );
    this.turn = null;
    this.timer = null;
    this.next = 0; // when the text may be drawn again
  }

  // Whether the user looks at its steps.
  get unfolded() {
    return this.turn !== null && (this.steps.firstElementChild?.open ?? false);
  }

  // `drawn` is called when the text has grown after this call.
  show(turn, live, drawn) {
    const another = turn?.run !== this.turn?.run;
    this.turn = turn;
    if (another) {
      clearTimeout(this.timer);
      this.timer = null;
      this.next = 0;
    }
    if (turn === null) {
      this.holder.replaceChildren();
      return;
    }
    if (another) {
      this.stepped = this.written = "";
      this.text.replaceChildren();
      this.steps.replaceChildren();
      this.holder.replaceChildren(this.box);
    }
    const doing = turn.stopping ? "is stopping" : "is working";
    this.state.textContent = live ? doing : "waiting for the connection";
    this.box.classList.toggle("working", live);
    this.showSteps(turn.steps);
    this.showText(drawn);
  }

  showSteps(steps) {
    const version = JSON.stringify(steps);
    if (version === this.stepped) return;
    this.stepped = version;
    if (steps.length === 0) return this.steps.replaceChildren();
    const made = stepsOf(steps);
    if (this.steps.firstElementChild === null) return this.steps.replaceChildren(made);
    const shown = this.steps.firstElementChild; // kept, for it may have the focus
    shown.querySelector("summary").textContent = made.querySelector("summary").textContent;
    shown.querySelector("ol").replaceWith(made.querySelector("ol"));
  }

  showText(drawn) {
    if (this.turn.text === this.written || this.timer !== null) return;
    const draw = () => {
      this.timer = null;
      const began = performance.now();
      this.written = this.turn.text;
      this.text.replaceChildren(markdown(this.written));
      this.next = performance.now() + Math.max(DRAW_MS, SHARE * (performance.now() - began));
      drawn();
    };
    const wait = this.next - performance.now();
    if (wait <= 0) draw();
    else this.timer = setTimeout(draw, wait);
  }
}
