// The page: puts connection, outbox and conversations together, and shows what they say.

import { Connection } from "./connection.js";
import { Conversations } from "./conversations.js";
import { deviceId } from "./device.js";
import { byId, el } from "./dom.js";
import { liveTurn, message, pending } from "./messages.js";
import { Outbox } from "./outbox.js";
import { Sessions } from "./sessions.js";
import { Status } from "./status.js";

const data = JSON.parse(byId("chat-data").textContent);
const connection = new Connection("/ws/chat/", await deviceId());
const live = () => connection.state.name === "live";
const send = (type, fields) => live() && connection.send(type, fields);

const conversations = new Conversations(data.conversations, (conversation, after_seq) =>
  send("resume", { conversation, after_seq }),
);
const outbox = new Outbox(data.user, ({ client_id, conversation, text }) =>
  send("user_message", { client_id, conversation, text }),
);
const sessions = new Sessions(send);
const status = new Status(data.login, {
  connect() {
    connection.open();
    text.focus(); // the button that had it goes away
  },
  sessions: () => sessions.open(),
});

// What is shown: a conversation's id, or a new one that `draft`, its first message's client_id, will begin.
let selected = null;
let draft = null;

// Showing

const scroll = byId("scroll");
const nearEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;

function select(id) {
  selected = id;
  draft = null;
  const address = id === null ? location.pathname : `#${id}`;
  if (location.hash.slice(1) !== (id ?? "")) history.pushState(null, "", address);
  byId("log").replaceChildren();
  sideOpen(false);
  if (id !== null) conversations.load(id);
  show();
  scroll.scrollTop = scroll.scrollHeight;
}

function show() {
  const stick = nearEnd();
  showSide();
  const conversation = conversations.get(selected);
  if (conversation !== undefined) conversation.unread = false;
  byId("title").textContent = conversation?.title || "New conversation";
  showLog(conversation);
  byId("turn").replaceChildren(...(conversation?.turn ? [liveTurn(conversation.turn)] : []));
  byId("stop").hidden = !conversation?.turn || !live();
  const actions = { retry: (id) => outbox.retry(id), discard: (id) => outbox.discard(id) };
  const mine = outbox.list().filter(belongsHere);
  byId("pending").replaceChildren(
    ...mine.map((entry) => pending(entry, live(), actions)),
  );
  byId("empty").hidden = selected !== null || mine.length > 0;
  byId("earlier").hidden = !conversation?.from;
  if (stick) scroll.scrollTop = scroll.scrollHeight;
}

function belongsHere(entry) {
  if (entry.conversation !== null) return entry.conversation === selected;
  if (selected !== null) return false;
  return draft === null || entry.client_id === draft || entry.after === draft;
}

// Only what is new or changed is touched: the log is read out as it grows.
function showLog(conversation) {
  const log = byId("log");
  const shown = new Map([...log.children].map((item) => [Number(item.dataset.seq), item]));
  const known = [...(conversation?.messages.values() ?? [])].sort((a, b) => a.seq - b.seq);
  let previous = null;
  for (const item of known) {
    let element = shown.get(item.seq);
    const version = `${item.steps?.length}`;
    if (element === undefined || element.dataset.version !== version) {
      const made = message(item);
      made.dataset.version = version;
      if (element) element.replaceWith(made);
      else if (previous) previous.after(made);
      else log.prepend(made);
      element = made;
    }
    previous = element;
  }
}

function showSide() {
  byId("conversations").replaceChildren(
    ...conversations.list().map(({ id, title, unread }) =>
      el(
        "li",
        {},
        el(
          "a",
          { href: `#${id}`, "aria-current": id === selected ? "true" : undefined, class: unread && id !== selected ? "unread" : undefined },
          title || "…",
          unread && id !== selected ? el("span", { class: "unseen" }, " (new message)") : null,
        ),
      ),
    ),
  );
}

function sideOpen(open) {
  byId("side-toggle").setAttribute("aria-expanded", String(open));
  byId("chat").classList.toggle("side-open", open);
}

// From the server

const FRAMES = {
  ready() {
    send("list_conversations");
    outbox.load();
    outbox.again();
    if (selected !== null) conversations.load(selected);
    sessions.ask();
  },
  conversations: (frame) => conversations.merge(frame.conversations),
  message(frame) {
    if (conversations.message(frame)) return;
    if (!conversations.get(frame.conversation).title) send("list_conversations");
    if (frame.conversation === selected) conversations.load(selected);
  },
  resumed: (frame) => conversations.resumed(frame),
  ack(frame) {
    const ours = selected === null && (draft === frame.client_id || draft === null);
    const entry = outbox.acknowledged(frame.client_id, frame.conversation);
    if (entry === undefined) return;
    const { conversation, seq, client_id } = frame;
    const created_at = new Date(entry.at).toISOString();
    FRAMES.message({ conversation, seq, client_id, role: "user", text: entry.text, created_at });
    if (ours && entry.conversation === null) select(conversation);
  },
  notice: (frame) => status.limit(frame),
  sessions: (frame) => sessions.show(frame),
  error(frame) {
    if (frame.client_id) outbox.refused(frame.client_id, frame.message, frame.code === "try_again");
    else conversations.disconnected(); // a resume may have failed: the next look asks again
  },
};
for (const type of ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_delta", "agent_completed"]) {
  FRAMES[type] = (frame) => conversations.event(frame);
}

connection.addEventListener("frame", ({ detail }) => FRAMES[detail.type]?.(detail));
connection.addEventListener("state", ({ detail }) => {
  if (detail.name !== "live") conversations.disconnected();
  status.show(detail);
  redraw();
});

// One redraw for however many frames came at once.
let due = false;
function redraw() {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    show();
  });
}
conversations.addEventListener("change", redraw);
outbox.addEventListener("change", redraw);

// From the user

const composer = byId("composer");
const text = byId("text");

function submit(words) {
  const first = selected === null ? draft : null;
  const entry = outbox.add(selected, first, words);
  if (selected === null && draft === null) draft = entry.client_id;
  show();
  scroll.scrollTop = scroll.scrollHeight;
}

function grow() {
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight + 2, 200)}px`;
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (text.value.trim() !== "") submit(text.value);
  text.value = "";
  grow();
  text.focus();
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});
text.addEventListener("input", grow);
byId("suggestions").addEventListener("click", ({ target }) => target.closest("button") && submit(target.textContent));
byId("stop").addEventListener("click", () => {
  const turn = conversations.get(selected)?.turn;
  if (turn) send("cancel_turn", { run: turn.run });
  text.focus(); // the button goes away
});
byId("new").addEventListener("click", () => {
  select(null);
  text.focus();
});
byId("earlier").addEventListener("click", () => conversations.loadEarlier(selected));
byId("side-toggle").addEventListener("click", () => sideOpen(!byId("chat").classList.contains("side-open")));

const fromAddress = () => (conversations.get(location.hash.slice(1)) ? location.hash.slice(1) : null);
addEventListener("hashchange", () => fromAddress() !== selected && select(fromAddress()));
addEventListener("popstate", () => fromAddress() !== selected && select(fromAddress()));

byId("chat").hidden = false;
select(fromAddress());
status.show(connection.state);
connection.open();
