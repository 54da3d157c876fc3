/** What was read of the data: one glance is to expose a misreading. */

import { element, facts, table } from "./dom.js";
import { percent } from "./format.js";

const MOST_CLASSES = 8;

/**
 * @param {any} summary null of a search by an older version.
 * @param {string} name of the data.
 */
export function dataView(summary, name) {
  if (!summary) return null;
  const { splits, text_columns, label_column, unread_columns, ignored_files, num_classes, classes, values, warnings } = summary;
  const rows = classes.slice(0, MOST_CLASSES).map((/** @type {any} */ one) => [one.name, bar(one.share, classes[0].share), percent(one.share)]);
  const known = /** @type {[string, any][]} */ ([
    ["Examples", Object.entries(splits).map(([split, count]) => `${Number(count).toLocaleString("en")} ${split}`).join(", ")],
    ["Texts", text_columns.join(", ")],
    ["Labels", values ? `${label_column}: numbers from ${short(values.least)} to ${short(values.greatest)}, ${short(values.mean)} on average` : `${label_column}: ${num_classes} classes`],
    unread_columns.length && ["Not read", `columns ${unread_columns.join(", ")}`],
    ignored_files.length && ["Passed over", ignored_files.join(", ")],
  ].filter(Boolean));
  return element(
    "section",
    { class: "card wide" },
    element("h2", {}, `Data: ${name}`),
    warnings.map((/** @type {string} */ text) => element("p", { class: "notice" }, text)),
    element(
      "div",
      { class: "grid" },
      facts(known),
      rows.length > 0 &&
        element(
          "div",
          {},
          table("Classes", ["class", element("span", { class: "unseen" }, "bar"), "share of training"], rows, { numbers: [2] }),
          num_classes > rows.length && element("p", { class: "hint" }, `And ${num_classes - rows.length} more.`),
        ),
    ),
  );
}

/**
 * @param {number} share
 * @param {number} most
 */
const bar = (share, most) => element("meter", { class: "share", min: 0, max: most || 1, value: share, "aria-label": percent(share) });

/** @param {number} value */
const short = (value) => String(Number(value.toPrecision(4)));
