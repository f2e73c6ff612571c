// Which tab this is. The id lives in sessionStorage, so a reload keeps it and replaces its own record. Duplicating a
// tab copies sessionStorage too; so each tab holds a Web Lock on its id, and one that can't get it mints its own.

import { ofTab } from "./storage.js";

const DEVICE = "chat.device";
const ATTEMPT = "chat.attempt";
const RELOAD_MS = 1000; // the page before a reload lets go of its lock a little after this one begins
const NAVIGATE_MS = 300;
const RETRY_MS = 50;

// In plain http on a network, browsers have neither locks nor randomUUID.
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function isReload() {
  const [entry] = performance.getEntriesByType("navigation");
  return entry !== undefined && entry.type !== "navigate";
}

// Resolves to whether we got the lock; it is then held for as long as the page lives.
function hold(id) {
  return new Promise((resolve) => {
    const keep = (lock) => {
      resolve(lock !== null);
      return lock === null ? undefined : new Promise(() => {});
    };
    navigator.locks.request(`chat-device-${id}`, { ifAvailable: true }, keep).catch(() => resolve(false));
  });
}

async function holdWithin(id, milliseconds) {
  const deadline = Date.now() + milliseconds;
  while (!(await hold(id))) {
    if (Date.now() >= deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
  return true;
}

export async function deviceId() {
  const stored = ofTab.get(DEVICE);
  if (stored) {
    const ours = navigator.locks
      ? await holdWithin(stored, isReload() ? RELOAD_MS : NAVIGATE_MS)
      : isReload();
    if (ours) return stored;
  }
  const minted = uuid();
  ofTab.set(DEVICE, minted);
  ofTab.remove(ATTEMPT);
  if (navigator.locks) await hold(minted);
  return minted;
}

// A number that only grows, also when the clock is set back: the server takes the highest for the newest.
export function nextAttempt() {
  const next = Math.max(Number(ofTab.get(ATTEMPT) || 0) + 1, Date.now());
  ofTab.set(ATTEMPT, String(next));
  return next;
}
