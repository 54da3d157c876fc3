/** One search: live while it runs, then what it hands over. */

import { ask } from "./api.js";
import { announce, element, facts, failure, fill, say } from "./dom.js";
import { follow } from "./events.js";
import { foreseenOf } from "./forecast.js";
import { ago } from "./format.js";
import { progressView } from "./progress.js";
import { resultView } from "./result.js";
import { actions, goalOf, recipeOf, statusBadge, titleOf } from "./searches.js";
import { wordsOf } from "./words.js";

const FORESEEN_MS = 20_000;

/** @type {import("./app.js").View} */
export async function showSearch(holder, id, _, left) {
  const search = await ask(`/v1/searches/${id}`, { signal: left });
  // What this drawing listens to and repeats ends with it, also where another replaces it.
  const drawing = new AbortController();
  const { signal } = drawing;
  left.addEventListener("abort", () => drawing.abort(), { signal });
  const { request } = search;
  const title = titleOf(search);
  document.title = `${title} · TailorBERT`;
  const status = element("span", { class: "status-holder" }, statusBadge(search.status));
  const again = async () => {
    if (signal.aborted) return;
    drawing.abort();
    await showSearch(holder, id, _, left);
  };
  const buttons = element("div", { class: "actions" }, actions(search, async () => {
    try {
      await ask(`/v1/searches/${id}`, { signal });
      await again();
    } catch {
      location.hash = "#/searches"; // it was deleted
    }
  }));
  const error = element("p", { class: "notice bad", hidden: !search.error }, search.error ?? "");
  const body = element("div", { class: "stack" });
  const begun = element("time", { datetime: search.created }, ago(search.created));
  const clock = setInterval(() => say(begun, ago(search.created)), 20_000);
  signal.addEventListener("abort", () => clearInterval(clock));
  fill(
    holder,
    element("p", { class: "crumbs" }, element("a", { href: "#/searches" }, "Searches"), " / ", element("code", {}, id)),
    element("div", { class: "title-row" }, element("h1", {}, title), status, buttons),
    element("p", { class: "lead" }, search.name ? `${goalOf(search)}: ` : "", `${request.teacher} on ${request.data}, by recipe ${recipeOf(search)}. Started by ${search.owner} `, begun, "."),
    search.note && element("p", { class: "note-text" }, search.note),
    error,
    body,
  );
  const ended = ["done", "failed", "cancelled"].includes(search.status);
  const progress = progressView(request.budgets, request.targets);
  const words = wordsOf(search, again);
  // Nobody's sentence is taken away under their hands: the result waits until they look up.
  const onEnd = () => (words?.matches(":focus-within") ? words.addEventListener("focusout", again, { once: true, signal }) : again());
  const watch = () => watched(id, progress, status, ended ? null : onEnd, signal);
  if (!ended) {
    const foreseen = element("p", { class: "hint foreseen", role: "status" });
    const foresee = () => foreseenOf(search, signal).then((text) => say(foreseen, text)).catch(() => {});
    const timer = setInterval(() => document.hidden || foresee(), FORESEEN_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    fill(body, foreseen, progress.node, settings(search), words);
    foresee();
    watch();
    return;
  }
  const course = element("details", { class: "card" }, element("summary", {}, "How it went"), progress.node);
  course.addEventListener("toggle", watch, { once: true });
  course.open = search.status !== "done";
  fill(body, search.models && resultView(search, signal), course, settings(search), words);
}

/**
 * Follow the events into the progress.
 * @param {string} id
 * @param {ReturnType<typeof progressView>} progress
 * @param {HTMLElement} status
 * @param {(() => void) | null} again called at the end of what still runs.
 * @param {AbortSignal} signal
 */
async function watched(id, progress, status, again, signal) {
  const onEvent = (/** @type {import("./events.js").ServerEvent} */ event) => {
    if (event.kind === "status" && again !== null) {
      fill(status, statusBadge(event.data.status));
      announce(`The search is ${event.data.status}.`);
    }
    progress.take(event);
  };
  try {
    await follow(`/v1/searches/${id}/events`, onEvent, progress.connection, signal);
    again?.();
  } catch (error) {
    if (!signal.aborted) progress.node.append(failure(error));
  }
}

/** @param {any} search */
function settings({ request, attempt }) {
  const shown = Object.entries(request).filter(([, value]) => value !== null);
  const text = (/** @type {any} */ value) => (Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value));
  return element(
    "details",
    { class: "card" },
    element("summary", {}, "What was asked for"),
    facts([...shown.map(([name, value]) => /** @type {[string, string]} */ ([name.replaceAll("_", " "), text(value)])), ["attempt", String(attempt)]]),
  );
}
