/** When a search is likely to begin, and how long it takes, in words. */

import { ask, withQuery } from "./api.js";
import { roughly } from "./format.js";

/** @typedef {{status: string | null, ahead: number, running: number, starts_in_s: number | null, takes_s: number | null, counted: number}} Forecast */

/**
 * Of a search that would be started now.
 * @param {string} recipe
 * @param {AbortSignal} signal
 */
export async function foreseen(recipe, signal) {
  const told = /** @type {Forecast} */ (await ask(withQuery("/v1/queue", { recipe }), { signal }));
  return `${waiting(told)} ${taking(told)}`.trim();
}

/**
 * Of a search that waits or runs.
 * @param {any} search
 * @param {AbortSignal} signal
 */
export async function foreseenOf(search, signal) {
  const told = /** @type {Forecast} */ (await ask(`/v1/searches/${search.id}/forecast`, { signal }));
  return told.status === "queued" ? `${waiting(told)} ${taking(told)}`.trim() : taking(told);
}

/** @param {Forecast} told */
function waiting({ ahead, starts_in_s }) {
  const first = ahead ? `${ahead} ${ahead === 1 ? "search comes" : "searches come"} first.` : "";
  if (starts_in_s === null) return first || "It begins when a worker is free.";
  return `${first} It is likely to begin ${starts_in_s >= 1 ? `in ${roughly(starts_in_s)}` : "soon"}.`.trim();
}

/** @param {Forecast} told */
function taking({ takes_s, counted }) {
  if (takes_s === null) return "";
  return counted === 1 ? `The last search by this recipe took ${roughly(takes_s)} here, with what it could reuse.` : `The last ${counted} searches by this recipe took ${roughly(takes_s)} here (the median), with what they could reuse.`;
}
