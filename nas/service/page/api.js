/** Speaks with the service: JSON there and back, problems as errors, the token in this tab alone. */

const TOKEN = "tailorbert-token";

/** An answer that is no success: RFC 9457 problem details. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {{field: string, detail: string}[]} errors
   */
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

/** @returns {string | null} */
export const token = () => sessionStorage.getItem(TOKEN);

/** @param {string | null} given null forgets it. */
export function keepToken(given) {
  if (given === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, given);
}

/** Told when the service asks for a token. */
export const signIn = new EventTarget();

/** @returns {Record<string, string>} */
export function authorization() {
  const kept = token();
  return kept === null ? {} : { Authorization: `Bearer ${kept}` };
}

/**
 * Ask for something; what is no success is thrown.
 * @param {string} path
 * @param {{method?: string, json?: unknown, headers?: Record<string, string>, signal?: AbortSignal}} options
 * @returns {Promise<Response>}
 */
export async function request(path, { method = "GET", json, headers = {}, signal } = {}) {
  const content = json === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: { ...authorization(), ...content, ...headers },
      body: json === undefined ? undefined : JSON.stringify(json),
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "The service does not answer. Is it running, and are you online?");
  }
  if (!answer.ok) throw problem(answer.status, await answer.text());
  return answer;
}

/**
 * Ask for JSON.
 * @param {string} path
 * @param {Parameters<typeof request>[1]} options
 * @returns {Promise<any>}
 */
export async function ask(path, options) {
  const answer = await request(path, options);
  return answer.status === 204 ? null : answer.json();
}

/**
 * All items of a list that comes in pages.
 * @param {string} path
 * @param {{signal?: AbortSignal, most?: number}} options
 * @returns {Promise<any[]>}
 */
export async function askAll(path, { signal, most = 500 } = {}) {
  const items = [];
  let cursor = null;
  do {
    const page = /** @type {any} */ (await ask(withQuery(path, { limit: "100", cursor }), { signal }));
    items.push(...page.items);
    cursor = page.next;
  } while (cursor !== null && items.length < most);
  return items;
}

/**
 * @param {string} path
 * @param {Record<string, string | null | undefined>} query null, undefined and "" are left out.
 */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value);
  const text = new URLSearchParams(/** @type {[string, string][]} */ (given)).toString();
  return text ? `${path}${path.includes("?") ? "&" : "?"}${text}` : path;
}

/**
 * Send a file. By XMLHttpRequest, since fetch does not tell how far it is.
 * @param {string} path
 * @param {File} file
 * @param {(share: number) => void} onProgress
 * @param {AbortSignal} signal
 * @returns {Promise<any>}
 */
export function upload(path, file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("PUT", path);
    for (const [name, value] of Object.entries(authorization())) sending.setRequestHeader(name, value);
    sending.setRequestHeader("Content-Type", "application/octet-stream");
    sending.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    sending.onload = () =>
      sending.status < 300 ? resolve(JSON.parse(sending.responseText)) : reject(problem(sending.status, sending.responseText));
    sending.onerror = () => reject(new Problem(0, "The upload was broken off. Try again."));
    sending.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", () => sending.abort());
    sending.send(file);
  });
}

/**
 * Fetch a file whole, telling how far it is.
 * @param {string} path
 * @param {(share: number | null) => void} onProgress null where the length is not known.
 * @param {AbortSignal} signal
 * @returns {Promise<Blob>}
 */
export async function download(path, onProgress, signal) {
  const answer = await request(path, { signal });
  const length = Number(answer.headers.get("Content-Length")) || null;
  const parts = [];
  let received = 0;
  const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    received += part.value.length;
    onProgress(length && Math.min(1, received / length));
  }
  return new Blob(parts, { type: answer.headers.get("Content-Type") ?? "" });
}

/**
 * @param {number} status
 * @param {string} body
 */
function problem(status, body) {
  if (status === 401) signIn.dispatchEvent(new Event("needed"));
  try {
    const { detail, title, errors } = JSON.parse(body);
    return new Problem(status, detail ?? title, errors ?? []);
  } catch {
    return new Problem(status, `The service answered with status ${status}.`);
  }
}
