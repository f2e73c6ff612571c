// What this tab knows of the user's conversations. Messages are kept by their sequence number, so that a message that
// comes twice or out of order is shown once and in its place.
//
// Conversation: {id, title, lastSeq, from, upto, messages, turn, unread, order}. All messages above `from`, up to
// `upto`, are here; both are null until something was loaded. The conversation with the latest message has the highest
// `order`.
//
// Emits "change" with an id, and "missing" with the id of a conversation that the server does not have.

const FIRST_LOAD = 200; // messages; earlier ones on request
const FROM_THE_END = Number.MAX_SAFE_INTEGER; // a resume after this number brings only the last number
const LATER_MS = 2000; // until a failed load is repeated

export class Conversations extends EventTarget {
  // `send(type, fields)` returns whether it could send.
  constructor({ conversations, more }, send) {
    super();
    this.byId = new Map();
    this.send = send;
    this.loading = new Map(); // requests under way, by id: the `after_seq` of a resume, or null for earlier messages
    this.more = more; // whether there are conversations older than those listed
    this.latest = this.oldest = 0;
    this.merge(conversations);
  }

  // Take over the server's list of the latest conversations.
  merge(listed) {
    for (const { id, title, last_seq } of listed.slice().reverse()) {
      const known = this.byId.get(id);
      const conversation = known ?? this.add(id);
      const news = last_seq > conversation.lastSeq;
      conversation.unread ||= news && known !== undefined && known.title !== "";
      if (news) conversation.order = ++this.latest;
      conversation.title = title;
      conversation.lastSeq = Math.max(conversation.lastSeq, last_seq);
    }
    this.changed(null);
  }

  // Take over the conversations that follow the last one of the list.
  mergeOlder(listed, more) {
    this.more = more;
    for (const { id, title, last_seq } of listed) {
      const conversation = this.byId.get(id) ?? this.add(id);
      conversation.order = --this.oldest;
      conversation.title = title;
      conversation.lastSeq = Math.max(conversation.lastSeq, last_seq);
    }
    this.changed(null);
  }

  listOlder() {
    return this.send("list_conversations", { before: this.list().at(-1)?.id });
  }

  // Add a conversation that has just begun: it has no earlier messages to load.
  begin(id) {
    if (!this.byId.has(id)) Object.assign(this.add(id), { from: 0, upto: 0 });
  }

  add(id) {
    const made = { id, title: "", lastSeq: 0, from: null, upto: null, messages: new Map(), turn: null, unread: false, order: ++this.latest };
    this.byId.set(id, made);
    return made;
  }

  // The latest first.
  list() {
    return [...this.byId.values()].sort((a, b) => b.order - a.order);
  }

  get(id) {
    return this.byId.get(id);
  }

  // The messages that can be shown, in their order.
  shown({ messages, from }) {
    return [...messages.values()].filter(({ seq }) => seq > (from ?? 0)).sort((a, b) => a.seq - b.seq);
  }

  // Ask for messages that may be missing at the end. Without a known number, load the conversation from its end.
  load(id) {
    if (this.loading.has(id)) return;
    const { upto, lastSeq } = this.byId.get(id);
    const after = upto ?? (lastSeq ? Math.max(0, lastSeq - FIRST_LOAD) : FROM_THE_END);
    if (this.send("resume", { conversation: id, after_seq: after })) this.loading.set(id, after);
  }

  loadEarlier(id) {
    const { from } = this.byId.get(id);
    if (this.loading.has(id) || !from) return;
    if (this.send("earlier", { conversation: id, before_seq: from + 1 })) this.loading.set(id, null);
    this.changed(id);
  }

  isLoading(id) {
    return this.loading.has(id);
  }

  // The socket has ended, so its requests get no answer.
  disconnected() {
    this.loading.clear();
  }

  // A request failed. Returns whether that is handled here; if not, the caller tells the user.
  failed(id, code) {
    const earlier = this.loading.get(id) === null;
    this.loading.delete(id);
    if (code === "not_found") {
      this.byId.delete(id);
      this.dispatchEvent(new CustomEvent("missing", { detail: id }));
    } else if (code === "try_again") {
      setTimeout(() => this.byId.has(id) && (earlier ? this.loadEarlier(id) : this.load(id)), LATER_MS);
    }
    this.changed(id);
    return code === "not_found" || code === "try_again";
  }

