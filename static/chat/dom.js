// Build elements. Strings from the server or the user are inserted as text, never as markup.

export const byId = (id) => document.getElementById(id);

// Show or hide a button. If it has the focus when it is hidden, the focus moves to the text field.
export function hide(button, hidden) {
  if (hidden && button === document.activeElement) byId("text").focus();
  button.hidden = hidden;
}

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === undefined || value === null) continue;
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const SECOND = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

const shown = (iso, ofToday) => {
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  return el("time", { datetime: iso, title: at.toLocaleString() }, (today ? ofToday : DAY).format(at));
};

export const time = (iso) => shown(iso, TIME);

// With seconds, so that similar sessions can be distinguished.
export const moment = (iso) => shown(iso, SECOND);

// "3 min ago", in the same words as the assistant.
export function age(iso) {
  const seconds = Math.floor((Date.now() - new Date(iso)) / 1000);
  for (const [size, unit] of [[86_400, "d"], [3_600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return seconds < 10 ? "just now" : `${seconds} s ago`;
}
