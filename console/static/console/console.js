// Additions to htmx on the console's pages. Every page works without them.

const trouble = document.getElementById("trouble");

let lasting = false; // the message is about an action, so a successful poll does not remove it

function say(text, ctx) {
  trouble.textContent = text;
  trouble.hidden = text === "";
  lasting = text !== "" && ctx?.request.method === "POST";
}

// The server's own sentence about a failure, from the page that it answered with.
function sentence(html) {
  return new DOMParser().parseFromString(html, "text/html").querySelector("[data-failed]")?.textContent;
}

const REFUSALS = {
  400: "The server could not read the request. Reload the page and try again.",
  403: "Your account may not do this, or this page is too old. Reload it and try again.",
  404: "This no longer exists. Reload the page.",
  405: "This page can't do that.",
};

document.addEventListener("htmx:response:error", (event) => {
  const { ctx } = event.detail;
  const { status } = ctx.response;
  if (status === 422) return; // the form is shown again, with its errors
  const acted = ctx.request.method === "POST";
  const failed = `The server failed. ${acted ? "Reload the page to see what was done." : "This page tries again by itself."}`;
  say(sentence(ctx.text) ?? REFUSALS[status] ?? failed, ctx);
});

document.addEventListener("htmx:error", (event) => {
  // Not an error: the browser cancels the requests of a page that the user leaves.
  if (event.detail.error?.name === "AbortError") return;
  const acted = event.detail.ctx?.request.method === "POST";
  const next = acted ? "The action may have been done: reload the page to see." : "This page tries again by itself.";
  say(`No answer from the server. ${next}`);
});

document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail;
  if (ctx.response.status < 400 && (!lasting || ctx.request.method === "POST")) say("");
});

// Focus the first wrong field, so that screen readers read it with its error.
document.addEventListener("htmx:after:swap", (event) => {
  const { ctx } = event.detail;
  if (ctx.response?.status !== 422) return;
  const sent = document.getElementById(ctx.sourceElement.closest("[id]")?.id) ?? document;
  sent.querySelector("[aria-invalid=true]")?.focus();
});

// The list of users: a checkbox that checks all, and a button that shows the number of chosen users.
function countChosen(form) {
  const boxes = [...form.querySelectorAll("input[name=user_ids]")];
  const chosen = boxes.filter((box) => box.checked).length;
  const all = form.querySelector("[data-choose-all]");
  if (all) {
    all.hidden = boxes.length === 0;
    all.checked = chosen > 0 && chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
  }
  const button = form.querySelector("button[data-count]");
  if (!button) return;
  const pattern = chosen === 1 ? button.dataset.count : button.dataset.countMany;
  button.textContent = chosen ? pattern.replace("#", chosen) : "Recover the chosen users";
  button.disabled = chosen === 0;
}

function watch() {
  const form = document.getElementById("bulk-form");
  if (form) countChosen(form);
}

document.addEventListener("change", (event) => {
  const form = event.target.closest?.("#bulk-form");
  if (!form) return;
  if (event.target.matches("[data-choose-all]")) {
    for (const box of form.querySelectorAll("input[name=user_ids]")) box.checked = event.target.checked;
  }
  countChosen(form);
});

document.addEventListener("htmx:after:swap", watch);
watch();
