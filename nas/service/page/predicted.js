/** Predicted against measured latency, beside how well a measurement repeats itself. */

import { element, table } from "./dom.js";
import { architectureText, figure, milliseconds } from "./format.js";
import { draw, legend, logTicks } from "./plots.js";

/**
 * @param {any} front
 * @param {AbortSignal} signal
 */
export function predictedView(front, signal) {
  const plot = element("div", { class: "plot", role: "img", "aria-label": `Plot of measured against predicted latency: ${front.calibration.length} calibration models and ${front.candidates.length} candidates.` });
  draw(plot, (colors) => plotted(front, colors), signal);
  return element(
    "section",
    { class: "card wide" },
    element("h2", {}, "Predicted against measured"),
    element("div", { class: "beside even" }, element("figure", {}, plot, legend([["front", "dot", "calibration model"], ["chosen", "diamond", "candidate"], ["muted", "line dashed", "equal"]])), errorCard(front.predictor_errors)),
  );
}

/**
 * A predictor's errors, beside the floor that no predictor can be much better than.
 * @param {Record<string, any> | null} errors
 */
export function errorCard(errors) {
  if (!errors || errors.mape_percent === undefined) return element("p", { class: "hint" }, "No error figures: too few models were measured.");
  const row = (/** @type {string} */ name, /** @type {any} */ own) => [name, figure(own.models), error(own.mape_percent), share(own.within_5_percent), share(own.within_10_percent)];
  const again = Object.fromEntries(Object.entries(errors).filter(([name]) => name.startsWith("floor_")).map(([name, value]) => [name.slice("floor_".length), value]));
  const share = (/** @type {number | undefined} */ value) => (value === undefined || value === null ? "–" : `${(100 * value).toFixed(0)}%`);
  const error = (/** @type {number | undefined} */ value) => (value === undefined || value === null ? "–" : `${value.toFixed(1)}%`);
  return element(
    "div",
    {},
    table(
      "Errors of the latency predictor",
      ["", "models", "mean error", "within 5%", "within 10%"],
      [
        row("all models", errors),
        ...Object.entries(errors.by_latency ?? {}).map(([range, own]) => row(range, own)),
        row("measured again", again),
      ],
      { numbers: [1, 2, 3, 4] },
    ),
    element("p", { class: "hint" }, "Measured again: how far a second measurement of the same models is off the first.", errors.margin_95_percent ? ` 19 of 20 models take at most ${errors.margin_95_percent.toFixed(1)}% more than is predicted.` : ""),
  );
}

/**
 * @param {any} front
 * @param {import("./plots.js").Colors} colors
 */
function plotted({ candidates, calibration }, colors) {
  const all = [...candidates, ...calibration].flatMap((one) => [one.predicted_ms, one.measured_ms]);
  const [low, high] = all.length ? [Math.min(...all) / 1.2, Math.max(...all) * 1.2] : [0.1, 10];
  const trace = (/** @type {any[]} */ points, /** @type {any} */ own) => ({
    type: "scatter",
    mode: "markers",
    x: points.map((one) => one.predicted_ms),
    y: points.map((one) => one.measured_ms),
    text: points.map((one) => `${one.architecture ? `${architectureText(one.architecture)}<br>` : ""}${milliseconds(one.predicted_ms)} predicted<br>${milliseconds(one.measured_ms)} measured`),
    hoverinfo: "text",
    ...own,
  });
  const axis = (/** @type {string} */ title) => {
    const ticks = logTicks(low, high);
    return { title, type: "log", range: [Math.log10(low), Math.log10(high)], tickvals: ticks, ticktext: ticks.map(String) };
  };
  return {
    data: [
      { type: "scatter", mode: "lines", x: [low, high], y: [low, high], hoverinfo: "skip", line: { color: colors.muted, width: 1, dash: "dash" } },
      trace(calibration, { marker: { color: colors.front, opacity: 0.65, size: 8 } }),
      trace(candidates, { marker: { color: colors.chosen, symbol: "diamond", size: 11, line: { color: colors.surface, width: 1 } } }),
    ],
    layout: { xaxis: axis("predicted, ms"), yaxis: axis("measured, ms") },
  };
}
