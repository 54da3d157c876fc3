/** The list of searches, and what can be done to one. */

import { ask, withQuery } from "./api.js";
import { announce, confirmed, element, failure, fill, table } from "./dom.js";
import { ago } from "./format.js";

const STATUSES = ["queued", "running", "done", "failed", "cancelled"];
const REFRESH_MS = 10_000;

/** @type {import("./app.js").View} */
export async function showSearches(holder, _, query, signal) {
  const status = query.get("status") ?? "";
  const cursor = query.get("cursor");
  const list = element("div", { class: "list" });
  const filter = element(
    "select",
    { id: "status", onchange: () => (location.hash = withQuery("#/searches", { status: filter.value })) },
    element("option", { value: "" }, "all"),
    STATUSES.map((one) => element("option", { value: one, selected: one === status }, one)),
  );
  const refresh = async () => {
    const page = await ask(withQuery("/v1/searches", { status, cursor, limit: "20" }), { signal });
    // What someone is about to press must not be replaced under the finger.
    if (!list.contains(document.activeElement)) showPage(list, page, status, cursor !== null, refresh);
  };
  fill(
    holder,
    element(
      "div",
      { class: "title-row" },
      element("h1", {}, "Searches"),
      element("div", { class: "inline-field" }, element("label", { for: "status" }, "Status"), filter),
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
 * @param {string} status
 * @param {boolean} later
 * @param {() => Promise<void>} refresh
 */
function showPage(list, { items, next }, status, later, refresh) {
  if (!items.length) {
    fill(list, element("p", { class: "empty" }, status ? `No search is ${status}. ` : "No searches yet. ", element("a", { href: "#/new" }, "Start one"), "."));
    return;
  }
  const rows = items.map((search) => [
    element("a", { href: `#/searches/${search.id}` }, search.request.budgets.join(", "), " on ", search.request.targets.join(", ")),
    statusBadge(search.status),
    search.owner,
    `${search.request.teacher} · ${search.request.data}`,
    element("time", { datetime: search.created, title: new Date(search.created).toLocaleString() }, ago(search.created)),
    element("div", { class: "actions" }, actions(search, refresh)),
  ]);
  fill(
    list,
    table("Searches", ["Budget", "Status", "Owner", "Teacher, data", "Age", element("span", { class: "unseen" }, "Actions")], rows),
    element(
      "nav",
      { class: "pages", "aria-label": "Pages" },
      later && element("a", { class: "button", href: withQuery("#/searches", { status }) }, "Newest"),
      next && element("a", { class: "button", href: withQuery("#/searches", { status, cursor: next }) }, "Older"),
    ),
  );
}

/** @param {string} status */
export const statusBadge = (status) => element("span", { class: `badge ${status}` }, status);

/**
 * The buttons for what a search's status allows.
 * @param {any} search
 * @param {() => void | Promise<void>} done called after one of them.
 */
export function actions(search, done) {
  const name = `${search.request.budgets.join(", ")} on ${search.request.targets.join(", ")}`;
  const act = (/** @type {string} */ verb, /** @type {() => Promise<any>} */ request) => async (/** @type {Event} */ event) => {
    const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
    button.disabled = true;
    try {
      if (await request()) {
        announce(`${verb}: ${name}`);
        button.blur();
        await done();
      }
    } catch (error) {
      button.closest(".actions")?.append(failure(error));
    }
    button.disabled = false;
  };
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
  const button = (/** @type {string} */ verb, /** @type {() => Promise<any>} */ request) =>
    element("button", { type: "button", class: "small", "aria-label": `${verb} ${name}`, onclick: act(verb, request) }, verb);
  if (search.status === "queued" || search.status === "running") return [button("Cancel", cancel)];
  return [search.status !== "done" && button("Retry", post("retry")), button("Delete", remove)];
}
