// The assistant's text, as elements. It may quote anybody, so it is not trusted: only Markdown is rendered, HTML is
// shown as text, and the result is sanitized as well.

import DOMPurify from "../vendor/dompurify/purify.es.mjs";
import { Marked } from "../vendor/marked/marked.esm.js";

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "href", "start"],
  ADD_URI_SAFE_ATTR: ["align", "start"], // not URLs; DOMPurify would check them as URLs
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escaped(text),
    image: ({ text, href }) => escaped(text || href),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
  // The page's own headings use the first two levels.
  walkTokens(token) {
    if (token.type === "heading") token.depth = Math.min(6, token.depth + 2);
  },
});

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

export function markdown(text) {
  try {
    return purify.sanitize(marked.parse(text), ALLOWED);
  } catch (error) {
    console.warn("shown as plain text, since its Markdown can't be parsed:", error); // nested thousands of levels deep
    return document.createTextNode(text);
  }
}

function escaped(text) {
  const holder = document.createElement("p");
  holder.textContent = text;
  return holder.innerHTML;
}
