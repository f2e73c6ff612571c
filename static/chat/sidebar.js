// The list of conversations: first those without a stored message, then the others, the latest first. Its links are
// kept, so that a link can be clicked, or keep the focus, while an answer comes in.

import { byId, el } from "./dom.js";

export class Sidebar {
  // `older()` asks the server for conversations that are not listed yet.
  constructor(older) {
    this.list = byId("conversations");
    this.toggle = byId("side-toggle");
    this.links = new Map(); // by address
    this.narrow = matchMedia("(max-width: 760px)"); // as in chat.css; on such a screen the open list covers the page
    this.narrow.addEventListener("change", () => this.close());
    this.toggle.addEventListener("click", () => this.open());
    byId("side-close").addEventListener("click", () => this.close());
    byId("side").addEventListener("click", ({ target }) => target.closest("a") && this.close());
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.close());
    byId("older").addEventListener("click", () => {
      older();
      this.list.lastElementChild?.firstElementChild.focus(); // the button may be hidden; what is loaded follows here
    });
  }

  open() {
    this.cover(true);
    byId("new").focus();
  }

  close() {
    if (!byId("chat").classList.contains("side-open")) return;
    this.cover(false);
    this.toggle.focus();
  }

  cover(covers) {
    this.toggle.setAttribute("aria-expanded", String(covers));
    byId("chat").classList.toggle("side-open", covers);
    byId("chat-main").inert = covers;
  }

  // Each of `rows`: {address, title, unread, current}.
  show(rows, more) {
    const addresses = new Set(rows.map((row) => row.address));
    for (const [address, item] of this.links) {
      if (addresses.has(address)) continue;
      item.remove();
      this.links.delete(address);
    }
    const focused = this.list.contains(document.activeElement) && document.activeElement;
    rows.forEach((row, place) => {
      const item = this.links.get(row.address) ?? el("li", {}, el("a", { href: row.address }));
      this.links.set(row.address, item);
      this.dress(item.firstElementChild, row);
      if (this.list.children[place] !== item) this.list.insertBefore(item, this.list.children[place] ?? null);
    });
    if (focused) focused.focus({ preventScroll: true }); // a moved element loses the focus
    byId("older").hidden = !more;
  }

  dress(link, { title, unread, current }) {
    const version = JSON.stringify([title, unread, current]);
    if (link.version === version) return;
    link.version = version;
    link.title = title;
    link.classList.toggle("unread", unread);
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    link.replaceChildren(title || "…", ...(unread ? [el("span", { class: "unseen" }, " (new message)")] : []));
  }
}
