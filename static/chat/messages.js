// Messages, the agent's steps and unacknowledged messages, as elements.

import { el, time } from "./dom.js";
import { markdown } from "./markdown.js";

const TOOLS = {
  my_sessions: ["Looking at your sessions", "Looked at your sessions"],
  my_recent_endings: ["Looking at how your sessions ended", "Looked at how your sessions ended"],
  sign_out_others: ["Signing out the others", "Signed out the others"],
  search_my_conversations: ["Searching your conversations", "Searched your conversations"],
  summary_of_conversation: ["Reading the conversation", "Read the conversation"],
};

export function message({ seq, role, text, created_at, steps }, unfolded) {
  const who = role === "user" ? "You" : "Assistant";
  return el(
    "li",
    { class: `message ${role}`, "data-seq": seq },
    el("p", { class: "who" }, el("span", {}, who), " ", time(created_at)),
    steps?.length ? stepsOf(steps, unfolded) : null,
    role === "user" ? el("p", { class: "text" }, text) : el("div", { class: "text markdown" }, markdown(text)),
  );
}

export function stepsOf(steps, unfolded) {
  const tools = steps.filter((step) => step.tool !== undefined);
  const heading = tools.length ? tools.map(label).join(", ") : "Thought about it";
  return el("details", { class: "steps", open: unfolded }, el("summary", {}, heading), el("ol", {}, ...steps.map(step)));
}

function label({ tool, success }) {
  const [doing, done] = TOOLS[tool] ?? [tool, tool];
  if (success === undefined) return `${doing} …`;
  return success ? done : `${doing}: did not work`;
}

function step({ thought, tool, parameters, result, success, duration_ms }) {
  if (thought !== undefined) return el("li", {}, thought);
  const given = Object.entries(parameters ?? {}).map(([name, value]) => `${name}: ${value}`);
  return el(
    "li",
    {},
    el("code", {}, tool),
    given.length ? ` (${given.join(", ")})` : "",
    success === undefined ? " …" : `, ${duration_ms} ms`,
    result === undefined ? null : el("pre", { tabindex: "0" }, JSON.stringify(result, null, 1)),
  );
}

// `state` is the text shown for a message that waits. `actions`: {retry, discard}, called with the entry's client_id.
export function pending({ client_id: id, text, failed }, state, actions) {
  return el(
    "li",
    { class: `message user ${failed ? "failed" : "waiting"}` },
    el("p", { class: "who" }, el("span", {}, "You"), " ", failed ? `not sent: ${failed}` : state),
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
