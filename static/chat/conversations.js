// What this tab knows of the user's conversations. Messages are kept by their sequence number, so that whatever comes
// twice or out of order is shown once and in its place.
//
// Conversation: {id, title, lastSeq, upto, messages, turn, unread}. `upto`: everything from the first loaded message
// to this number is here; null until something was loaded.

const FIRST_LOAD = 200; // messages; earlier ones on request

export class Conversations extends EventTarget {
  // `resume(id, afterSeq)` asks the server for what came later, and says whether it could.
  constructor(listed, resume) {
    super();
    this.byId = new Map();
    this.resume = resume;
    this.resuming = new Set();
    this.merge(listed);
  }

  merge(listed) {
    for (const { id, title, last_seq } of listed.slice().reverse()) {
      const known = this.byId.get(id) ?? this.add(id);
      known.unread ||= known.title !== "" && last_seq > known.lastSeq;
      known.title = title;
      known.lastSeq = Math.max(known.lastSeq, last_seq);
    }
    this.changed(null);
  }

  add(id) {
    const made = { id, title: "", lastSeq: 0, upto: null, from: null, messages: new Map(), turn: null, unread: false };
    this.byId.set(id, made);
    return made;
  }

  // The latest first: the order of insertion, turned around.
  list() {
    return [...this.byId.values()].reverse();
  }

  get(id) {
    return this.byId.get(id);
  }

  // Ask for what is missing.
  load(id) {
    const conversation = this.byId.get(id);
    if (conversation === undefined || this.resuming.has(id)) return;
    if (conversation.upto === null) {
      conversation.upto = Math.max(0, conversation.lastSeq - FIRST_LOAD);
      conversation.from = conversation.upto;
    }
    if (this.resume(id, conversation.upto)) this.resuming.add(id);
  }

  loadEarlier(id) {
    const conversation = this.byId.get(id);
    conversation.from = Math.max(0, conversation.from - FIRST_LOAD);
    if (this.resume(id, conversation.from)) this.resuming.add(id);
  }

  // Answers that were under way when the socket ended will not come.
  disconnected() {
    this.resuming.clear();
  }

  // Returns false if earlier messages are missing and nobody has asked for them yet.
  message(frame) {
    const fresh = !this.byId.has(frame.conversation);
    const conversation = this.byId.get(frame.conversation) ?? this.add(frame.conversation);
    if (fresh && frame.seq === 1) {
      conversation.upto = conversation.from = 0;
      conversation.title = titleOf(frame.text);
    }
    const news = frame.seq > conversation.lastSeq;
    const turn = conversation.turn;
    const answers = frame.role === "assistant" && turn !== null && frame.seq > turn.after;
    const known = conversation.messages.get(frame.seq);
    conversation.messages.set(frame.seq, { ...known, ...frame, ...(answers && { steps: turn.steps }) });
    conversation.lastSeq = Math.max(conversation.lastSeq, frame.seq);
    if (answers) conversation.turn = null;
    this.advance(conversation);
    if (news && !this.resuming.has(conversation.id)) {
      this.byId.delete(conversation.id);
      this.byId.set(conversation.id, conversation);
      conversation.unread = true;
    }
    this.changed(conversation.id);
    return fresh ? conversation.title !== "" : conversation.upto === null || conversation.upto >= frame.seq;
  }

  advance(conversation) {
    if (conversation.upto === null) return;
    while (conversation.messages.has(conversation.upto + 1)) conversation.upto += 1;
  }

  resumed({ conversation: id, last_seq }) {
    this.resuming.delete(id);
    const conversation = this.byId.get(id);
    if (conversation === undefined) return;
    conversation.lastSeq = Math.max(conversation.lastSeq, last_seq);
    conversation.upto = Math.max(conversation.upto ?? 0, last_seq);
    this.changed(id);
  }

  // An agent event. Steps are {kind: "thought" | "tool", …}.
  event(frame) {
    const conversation = this.byId.get(frame.conversation);
    if (conversation === undefined) return;
    if (frame.type === "agent_started") {
      conversation.turn = { run: frame.run, after: conversation.lastSeq, steps: [], text: "", open: false };
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

function apply(turn, frame) {
  if (frame.type === "agent_thinking") {
    turn.steps.push({ kind: "thought", text: frame.thought });
  } else if (frame.type === "tool_executing") {
    turn.steps.push({ kind: "tool", tool: frame.tool, parameters: frame.parameters });
  } else if (frame.type === "tool_completed") {
    const step = turn.steps.findLast((known) => known.kind === "tool" && known.tool === frame.tool && !("success" in known));
    if (step !== undefined) Object.assign(step, { success: frame.success, result: frame.result, duration: frame.duration_ms });
  } else if (frame.type === "agent_delta") {
    turn.text += frame.text;
  }
}

// As the server does it, so that nothing jumps when its list comes.
export function titleOf(text) {
  const line = text.split(/\s+/).filter(Boolean).join(" ");
  return line.length <= 80 ? line : `${line.slice(0, 79).trimEnd()}…`;
}
