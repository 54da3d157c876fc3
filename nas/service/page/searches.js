/** The list of searches, and what can be done to one. */

import { ask, token, withQuery } from "./api.js";
import { caller, mayChange } from "./caller.js";
import { confirmed, doing, element, fill, table } from "./dom.js";
import { ago, met, milliseconds, score } from "./format.js";

const STATUSES = ["queued", "running", "done", "failed", "cancelled"];
const REFRESH_MS = 10_000;
const MOST_MODELS = 3;

/** @type {import("./app.js").View} */
export async function showSearches(holder, _, query, signal) {
  const kept = { status: query.get("status") ?? "", owner: query.get("owner") ?? "" };
  const cursor = query.get("cursor");
  const list = element("div", { class: "list" });
  const filter = (/** @type {"status" | "owner"} */ key, /** @type {string} */ label, /** @type {string[][]} */ options) => {
    const chosen = element(
      "select",
      { id: key, onchange: () => (location.hash = withQuery("#/searches", { ...kept, [key]: chosen.value })) },
      options.map(([value, text]) => element("option", { value, selected: value === kept[key] }, text)),
    );
    return element("div", { class: "inline-field" }, element("label", { for: key }, label), chosen);
  };
  const others = kept.owner && kept.owner !== caller().owner ? [[kept.owner, kept.owner]] : [];
  const refresh = async () => {
    const page = await ask(withQuery("/v1/searches", { ...kept, cursor, limit: "20" }), { signal });
    // What someone is about to press must not be replaced under the finger.
    if (!list.contains(document.activeElement)) showPage(list, page, kept, cursor !== null, refresh);
  };
  fill(
    holder,
    element(
      "div",
      { class: "title-row" },
      element("h1", {}, "Searches"),
      element(
        "div",
        { class: "filters" },
        token() !== null && filter("owner", "Whose", [["", "everyone's"], [caller().owner, "mine"], ...others]),
        filter("status", "Status", [["", "all"], ...STATUSES.map((one) => [one, one])]),
      ),
      element("a", { class: "button primary", href: "#/new" }, "New search"),
    ),
    list,
  );
  await refresh();
  const timer = setInterval(() => document.hidden || refresh().catch(() => {}), REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

/**
 * @param {HTMLElement} list
 * @param {{items: any[], next: string | null}} page
 * @param {{status: string, owner: string}} kept the filters.
 * @param {boolean} later
 * @param {() => Promise<void>} refresh
 */
function showPage(list, { items, next }, kept, later, refresh) {
  if (!items.length) {
    const none = kept.status || kept.owner ? "No search matches these filters. " : "No searches yet. ";
    fill(list, element("p", { class: "empty" }, none, element("a", { href: "#/new" }, "Start one"), "."));
    return;
  }
  const rows = items.map((search) => [
    [
      element("a", { href: `#/searches/${search.id}` }, titleOf(search)),
      element("small", {}, search.name ? `${goalOf(search)} · ` : "", `${search.request.teacher} · ${search.request.data}`),
    ],
    statusBadge(search.status),
    outcome(search),
    recipeOf(search),
    search.owner,
    element("time", { datetime: search.created, title: new Date(search.created).toLocaleString() }, ago(search.created)),
    element("div", { class: "actions" }, actions(search, refresh)),
  ]);
  fill(
    list,
    table("Searches", ["Search", "Status", "Result", "Recipe", "Owner", "Age", element("span", { class: "unseen" }, "Actions")], rows),
    element(
      "nav",
      { class: "pages", "aria-label": "Pages" },
      later && element("a", { class: "button", href: withQuery("#/searches", kept) }, "Newest"),
      next && element("a", { class: "button", href: withQuery("#/searches", { ...kept, cursor: next }) }, "Older"),
    ),
  );
}

/** @param {any} search */
export const goalOf = ({ request }) => `${request.budgets.join(", ")} on ${request.targets.join(", ")}`;

/** @param {any} search */
export const titleOf = (search) => search.name ?? goalOf(search);

/** @param {any} search */
export const recipeOf = ({ request }) => (typeof request.recipe === "string" ? request.recipe : "its own");

/**
 * What came of a search: a line for each model, the stage of one that runs, why one failed.
 * @param {any} search
 */
function outcome(search) {
  if (search.status === "failed") return element("span", { class: "cut", title: search.error }, search.error);
  if (search.status === "running") return element("span", { class: "muted" }, (search.stage ?? "").replaceAll("_", " "));
  const models = search.models ?? [];
  const lines = models.slice(0, MOST_MODELS).map((/** @type {any} */ model) => {
    const asked = model.budget.includes("ms") ? model.budget : `${model.budget} = ${milliseconds(model.budget_ms)}`;
    return element("span", { class: met(model) ? "line" : "line missed" }, element("b", {}, score(model.metric, model.score)), ` in ${milliseconds(model.measured_ms)} `, element("small", {}, `of ${asked}`));
  });
  if (models.length > MOST_MODELS) lines.push(element("span", { class: "line muted" }, `and ${models.length - MOST_MODELS} more`));
  return lines.length ? lines : "–";
}

/** @param {string} status */
export const statusBadge = (status) => element("span", { class: `badge ${status}` }, status);

/**
 * The buttons for what a search's status and its owner allow.
 * @param {any} search
 * @param {() => void | Promise<void>} done called after one of them.
 */
export function actions(search, done) {
  if (!mayChange(search.owner)) return [];
  const name = titleOf(search);
  const post = (/** @type {string} */ verb) => async () => {
    await ask(`/v1/searches/${search.id}:${verb}`, { method: "POST" });
    return true;
  };
  const cancel = async () =>
    (await confirmed("Cancel this search?", "It stops within seconds. Finished stages are kept, so a retry goes on from there.", "Cancel the search")) &&
    post("cancel")();
  const remove = async () => {
    if (!(await confirmed("Delete this search?", "Its record and its models are deleted for good.", "Delete"))) return false;
    await ask(`/v1/searches/${search.id}`, { method: "DELETE" });
    return true;
  };
  if (search.status === "queued" || search.status === "running") return [doing("Cancel", name, cancel, done)];
  return [search.status !== "done" && doing("Retry", name, post("retry"), done), doing("Delete", name, remove, done)];
}
