// One socket at a time, and its state. Emits "state" when the state changes, and "frame" for every frame that is not
// about the connection itself.
//
// State: {name, until?, reason?}. `name` is one of
//   connecting  a handshake is under way
//   live        the server said `ready`
//   waiting     reconnects at `until` (as Date.now())
//   ended       stays closed; `reason` says why, and what the user can do

import { nextAttempt } from "./device.js";

const HANDSHAKE_MS = 15_000; // the server answers a handshake within 4 s, or refuses it
const BACKOFF_MS = [500, 30_000]; // least and most, if the server did not say when to reconnect
const STEADY_MS = 10_000; // a connection that was live for this long resets the backoff
const PATIENT_AFTER = 3; // failures in a row; after more, wait for the backoff if it is longer than retry_after

const GONE = 1006; // the close code of a connection that ended without a close frame

// The reason for each close code, for a close without a `closing` frame.
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
    this.timer = null; // for the next attempt
    this.watch = null; // fires when the server has been silent for too long
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

  // Close for good: this page reloads for another user.
  stop() {
    clearTimeout(this.timer);
    this.drop();
    this.become({ name: "connecting" });
  }

  // Returns false if there is no open socket; the frame is not queued then.
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

  // The server sends at least one frame per heartbeat. After two heartbeats without one, the connection counts as lost.
  listen() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.closed(GONE), this.silence);
  }

  closed(code) {
    const frame = this.closing;
    if (this.state.name === "live" && Date.now() - this.liveSince > STEADY_MS) this.failures = 0;
    this.failures += 1;
    this.drop();
    const reason = frame ? frame.reason : ENDS[code];
    const never = frame ? frame.reconnect === "never" : reason !== undefined;
    if (never) {
      this.become({ name: "ended", reason });
      return;
    }
    const asked = frame ? 1000 * frame.retry_after : 0;
    const own = frame && this.failures <= PATIENT_AFTER ? 0 : this.backoff();
    const wait = Math.max(asked, own);
    this.become({ name: "waiting", until: Date.now() + wait, reason });
    this.timer = setTimeout(() => this.open(), wait);
  }

  backoff() {
    const [least, most] = BACKOFF_MS;
    const full = Math.min(most, least * 2 ** this.failures);
    return full / 2 + (Math.random() * full) / 2; // half of it is jitter, so that many clients don't reconnect at once
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
