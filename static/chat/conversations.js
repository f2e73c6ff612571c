// What this tab knows of the user's conversations. Messages are kept by their sequence number, so that whatever comes
// twice or out of order is shown once and in its place.
//
// Conversation: {id, title, lastSeq, from, upto, messages, turn, unread, order}. Everything above `from`, up to `upto`,
// is here; null until something was loaded. `order` is the higher, the later something was said.
//
// Emits "change" with the id, and "missing" with it where there is no such conversation.

const FIRST_LOAD = 200; // messages; earlier ones on request
const FROM_THE_END = Number.MAX_SAFE_INTEGER; // a resume from there brings nothing but the last number
const LATER_MS = 2000; // where a load failed

export class Conversations extends EventTarget {
  // `send(type, fields)` says whether it could.
  constructor({ conversations, more }, send) {
    super();
    this.byId = new Map();
    this.send = send;
    this.loading = new Map(); // what was asked for, by id: the `after_seq` of a resume, or null for earlier messages
    this.more = more; // whether there are conversations older than those listed
    this.latest = this.oldest = 0;
    this.merge(conversations);
  }

  // The server's list of the latest.
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

  // What comes after the last one of the list.
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

  // One that this page has just seen begin: nothing comes before what it is told.
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

  // Those that can be shown, in their order.
  shown({ messages, from }) {
    return [...messages.values()].filter(({ seq }) => seq > (from ?? 0)).sort((a, b) => a.seq - b.seq);
  }

  // Ask for what may be missing at the end. One that nothing is known of is begun from its end.
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

  // Answers that were under way when the socket ended will not come.
  disconnected() {
    this.loading.clear();
  }

  // Nothing comes of what was asked for. Whether it is mended here: otherwise the user should know.
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

  // Returns false if something before it is missing, and nobody has asked for it yet.
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
    if (this.shown(conversation).length === 0) this.loadEarlier(id); // it was begun from its end
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

  // Its user wants no more of the turn; whoever runs it ends it, which may take its time.
  stopping(id) {
    this.byId.get(id).turn.stopping = true;
    this.changed(id);
  }

  // An agent event. Steps are as a message has them: {thought} or {tool, parameters, result, success, duration_ms}.
  event(frame) {
    const conversation = this.byId.get(frame.conversation);
    if (conversation === undefined) return;
    if (frame.type === "agent_started") {
      conversation.turn = { run: frame.run, after: conversation.lastSeq, steps: [], text: "" };
    }
    const turn = conversation.turn;
    if (turn?.run === frame.run) apply(turn, frame);
    // Its message may still be on the way, and takes the turn's place.
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

// As the server does it, so that nothing jumps when its list comes.
export function titleOf(text) {
  const line = text.split(/\s+/).filter(Boolean).join(" ");
  return line.length <= 80 ? line : `${line.slice(0, 79).trimEnd()}…`;
}
