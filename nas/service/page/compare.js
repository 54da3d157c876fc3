/** Models side by side, of one search or of several. */

import { askAll } from "./api.js";
import { element, fill, table } from "./dom.js";
import { architectureText, met, metricName, milliseconds, millions, percent, score, size } from "./format.js";
import { draw, SERIES } from "./plots.js";

const MOST = 8;

/** @typedef {{key: string, search: any, model: any}} Entry */

/** @type {import("./app.js").View} */
export async function showCompare(holder, _, query, signal) {
  const searches = await askAll("/v1/searches?status=done", { signal });
  /** @type {Entry[]} */
  const entries = searches.flatMap((search) => (search.models ?? []).map((/** @type {any} */ model) => ({ key: `${search.id}.${model.number}`, search, model })));
  const chosen = new Set(query.getAll("model").filter((key) => entries.some((entry) => entry.key === key)));
  const side = element("div", { class: "stack" });
  let current = new AbortController();
  signal.addEventListener("abort", () => current.abort());
  const update = () => {
    current.abort();
    current = new AbortController();
    // The address keeps the choice, and the view stays.
    history.replaceState(null, "", `#/compare${chosen.size ? "?" : ""}${[...chosen].map((key) => `model=${key}`).join("&")}`);
    const picked = entries.filter(({ key }) => chosen.has(key));
    for (const box of boxes) box.disabled = chosen.size >= MOST && !box.checked;
    fill(side, picked.length < 2 ? element("p", { class: "empty" }, "Choose two models or more.") : comparison(picked, current.signal));
  };
  const boxes = entries.map(({ key }) =>
    element("input", {
      type: "checkbox",
      checked: chosen.has(key),
      onchange: (/** @type {Event} */ event) => {
        if (/** @type {HTMLInputElement} */ (event.target).checked) chosen.add(key);
        else chosen.delete(key);
        update();
      },
    }),
  );
  fill(
    holder,
    element("h1", {}, "Compare models"),
    entries.length
      ? element(
          "fieldset",
          { class: "card picker" },
          element("legend", {}, `Finished models (up to ${MOST})`),
          element("div", { class: "checks" }, entries.map((entry, at) => element("label", { class: "check" }, boxes[at], element("span", {}, label(entry)), element("small", {}, `${entry.search.request.data} · ${milliseconds(entry.model.measured_ms)}`)))),
        )
      : element("p", { class: "empty" }, "No search is done yet. ", element("a", { href: "#/new" }, "Start one"), "."),
    side,
  );
  if (entries.length) update();
}

/** @param {Entry} entry */
const label = ({ search, model }) => `${model.budget} on ${model.target} (${search.name ?? search.id.slice(0, 6)})`;

/**
 * @param {Entry[]} picked
 * @param {AbortSignal} signal
 */
function comparison(picked, signal) {
  const models = picked.map(({ model }) => model);
  const of = (/** @type {(model: any) => any} */ figure) => models.map(figure);
  const scatter = element("div", { class: "plot", role: "img", "aria-label": "Plot of test score against measured latency of the chosen models." });
  const bars = element("div", { class: "plot", role: "img", "aria-label": "Bars of the parameters of the chosen models." });
  draw(scatter, (colors) => scattered(picked, colors), signal);
  draw(bars, (colors) => barred(picked, colors), signal);
  return [
    element(
      "section",
      { class: "card wide" },
      element("h2", {}, "Side by side"),
      table(
        "Chosen models",
        ["", ...picked.map((entry, at) => element("a", { href: `#/searches/${entry.search.id}` }, `${at + 1}. ${label(entry)}`))],
        [
          ["budget", ...of((one) => `${milliseconds(one.budget_ms)} (p${one.percentile})`)],
          ["measured", ...of((one) => milliseconds(one.measured_ms))],
          ["budget met", ...of((one) => (met(one) ? "yes" : "no"))],
          ["p50 / p95", ...of((one) => `${milliseconds(one.p50_ms)} / ${milliseconds(one.p95_ms)}`)],
          ["against the teacher", ...of((one) => `${one.speedup.toFixed(1)}x faster`)],
          ["score", ...of((one) => `${score(one.metric, one.score)} ${metricName(one.metric)}`)],
          ["of the teacher's", ...of((one) => (one.teacher_score > 0 ? percent(one.score / one.teacher_score) : "–"))],
          ["parameters", ...of((one) => millions(one.parameters))],
          ["archive", ...of((one) => size(one.archive.bytes))],
          ["architecture", ...of((one) => architectureText(one.architecture))],
          ["data", ...picked.map(({ search }) => search.request.data)],
        ],
        { numbers: picked.map((_, at) => at + 1) },
      ),
    ),
    element("div", { class: "grid" }, element("section", { class: "card" }, element("h2", {}, "Score and latency"), scatter), element("section", { class: "card" }, element("h2", {}, "Size"), bars)),
  ];
}

/**
 * @param {Entry[]} picked
 * @param {import("./plots.js").Colors} colors
 */
function scattered(picked, colors) {
  const metrics = [...new Set(picked.map(({ model }) => model.metric))];
  return {
    data: picked.map((entry, at) => {
      const { color, symbol } = SERIES[at % SERIES.length];
      const { model } = entry;
      return {
        type: "scatter",
        mode: "markers+text", // the number by which the table names it: it fits into its mark
        x: [model.measured_ms],
        y: [model.score],
        text: [String(at + 1)],
        textposition: "middle center",
        textfont: { color: colors.surface, size: 12 },
        cliponaxis: false,
        hovertext: [`${at + 1}. ${label(entry)}<br>${milliseconds(model.measured_ms)}, ${score(model.metric, model.score)}`],
        hoverinfo: "text",
        marker: { size: symbol === "triangle-up" ? 27 : 23, symbol, color: /** @type {any} */ (colors)[color] },
      };
    }),
    layout: {
      xaxis: { title: "measured latency, ms", range: fitted(picked.map(({ model }) => model.measured_ms)) },
      yaxis: { title: metrics.map(metricName).join(", "), tickformat: metrics.every((one) => score(one, 1).endsWith("%")) ? ".1%" : ".3f", range: fitted(picked.map(({ model }) => model.score)) },
    },
  };
}

/**
 * An axis's range around values, with room for the marks.
 * @param {number[]} values
 */
function fitted(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.15 * (high - low) || 0.05 * Math.abs(high) || 1;
  return [low - room, high + room];
}

/**
 * @param {Entry[]} picked
 * @param {import("./plots.js").Colors} colors
 */
function barred(picked, colors) {
  const parameters = picked.map(({ model }) => model.parameters / 1e6);
  return {
    data: [
      {
        type: "bar",
        x: picked.map(({ key }) => key),
        y: parameters,
        text: picked.map(({ model }) => millions(model.parameters)),
        textposition: "outside",
        cliponaxis: false,
        hoverinfo: "skip",
        marker: { color: picked.map((_, at) => /** @type {any} */ (colors)[SERIES[at % SERIES.length].color]) },
      },
    ],
    layout: {
      bargap: 0.45,
      xaxis: { tickvals: picked.map(({ key }) => key), ticktext: picked.map((_, at) => String(at + 1)) },
      yaxis: { title: "parameters, millions", range: [0, Math.max(...parameters) * 1.15] },
    },
  };
}
