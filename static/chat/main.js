// The page: connect connection, outbox and conversations, and show their state.

import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { Conversations, titleOf } from "./conversations.js";
import { deviceId, uuid } from "./device.js";
import { byId, hide } from "./dom.js";
import { MessageList } from "./message-list.js";
import { Outbox } from "./outbox.js";
import { Sessions } from "./sessions.js";
import { Sidebar } from "./sidebar.js";
import { Status } from "./status.js";
import { ofTab } from "./storage.js";

const RECOUNT_MS = 10_000; // by then the sessions above the limit are closed

const data = JSON.parse(byId("chat-data").textContent);
const device = await deviceId();
const connection = new Connection("/ws/chat/", device);
const live = () => connection.state.name === "live";
const send = (type, fields) => live() && connection.send(type, fields);

const conversations = new Conversations(data, send);
const outbox = new Outbox(data.user, device, (message) => send("user_message", message));
const sessions = new Sessions(send, (managers) => status.open(managers));
const status = new Status(data.login, {
  connect() {
    connection.open();
    composer.focus(); // the button that had the focus is hidden
  },
  dismissed: () => composer.focus(),
  sessions: () => sessions.open(),
});
const composer = new Composer(data.user, data.longest, submit);
const side = new Sidebar(() => conversations.listOlder());
const log = new MessageList({
  earlier: () => conversations.loadEarlier(place),
  isLoading: (id) => conversations.isLoading(id),
  shown: (conversation) => conversations.shown(conversation),
  stateOf(entry) {
    if (outbox.waits(entry)) return "waiting for the message above";
    return live() ? "sending …" : "waiting for the connection";
  },
  retry(id) {
    outbox.retry(id);
    composer.focus();
  },
  discard(id) {
    outbox.discard(id);
    composer.focus();
  },
});

// `place` is what is shown: a conversation's id, or the page's name for one without messages. The address has #id or
// #new-name.
const FRESH = `chat.fresh.${device}`;
let fresh = ofTab.get(FRESH); // the name of the empty conversation; it keeps its draft over a reload
if (fresh === null) renew();
let place = fresh;

