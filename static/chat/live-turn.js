// The turn under way. Events come many times a second, so the text is drawn only a few times a second. Only changed
// elements are replaced, so that what the user has unfolded or selected in the steps stays.

import { el } from "./dom.js";
import { markdown } from "./markdown.js";
import { stepsOf } from "./messages.js";

const DRAW_MS = 100; // between two drawings of the text
const SHARE = 4; // times the last drawing's duration, if that is longer: a long answer must not use all the CPU

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
    this.next = 0; // the earliest time of the next drawing
  }

  // Whether the user has unfolded the steps.
  get unfolded() {
    return this.turn !== null && (this.steps.firstElementChild?.open ?? false);
  }

  // `drawn` is called after each drawing of the text.
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
    const shown = this.steps.firstElementChild; // kept, because it may have the focus
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
