/** Follows a search's server-sent events, read by fetch: EventSource cannot send a token. */

import { authorization, Problem, request } from "./api.js";

const SILENCE_MS = 45_000; // a comment comes every 15 s
const LONGEST_WAIT_MS = 30_000;

/** @typedef {{id: string | null, kind: string, data: any}} ServerEvent */

/**
 * Follow a stream to its `end` event, through disconnections.
 * @param {string} path
 * @param {(event: ServerEvent) => void} onEvent
 * @param {(connected: boolean) => void} onConnection
 * @param {AbortSignal} signal
 * @returns {Promise<void>} resolved at the end; rejected where the service refuses.
 */
export async function follow(path, onEvent, onConnection, signal) {
  /** @type {string | null} */
  let last = null;
  for (let failures = 0; !signal.aborted; ) {
    try {
      for await (const event of read(path, last, () => onConnection(true), signal)) {
        failures = 0;
        last = event.id ?? last;
        if (event.kind === "end") return;
        onEvent(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      const refused = error instanceof Problem && error.status >= 400 && error.status < 500;
      if (refused && error.status !== 429) throw error;
    }
    onConnection(false);
    await pause(Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures++) * (0.5 + Math.random() / 2), signal);
  }
}

/**
 * The events of one connection.
 * @param {string} path
 * @param {string | null} last
 * @param {() => void} onOpen
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ServerEvent>}
 */
async function* read(path, last, onOpen, signal) {
  const silence = new AbortController();
  const resume = last === null ? {} : { "Last-Event-ID": last };
  const answer = await request(path, {
    headers: { ...authorization(), Accept: "text/event-stream", ...resume },
    signal: AbortSignal.any([signal, silence.signal]),
  });
  onOpen();
  const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      const blocks = (rest + decoder.decode(part.value, { stream: true })).replaceAll("\r\n", "\n").split("\n\n");
      rest = /** @type {string} */ (blocks.pop());
      for (const block of blocks) {
        const event = parse(block);
        if (event !== null) yield event;
      }
    }
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => {});
  }
}

/**
 * One event's lines; null for a comment.
 * @param {string} block
 * @returns {ServerEvent | null}
 */
export function parse(block) {
  /** @type {Record<string, string[]>} */
  const fields = {};
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name) (fields[name] ??= []).push(value);
  }
  if (!fields.data) return null;
  return { id: fields.id?.at(-1) ?? null, kind: fields.event?.at(-1) ?? "message", data: JSON.parse(fields.data.join("\n")) };
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve(undefined)), { once: true });
  });
}
