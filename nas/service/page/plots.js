/** Plots by plotly.js, in the page's own colours, light or dark. */

import { element } from "./dom.js";

const DARK = matchMedia("(prefers-color-scheme: dark)");
const MARGIN = { l: 64, r: 16, t: 12, b: 48 };

/** @type {Promise<any> | null} */
let loading = null;

/** plotly.js, fetched when the first plot is drawn. */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = element("script", {
      src: "/assets/plotly.min.js",
      onload: () => resolve(/** @type {any} */ (window).Plotly),
      onerror: () => ((loading = null), reject(new Error("The plots cannot be loaded; try again."))),
    });
    document.head.append(script);
  });
  return loading;
}

/** @typedef {{ink: string, muted: string, rule: string, surface: string, front: string, chosen: string, teacher: string, cloud: string}} Colors */

/** @returns {Colors} */
function colors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "muted", "rule", "surface", "front", "chosen", "teacher", "cloud"];
  return /** @type {any} */ (Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])));
}

/** Colours and symbols of models that stand beside each other. */
export const SERIES = [
  { color: "front", symbol: "circle" },
  { color: "chosen", symbol: "diamond" },
  { color: "teacher", symbol: "square" },
  { color: "muted", symbol: "triangle-up" },
];

/**
 * A plot that follows the colour scheme and the window's width.
 * @param {HTMLElement} node of a fixed height, so that nothing moves when it is drawn.
 * @param {(colors: Colors) => {data: any[], layout: any}} build
 * @param {AbortSignal} signal
 * @returns {Promise<() => void>} draws it again.
 */
export async function draw(node, build, signal) {
  const library = await plotly();
  const again = () => {
    const palette = colors();
    const { data, layout } = build(palette);
    library.react(node, data, framed(layout, palette), { displayModeBar: false, responsive: true, showTips: false });
  };
  again();
  DARK.addEventListener("change", again, { signal });
  signal.addEventListener("abort", () => library.purge(node));
  return again;
}

/**
 * @param {any} layout
 * @param {Colors} palette
 */
function framed(layout, palette) {
  const axis = (/** @type {any} */ own) => ({
    gridcolor: palette.rule,
    linecolor: palette.rule,
    zeroline: false,
    fixedrange: true,
    automargin: false,
    tickfont: { size: 12 },
    ...own,
    title: { text: own?.title ?? "", font: { size: 13 }, standoff: 8 },
  });
  return {
    autosize: true,
    dragmode: false,
    hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: palette.ink },
    hoverlabel: { bgcolor: palette.surface, bordercolor: palette.rule, font: { color: palette.ink }, align: "left" },
    showlegend: false,
    margin: MARGIN,
    ...layout,
    xaxis: axis(layout.xaxis),
    yaxis: axis(layout.yaxis),
  };
}

/** Where the plotting area stands in the node, in pixels. */
export const AREA = { left: MARGIN.l, right: MARGIN.r, top: MARGIN.t, bottom: MARGIN.b };

/**
 * Round values for the ticks of a logarithmic axis.
 * @param {number} low
 * @param {number} high
 * @param {number} most
 */
export function logTicks(low, high, most = 7) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const lead of [1, 2, 5]) all.push(Number((lead * 10 ** power).toPrecision(1)));
  }
  const inside = all.filter((value) => value >= low && value <= high);
  const step = Math.ceil(inside.length / most);
  return inside.filter((_, at) => at % step === 0);
}

/**
 * A key to a plot, in text beside it: plotly's own takes the plot's room on a phone.
 * @param {[string, string, string][]} entries class of the mark, its shape and what it stands for.
 */
export const legend = (entries) =>
  element("ul", { class: "legend" }, entries.map(([color, shape, text]) => element("li", {}, element("span", { class: `mark ${color} ${shape}`, "aria-hidden": "true" }), text)));
