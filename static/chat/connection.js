// One socket at a time, and the truth about it. Emits "state" whenever that changes, and "frame" for every frame that
// is not about the connection itself.
//
// State: {name, until?, reason?}, name one of
//   connecting  a handshake is under way
//   live        the server said `ready`
//   waiting     reconnects at `until` (milliseconds of the clock)
//   ended       stays closed; `reason` says why, and what the user can do

import { nextAttempt } from "./device.js";

const HANDSHAKE_MS = 15_000; // the server answers a handshake within 4 s, or refuses it
const BACKOFF_MS = [500, 30_000]; // where the server could not say when to come back
const STEADY_MS = 10_000; // live for so long: the backoff begins afresh
const PATIENT_AFTER = 3; // attempts in a row, after which a short retry_after is no longer taken at its word

const GONE = 1006; // a close that nobody sent

// What a close means when its `closing` frame was lost.
const ENDS = { 4009: "too_big", 4400: "protocol_abuse", 4401: "login_required", 4403: "session_ended", 4409: "evicted", 4412: "closed_by_user" };

export class Connection extends EventTarget {
  constructor(path, device) {
    super();
    this.url = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${path}`;
    this.device = device;
    this.state = { name: "connecting" };
    this.socket = null;
    this.closing = null; // the server's `closing` frame
    this.failures = 0;
    this.timer = null; // until the next attempt
    this.watch = null; // until the server counts as silent
    this.silence = HANDSHAKE_MS;
    addEventListener("online", () => this.state.name === "waiting" && this.open());
    addEventListener("offline", () => this.socket !== null && this.closed(GONE));
  }

  open() {
    clearTimeout(this.timer);
    this.drop();
    this.closing = null;
    this.silence = HANDSHAKE_MS;
    this.become({ name: "connecting" });
    const socket = new WebSocket(`${this.url}?device=${this.device}&attempt=${nextAttempt()}`);
    this.socket = socket;
    socket.onmessage = (event) => socket === this.socket && this.heard(event.data);
    socket.onclose = (event) => socket === this.socket && this.closed(event.code);
    this.listen();
  }

  // For good: this page is to be another's.
  stop() {
    clearTimeout(this.timer);
    this.drop();
    this.become({ name: "connecting" });
  }

  // False if it could not be sent: the frame is not queued.
  send(type, fields = {}) {
    if (this.socket === null || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify({ type, ...fields }));
    return true;
  }

  heard(data) {
    this.listen();
    const frame = JSON.parse(data);
    if (frame.type === "ping") {
      this.send("pong", { nonce: frame.nonce });
    } else if (frame.type === "closing") {
      this.closing = frame;
    } else if (frame.type === "ready") {
      this.silence = 2000 * frame.heartbeat_seconds;
      this.liveSince = Date.now();
      this.listen();
      this.become({ name: "live" });
      this.emit("frame", frame);
    } else {
      this.emit("frame", frame);
    }
  }

  // The server has something to say at least once a heartbeat; twice that without a word, and it is gone.
  listen() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.closed(GONE), this.silence);
  }

  closed(code) {
    const farewell = this.closing;
    if (this.state.name === "live" && Date.now() - this.liveSince > STEADY_MS) this.failures = 0;
    this.failures += 1;
    this.drop();
    const reason = farewell ? farewell.reason : ENDS[code];
    const never = farewell ? farewell.reconnect === "never" : reason !== undefined;
    if (never) {
      this.become({ name: "ended", reason });
      return;
    }
    const told = farewell ? 1000 * farewell.retry_after : 0;
    const own = farewell && this.failures <= PATIENT_AFTER ? 0 : this.backoff();
    const wait = Math.max(told, own);
    this.become({ name: "waiting", until: Date.now() + wait, reason });
    this.timer = setTimeout(() => this.open(), wait);
  }

  backoff() {
    const [least, most] = BACKOFF_MS;
    const full = Math.min(most, least * 2 ** this.failures);
    return full / 2 + (Math.random() * full) / 2; // half of it is jitter, so that a whole house does not come at once
  }

  drop() {
    clearTimeout(this.watch);
    const socket = this.socket;
    this.socket = null;
    if (socket !== null && socket.readyState < WebSocket.CLOSING) socket.close();
  }

  become(state) {
    this.state = state;
    this.emit("state", state);
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
