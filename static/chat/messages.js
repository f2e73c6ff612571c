// Messages, the agent's steps and what is on its way, as elements.

import { el, time } from "./dom.js";
import { markdown } from "./markdown.js";

const TOOLS = {
  my_sessions: ["Looking at your sessions", "Looked at your sessions"],
  my_recent_endings: ["Looking at how your sessions ended", "Looked at how your sessions ended"],
  sign_out_others: ["Signing out the others", "Signed out the others"],
  search_my_conversations: ["Searching your conversations", "Searched your conversations"],
  summary_of_conversation: ["Reading the conversation", "Read the conversation"],
};

export function message({ seq, role, text, created_at, steps }) {
  const who = role === "user" ? "You" : "Assistant";
  return el(
    "li",
    { class: `message ${role}`, "data-seq": seq },
    el("p", { class: "who" }, el("span", {}, who), " ", time(created_at)),
    steps?.length ? stepsOf(steps) : null,
    role === "user" ? el("p", { class: "text" }, text) : said(text),
  );
}

const said = (text) => el("div", { class: "text markdown" }, markdown(text));

// The turn under way. It is drawn anew for each piece of text, and stays unfolded if the user unfolded it.
export function liveTurn(turn) {
  return el(
    "div",
    { class: "message assistant live" },
    el("p", { class: "who" }, el("span", {}, "Assistant"), " is working"),
    turn.steps.length ? liveSteps(turn) : null,
    turn.text === "" ? null : said(turn.text),
  );
}

function liveSteps(turn) {
  const folded = stepsOf(turn.steps);
  folded.open = turn.open;
  folded.addEventListener("toggle", () => (turn.open = folded.open));
  return folded;
}

function stepsOf(steps) {
  const tools = steps.filter((step) => step.kind === "tool");
  const heading = tools.length ? tools.map(label).join(", ") : "Thought about it";
  return el("details", { class: "steps" }, el("summary", {}, heading), el("ol", {}, ...steps.map(step)));
}

function label({ tool, success }) {
  const [doing, done] = TOOLS[tool] ?? [tool, tool];
  if (success === undefined) return `${doing} …`;
  return success ? done : `${doing}: did not work`;
}

function step(known) {
  if (known.kind === "thought") return el("li", {}, known.text);
  const parameters = Object.entries(known.parameters ?? {}).map(([name, value]) => `${name}: ${value}`);
  return el(
    "li",
    {},
    el("code", {}, known.tool),
    parameters.length ? ` (${parameters.join(", ")})` : "",
    known.success === undefined ? " …" : `, ${known.duration} ms`,
    known.result === undefined ? null : el("pre", { tabindex: "0" }, JSON.stringify(known.result, null, 1)),
  );
}

// `actions`: {retry, discard}, called with the entry's client_id.
export function pending(entry, live, actions) {
  const { client_id: id, text, failed } = entry;
  const state = failed ? ` not sent: ${failed}` : live ? " sending …" : " waiting for the connection";
  return el(
    "li",
    { class: `message user ${failed ? "failed" : "waiting"}` },
    el("p", { class: "who" }, el("span", {}, "You"), state),
    el("p", { class: "text" }, text),
    failed &&
      el(
        "p",
        { class: "actions" },
        el("button", { type: "button", class: "secondary outline", onclick: () => actions.retry(id) }, "Try again"),
        " ",
        el("button", { type: "button", class: "secondary outline", onclick: () => actions.discard(id) }, "Discard"),
      ),
  );
}
