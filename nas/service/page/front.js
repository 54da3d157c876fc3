/** The front with a budget that can be moved: the architecture within it follows at once. */

import { ask } from "./api.js";
import { element, facts, fill } from "./dom.js";
import { architectureText, isShare, metricName, milliseconds, millions, score } from "./format.js";
import { AREA, draw, legend, logTicks } from "./plots.js";

const STEPS = 1000;
const PATIENCE_MS = 80;

/**
 * @param {any} search
 * @param {any} model
 * @param {any} front of the model, as the service gives it.
 * @param {any[]} devices registered ones, where the budget may be meant instead.
 * @param {AbortSignal} signal
 */
export function frontView(search, model, front, devices, signal) {
  const id = `front-${model.number}`;
  /** @type {{target: string | null, budget: number, answer: any, low: number, high: number, shown: any}} */
  const state = { target: null, budget: front.budget_ms, answer: null, shown: front, ...span(front) };
  let redraw = () => {};

  const plot = element("div", { class: "plot", role: "img", "aria-label": described(front) });
  const line = element("div", { class: "budget-line", "aria-hidden": "true" }, element("span", { class: "grip" }));
  const frame = element("div", { class: "plot-frame" }, plot, line);
  const slider = element("input", { type: "range", id: `${id}-slider`, min: 0, max: STEPS, step: 1 });
  const number = element("input", { type: "number", id: `${id}-number`, min: 0, step: "any", inputmode: "decimal" });
  const answer = element("div", { class: "answer", "aria-live": "polite", "aria-atomic": "true" });
  const others = devices.filter(({ name, profile }) => name !== model.target && profile);
  const target = element(
    "select",
    { id: `${id}-target` },
    element("option", { value: "" }, model.target),
    others.map(({ name }) => element("option", { value: name }, name)),
  );

  const share = () => (Math.log(state.budget / state.low) / Math.log(state.high / state.low));
  const place = () => {
    const at = Math.min(1, Math.max(0, share()));
    line.style.left = `calc(${AREA.left}px + (100% - ${AREA.left + AREA.right}px) * ${at})`;
    slider.value = String(Math.round(at * STEPS));
    slider.setAttribute("aria-valuetext", milliseconds(state.budget));
    if (document.activeElement !== number) number.value = String(Number(state.budget.toPrecision(4)));
  };
  const query = latest(async (current) => {
    try {
      const found = await ask("/v1/architectures:query", {
        method: "POST",
        json: { search: search.id, model: model.number, budget: `${Number(state.budget.toPrecision(6))}ms${front.percentile === 95 ? "@p95" : ""}`, target: state.target },
        signal: current,
      });
      state.answer = found;
      showAnswer(answer, found, model, state.target ?? model.target);
    } catch (error) {
      if (current.aborted) return;
      state.answer = null;
      fill(answer, element("p", { class: "field-problem" }, /** @type {Error} */ (error).message));
    }
    redraw();
  }, signal);
  const move = (/** @type {number} */ budget) => {
    state.budget = budget;
    place();
    query();
  };
  const moveToShare = (/** @type {number} */ at) => move(state.low * (state.high / state.low) ** Math.min(1, Math.max(0, at)));

  slider.addEventListener("input", () => moveToShare(Number(slider.value) / STEPS));
  number.addEventListener("input", () => Number(number.value) > 0 && move(Number(number.value)));
  number.addEventListener("change", place);
  draggable(line, frame, moveToShare);
  target.addEventListener("change", async () => {
    state.target = target.value || null;
    try {
      state.shown = state.target === null ? front : await onTarget(front, state.target, signal);
      Object.assign(state, span(state.shown));
      move(Math.min(state.high, Math.max(state.low, state.budget)));
    } catch (error) {
      fill(answer, element("p", { class: "field-problem" }, /** @type {Error} */ (error).message));
    }
  });

  place();
  query();
  draw(plot, (colors) => figure(state, front, colors), signal).then((again) => (redraw = again));
  return element(
    "section",
    { class: "card wide" },
    element("h2", {}, "Move the budget"),
    element("p", { class: "hint" }, "Every dot is an architecture, with the score that its developed model is expected to have. Drag the line, or use the controls: the best within the budget is found at once, without training."),
    element(
      "div",
      { class: "beside" },
      element(
        "figure",
        {},
        frame,
        element("div", { class: "slider-row" }, element("label", { class: "unseen", for: slider.id }, `Latency budget, p${front.percentile}`), slider),
        legend([["cloud", "dot", "scored"], ["front", "line", "front"], ["chosen", "ring", "best within the budget"], ["chosen", "star", "this model, measured"], ["teacher", "square", "teacher, measured"]]),
      ),
      element(
        "div",
        { class: "front-side" },
        element(
          "div",
          { class: "field-pair" },
          element("div", { class: "field" }, element("label", { for: number.id }, `Budget in ms (p${front.percentile})`), number),
          others.length > 0 && element("div", { class: "field" }, element("label", { for: target.id }, "On target"), target),
        ),
        answer,
      ),
    ),
  );
}