  // Returns false if messages before this one are missing, and were not asked for yet.
  message(frame) {
    const conversation = this.byId.get(frame.conversation) ?? this.add(frame.conversation);
    if (frame.seq === 1) {
      conversation.from ??= 0;
      conversation.upto ??= 0;
      conversation.title ||= titleOf(frame.text);
    }
    const news = frame.seq > conversation.lastSeq;
    const turn = conversation.turn;
    const answers = frame.role === "assistant" && turn !== null && frame.seq > turn.after;
    const known = conversation.messages.get(frame.seq);
    conversation.messages.set(frame.seq, { ...known, ...frame });
    conversation.lastSeq = Math.max(conversation.lastSeq, frame.seq);
    if (answers) conversation.turn = null;
    this.advance(conversation);
    const asked = this.loading.has(conversation.id);
    if (news && !asked) {
      conversation.order = ++this.latest;
      conversation.unread = true;
    }
    this.changed(conversation.id);
    const { title, upto } = conversation;
    return asked || (title !== "" && (upto === null || upto >= frame.seq));
  }

  advance(conversation) {
    if (conversation.upto === null) return;
    while (conversation.messages.has(conversation.upto + 1)) conversation.upto += 1;
  }

  resumed({ conversation: id, last_seq }) {
    const conversation = this.byId.get(id);
    const after = this.loading.get(id);
    this.loading.delete(id);
    if (conversation === undefined) return;
    conversation.lastSeq = Math.max(conversation.lastSeq, last_seq);
    conversation.from ??= Math.min(after ?? last_seq, last_seq);
    conversation.upto = Math.max(conversation.upto ?? 0, last_seq);
    if (this.shown(conversation).length === 0) this.loadEarlier(id); // it is loaded from its end
    this.changed(id);
  }

  earlier({ conversation: id, from_seq, title }) {
    this.loading.delete(id);
    const conversation = this.byId.get(id);
    if (conversation === undefined) return;
    conversation.from = Math.min(conversation.from ?? 0, from_seq - 1);
    conversation.title = title;
    this.changed(id);
  }

  // The user has cancelled the turn. The node that runs it ends it, which may take a moment.
  stopping(id) {
    this.byId.get(id).turn.stopping = true;
    this.changed(id);
  }

  // Apply an agent event. Steps are as in a message: {thought} or {tool, parameters, result, success, duration_ms}.
  event(frame) {
    const conversation = this.byId.get(frame.conversation);
    if (conversation === undefined) return;
    if (frame.type === "agent_started") {
      conversation.turn = { run: frame.run, after: conversation.lastSeq, steps: [], text: "" };
    }
    const turn = conversation.turn;
    if (turn?.run === frame.run) apply(turn, frame);
    // The message with the answer replaces the turn. If it has not come yet, `message` does this.
    const answered = frame.type === "agent_completed" && conversation.messages.has(frame.seq);
    if (answered && turn?.run === frame.run) conversation.turn = null;
    this.changed(frame.conversation);
  }

  changed(id) {
    this.dispatchEvent(new CustomEvent("change", { detail: id }));
  }
}

function apply(turn, { type, ...frame }) {
  if (type === "agent_thinking") {
    turn.steps.push({ thought: frame.thought });
  } else if (type === "tool_executing") {
    turn.steps.push({ tool: frame.tool, parameters: frame.parameters });
  } else if (type === "tool_completed") {
    const step = turn.steps.findLast((known) => known.tool === frame.tool && !("success" in known));
    const { success, result, duration_ms } = frame;
    if (step !== undefined) Object.assign(step, { success, result, duration_ms });
  } else if (type === "agent_delta") {
    turn.text += frame.text;
  }
}

// Make the same title as the server, so that it does not change when the server's list comes.
export function titleOf(text) {
  const line = text.split(/\s+/).filter(Boolean).join(" ");
  return line.length <= 80 ? line : `${line.slice(0, 79).trimEnd()}…`;
}