function renew() {
  fresh = uuid();
  ofTab.set(FRESH, fresh);
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const NEW = "#new-";

function fromAddress() {
  const hash = location.hash;
  const name = hash.startsWith(NEW) ? hash.slice(NEW.length) : hash.slice(1);
  if (!UUID.test(name)) return fresh;
  if (!hash.startsWith(NEW)) return name;
  const conversation = outbox.began(name);
  if (conversation !== null) history.replaceState(null, "", `#${conversation}`);
  return conversation ?? name;
}

const isNew = (name) => conversations.get(name) === undefined;
const addressOf = (name) => (isNew(name) ? `${NEW}${name}` : `#${name}`);

function select(name) {
  place = name;
  if (location.hash.slice(1) === name && isNew(name)) conversations.add(name); // from a link: the server may have it
  if (!isNew(name)) conversations.load(name);
  composer.show(name);
  show();
}

// A conversation has begun. With `elsewhere`, another tab got the acknowledgement.
function begun({ place: name, conversation, elsewhere }) {
  if (name === fresh) renew();
  if (name !== place) return;
  place = conversation;
  conversations.begin(conversation);
  history.replaceState(null, "", addressOf(conversation));
  composer.renamed(conversation);
  log.renamed(conversation);
  if (elsewhere) conversations.load(conversation);
  redraw();
}

function show() {
  const conversation = conversations.get(place);
  if (conversation !== undefined) conversation.unread = false;
  const beginning = outbox.beginning().map((first) => ({
    address: `${NEW}${first.place}`,
    title: titleOf(first.text),
    unread: false,
    current: first.place === place,
  }));
  const listed = conversations.list().map(({ id, title, unread }) => ({
    address: `#${id}`,
    title,
    unread,
    current: id === place,
  }));
  side.show([...beginning, ...listed], conversations.more && live());
  byId("title").textContent = conversation?.title || beginning.find(({ current }) => current)?.title || "New conversation";
  hide(byId("stop"), !conversation?.turn || !live());
  log.show(place, conversation, outbox.at(place), live());
}

// From the server

const FRAMES = {
  ready({ user }) {
    if (user !== data.username) {
      connection.stop(); // another user has logged in: send nothing of this page's user
      history.replaceState(null, "", location.pathname);
      location.reload();
      return;
    }
    send("list_conversations");
    outbox.again();
    if (!isNew(place)) conversations.load(place);
    sessions.ask();
  },
  conversations(frame) {
    if (frame.before === undefined) conversations.merge(frame.conversations);
    else conversations.mergeOlder(frame.conversations, frame.more);
  },
  message(frame) {
    // A message that the server sends is stored, even if its ack was lost.
    if (frame.client_id) outbox.acknowledged(frame.client_id, frame.conversation);
    if (conversations.message(frame)) return;
    if (!conversations.get(frame.conversation).title) send("list_conversations");
    if (frame.conversation === place) conversations.load(place);
  },
  resumed: (frame) => conversations.resumed(frame),
  earlier: (frame) => conversations.earlier(frame),
  ack({ client_id, conversation, seq }) {
    const entry = outbox.acknowledged(client_id, conversation);
    if (entry === undefined) return;
    const created_at = new Date(entry.at).toISOString();
    FRAMES.message({ conversation, seq, client_id, role: "user", text: entry.text, created_at });
  },
  notice(frame) {
    status.limit(frame);
    if (frame.kind === "over_limit") setTimeout(() => send("list_sessions"), RECOUNT_MS);
  },
  sessions: (frame) => sessions.show(frame),
  error({ client_id, conversation, code, message }) {
    if (client_id) outbox.refused(client_id, message, code === "try_again");
    else if (conversation && conversations.failed(conversation, code)) return;
    else if (!sessions.failed(message)) status.trouble(message);
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

// Draw once for all the frames that came since the last drawing.
let due = false;
function redraw() {
  if (due) return;
  due = true;
  const draw = () => {
    due = false;
    show();
  };
  if (document.hidden) setTimeout(draw, 250);
  else requestAnimationFrame(draw);
}
conversations.addEventListener("change", redraw);
conversations.addEventListener("missing", ({ detail }) => {
  if (detail !== place) return;
  status.trouble("There is no such conversation.");
  history.replaceState(null, "", location.pathname);
  renew();
  composer.renamed(fresh); // its draft and its unsent messages begin a new conversation
  outbox.move(detail, fresh);
  select(fresh);
});
outbox.addEventListener("change", redraw);
outbox.addEventListener("began", ({ detail }) => begun(detail));

// From the user

function submit(words) {
  if (place === fresh) renew();
  if (isNew(place)) history.replaceState(null, "", addressOf(place)); // so that a reload shows it again
  outbox.add(place, !isNew(place), words);
  log.toEnd();
}

byId("suggestions").addEventListener("click", ({ target }) => {
  if (!target.closest("button")) return;
  submit(target.textContent);
  composer.focus();
});
byId("stop").addEventListener("click", () => {
  const turn = conversations.get(place)?.turn;
  if (turn && send("cancel_turn", { run: turn.run })) conversations.stopping(place);
  composer.focus(); // the button is hidden
});
byId("new").addEventListener("click", () => {
  if (place !== fresh) history.pushState(null, "", addressOf(fresh));
  side.close();
  select(fromAddress());
  composer.focus();
});
// Links in the list, and the browser's back and forward buttons.
for (const event of ["popstate", "hashchange"]) {
  addEventListener(event, () => fromAddress() !== place && select(fromAddress()));
}

byId("chat").hidden = false;
select(fromAddress());
status.show(connection.state);
if (composer.enterSends) composer.focus(); // not on a phone, where the focus would open the keyboard
connection.open();