/**
 * Runs only the newest call, a moment after the last; those before it are aborted.
 * @param {(signal: AbortSignal) => Promise<void>} work
 * @param {AbortSignal} signal
 */
function latest(work, signal) {
  let running = new AbortController();
  let timer = 0;
  return () => {
    running.abort();
    clearTimeout(timer);
    running = new AbortController();
    const current = AbortSignal.any([running.signal, signal]);
    timer = setTimeout(() => current.aborted || work(current), PATIENCE_MS);
  };
}

/**
 * Moves the line with a mouse, a pen or a finger.
 * @param {HTMLElement} line
 * @param {HTMLElement} frame
 * @param {(share: number) => void} moveTo
 */
function draggable(line, frame, moveTo) {
  line.addEventListener("pointerdown", (event) => {
    line.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  line.addEventListener("pointermove", (event) => {
    if (!line.hasPointerCapture(event.pointerId)) return;
    const { left, width } = frame.getBoundingClientRect();
    moveTo((event.clientX - left - AREA.left) / (width - AREA.left - AREA.right));
  });
}

/**
 * The axis: from the fastest architecture to a little beyond the slowest.
 * @param {any} front
 */
function span(front) {
  const all = [...front.points, ...front.evaluations].map(({ latency_ms }) => latency_ms);
  if (front.teacher) all.push(front.teacher.latency_ms, front.model.latency_ms);
  return { low: Math.min(...all) / 1.15, high: Math.max(...all) * 1.15 };
}

/**
 * The same architectures with their latencies on another target; nothing is measured there.
 * @param {any} front
 * @param {string} target
 * @param {AbortSignal} signal
 */
async function onTarget(front, target, signal) {
  const scored = front.evaluations.length ? front.evaluations.filter((/** @type {any} */ one) => one.within_caps) : front.points;
  const predicted = [];
  for (let at = 0; at < scored.length; at += 500) {
    const architectures = scored.slice(at, at + 500).map((/** @type {any} */ one) => one.architecture);
    const found = await ask(`/v1/targets/${target}:predict`, { method: "POST", json: { architectures, percentile: front.percentile }, signal });
    predicted.push(...found.architectures);
  }
  const evaluations = scored.map((/** @type {any} */ one, /** @type {number} */ at) => ({ ...one, latency_ms: predicted[at].latency_ms }));
  return { ...front, evaluations, points: nonDominated(evaluations), model: null, teacher: null };
}

/**
 * @param {{latency_ms: number, score: number}[]} points
 */
export function nonDominated(points) {
  let best = -Infinity;
  const sorted = [...points].sort((a, b) => a.latency_ms - b.latency_ms || b.score - a.score);
  return sorted.filter(({ score: value }) => value > best && ((best = value), true));
}

/** @param {any} front */
const described = (front) =>
  `Plot of ${metricName(front.metric)} against latency: ${front.evaluations.length || front.points.length} scored architectures, ${front.points.length} of them on the front.`;

/**
 * @param {any} state
 * @param {any} front
 * @param {import("./plots.js").Colors} colors
 */
function figure({ shown, answer, low, high }, front, colors) {
  const hover = (/** @type {any[]} */ points) => points.map((one) => `${architectureText(one.architecture)}<br>${milliseconds(one.latency_ms)} predicted, ${score(front.metric, one.score)}`);
  const trace = (/** @type {any[]} */ points, /** @type {any} */ own) => ({
    type: "scatter",
    x: points.map((one) => one.latency_ms),
    y: points.map((one) => one.score),
    hoverinfo: "text",
    mode: "markers",
    ...own,
  });
  const single = (/** @type {any} */ point, /** @type {string} */ text, /** @type {any} */ marker) => trace(point ? [point] : [], { text: [text], marker });
  const ticks = logTicks(low, high);
  const data = [
    trace(shown.evaluations, { text: hover(shown.evaluations), marker: { color: colors.cloud, size: 7 } }),
    trace(shown.points, { text: hover(shown.points), mode: "lines+markers", line: { color: colors.front, width: 2, shape: "hv" }, marker: { color: colors.front, size: 7 } }),
    single(shown.teacher, `teacher<br>${milliseconds(shown.teacher?.latency_ms)} measured, ${score(front.metric, front.teacher.score)} on test`, { color: colors.teacher, symbol: "square", size: 11, line: { color: colors.surface, width: 1.5 } }),
    single(shown.model, `this model<br>${milliseconds(shown.model?.latency_ms)} measured, ${score(front.metric, front.model.score)} on test`, { color: colors.chosen, symbol: "star", size: 14, line: { color: colors.surface, width: 1 } }),
    single(answer, "best within the budget", { color: "rgba(0,0,0,0)", size: 17, line: { color: colors.chosen, width: 3 } }),
  ];
  return {
    data,
    layout: {
      xaxis: { title: `latency, ms (p${front.percentile})`, type: "log", range: [Math.log10(low), Math.log10(high)], tickvals: ticks, ticktext: ticks.map(String) },
      yaxis: { title: metricName(front.metric), tickformat: isShare(front.metric) ? ".0%" : ".2f" },
    },
  };
}

/**
 * @param {HTMLElement} holder
 * @param {any} found
 * @param {any} model
 * @param {string} target
 */
function showAnswer(holder, found, model, target) {
  const { architecture } = found;
  const groups = runs(architecture.layers);
  const widest = Math.max(...architecture.layers.map((/** @type {any} */ one) => one.intermediate_size), ...model.architecture.layers.map((/** @type {any} */ one) => one.intermediate_size), architecture.hidden_size);
  const bar = (/** @type {string} */ kind, /** @type {number} */ value) => {
    const made = element("span", { class: `layer-bar ${kind}` });
    made.style.width = `${(100 * value) / widest}%`;
    return made;
  };
  fill(
    holder,
    element("p", { class: "chosen-name" }, architectureText(architecture)),
    facts([
      ["Predicted", `${milliseconds(found.latency_ms)} (p${found.percentile}) on ${target}`],
      [metricName(found.metric), `${score(found.metric, found.score)} expected once developed`],
      ["Parameters", millions(found.parameters)],
      ["Sizes", `${architecture.layers.length} layer${architecture.layers.length === 1 ? "" : "s"}, hidden size ${architecture.hidden_size}`],
    ]),
    element(
      "ul",
      { class: "layers", "aria-label": "Layers" },
      groups.map(({ first, last, layer: one }) =>
        element(
          "li",
          {},
          element("strong", {}, first === last ? `Layer ${first}` : `Layers ${first} to ${last}`),
          element("span", { class: "layer-bars", "aria-hidden": "true" }, bar("attention", one.qkv_size), bar("intermediate", one.intermediate_size)),
          element("span", {}, `${one.num_heads} heads, attention ${one.qkv_size}, feed-forward ${one.intermediate_size}`),
        ),
      ),
    ),
  );
}

/**
 * Equal layers that follow each other, counted from 1.
 * @param {import("./format.js").Layer[]} layers
 */
function runs(layers) {
  /** @type {{first: number, last: number, layer: import("./format.js").Layer}[]} */
  const found = [];
  layers.forEach((layer, at) => {
    const open = found.at(-1);
    if (open && JSON.stringify(open.layer) === JSON.stringify(layer)) open.last = at + 1;
    else found.push({ first: at + 1, last: at + 1, layer });
  });
  return found;
}
