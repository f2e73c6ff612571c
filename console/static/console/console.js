// What the console's pages do beyond htmx. Every page works without it.

const trouble = document.getElementById("trouble");

let lasting = false; // what is said is about an action, so a poll that works does not wipe it away

function say(text, ctx) {
  trouble.textContent = text;
  trouble.hidden = text === "";
  lasting = text !== "" && ctx?.request.method === "POST";
}

// The sentence that the server gave with a failure.
function sentence(html) {
  return new DOMParser().parseFromString(html, "text/html").querySelector("[data-failed]")?.textContent;
}

const REFUSALS = {
  400: "The server did not understand that. Reload the page and try again.",
  403: "You may not do that, or this page is too old. Reload it and try again.",
  404: "That is not there any more. Reload the page.",
  405: "That can't be done here.",
};

document.addEventListener("htmx:response:error", (event) => {
  const { ctx } = event.detail;
  const { status } = ctx.response;
  if (status === 422) return; // the form is shown again, with what is wrong
  const acted = ctx.request.method === "POST";
  const failed = `The server failed. ${acted ? "Reload the page to see what was done." : "It is tried again."}`;
  say(sentence(ctx.text) ?? REFUSALS[status] ?? failed, ctx);
});

document.addEventListener("htmx:error", (event) => {
  // A page that is left cancels its requests; that is no trouble.
  if (event.detail.error?.name !== "AbortError") say("No answer from the server. It is tried again.");
});

document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail;
  if (ctx.response.status < 400 && (!lasting || ctx.request.method === "POST")) say("");
});

// After an error the first wrong field has the focus, so that it is read out with what is wrong.
document.addEventListener("htmx:after:swap", (event) => {
  const { ctx } = event.detail;
  if (ctx.response?.status !== 422) return;
  const sent = document.getElementById(ctx.sourceElement.closest("[id]")?.id) ?? document;
  sent.querySelector("[aria-invalid=true]")?.focus();
});

// The list of users: choose all, and a button that says how many.
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
