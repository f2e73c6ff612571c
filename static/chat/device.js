// The device id of this tab. It is in sessionStorage, so a reload keeps the id and replaces its own record. A
// duplicated tab copies sessionStorage. So each tab holds a Web Lock on its id, and a tab that can't get the lock makes
// a new id.

import { ofTab } from "./storage.js";

const DEVICE = "chat.device";
const ATTEMPT = "chat.attempt";
const RELOAD_MS = 1000; // after a reload, the old page may release its lock only after the new one has started
const NAVIGATE_MS = 300;
const RETRY_MS = 50;

// Over plain http, except on localhost, browsers have neither locks nor randomUUID.
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

// Resolves to whether this page got the lock. The page then holds it for as long as it lives.
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

// A number that only grows, also if the clock is set back: of two connects the server takes the higher as the newer.
export function nextAttempt() {
  const next = Math.max(Number(ofTab.get(ATTEMPT) || 0) + 1, Date.now());
  ofTab.set(ATTEMPT, String(next));
  return next;
}
