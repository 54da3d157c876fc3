/** What users have uploaded: data sets, teachers and supernets, with what was found in them. */

import { ask, askAll } from "./api.js";
import { mayChange } from "./caller.js";
import { confirmed, doing, element, facts, fill } from "./dom.js";
import { ago, millions, size } from "./format.js";
import { sharing } from "./sharing.js";

const KINDS = /** @type {const} */ ([
  ["datasets", "data set", "Data sets", dataFacts],
  ["teachers", "teacher", "Teachers", teacherFacts],
  ["supernets", "supernet", "Supernets", supernetFacts],
]);

/** @type {import("./app.js").View} */
export async function showUploads(holder, _, __, signal) {
  const found = await Promise.all(KINDS.map(([kind]) => askAll(`/v1/${kind}`, { signal })));
  const again = () => signal.aborted || showUploads(holder, _, __, signal);
  fill(
    holder,
    element("h1", {}, "Uploads"),
    element("p", { class: "lead" }, "Data, teachers and supernets that a search may name, with what the service found in them. Upload more ", element("a", { href: "#/new" }, "where a search is started"), "."),
    KINDS.map(([kind, one, title, told], at) => [
      element("h2", { class: "group" }, title),
      found[at].length
        ? element("div", { class: "grid" }, found[at].map((upload) => card(kind, one, upload, told(upload), again)))
        : element("p", { class: "hint" }, `No ${one} is uploaded.`),
    ]).flat(),
  );
}

/**
 * @param {string} kind
 * @param {string} one
 * @param {any} upload
 * @param {[string, string][]} told
 * @param {() => void} again
 */
function card(kind, one, upload, told, again) {
  const path = `/v1/${kind}/${upload.name}`;
  const remove = async () => {
    if (!(await confirmed(`Delete ${upload.name}?`, `Searches that have ended keep their models; no new one can use this ${one}.`, "Delete"))) return false;
    await ask(path, { method: "DELETE" });
    return true;
  };
  return element(
    "section",
    { class: "card" },
    element("div", { class: "title-row" }, element("h3", {}, upload.name), element("span", { class: "hint" }, `${upload.owner}, ${ago(upload.created)}`)),
    facts([...told, ["Size", size(upload.bytes)]]),
    sharing(path, upload, upload.name),
    mayChange(upload.owner) && element("div", { class: "actions" }, doing("Delete", upload.name, remove, again)),
  );
}

/**
 * @param {any} data
 * @returns {[string, string][]}
 */
function dataFacts({ splits, columns, labels }) {
  return [
    ["Rows", Object.entries(splits).map(([split, rows]) => `${rows.toLocaleString("en")} ${split}`).join(", ")],
    ["Columns", columns.map((/** @type {any} */ one) => one.name).join(", ")],
    ["Labels", labels ? labelText(labels) : "no column is called label"],
  ];
}

/** @param {{classes: number | null, names: string[]}} labels */
function labelText({ classes, names }) {
  if (classes === null) return "numbers";
  return `${classes} classes: ${listed(names, classes)}`;
}

/**
 * @param {any} teacher
 * @returns {[string, string][]}
 */
function teacherFacts({ model_type, layers, hidden_size, parameters, labels }) {
  return [
    ["Type", `${model_type}, ${layers} layers of ${hidden_size}, ${millions(parameters)} parameters`],
    ["Head", labels ? `${labels.length} outputs: ${listed(labels, labels.length)}` : "none: a search trains one"],
  ];
}

/**
 * @param {any} supernet
 * @returns {[string, string][]}
 */
function supernetFacts({ architecture, labels, parameters }) {
  return [
    ["Largest", `${architecture.layers.length} layers of ${architecture.hidden_size}, ${millions(parameters)} parameters`],
    ["Classes", `${labels.length}: ${listed(labels, labels.length)}`],
  ];
}

/**
 * @param {string[]} names
 * @param {number | null} count
 */
function listed(names, count) {
  const shown = names.slice(0, 8).join(", ");
  return (count ?? 0) > 8 ? `${shown}, ...` : shown;
}
