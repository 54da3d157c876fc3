/** How far a running search is: its stages, the best so far, the lines of its log. */

import { element, fill, say, table } from "./dom.js";
import { duration, figure, milliseconds, percent } from "./format.js";

const MOST_LINES = 500;

/**
 * @param {string[]} budgets
 * @param {string[]} targets
 * @returns {{node: HTMLElement, take: (event: import("./events.js").ServerEvent) => void, connection: (connected: boolean) => void}}
 */
export function progressView(budgets, targets) {
  const stages = stageList();
  const board = boardView(budgets, targets);
  const log = logView();
  const connection = element("p", { class: "connection", role: "status" });
  const waiting = element("p", { class: "hint" }, "Waiting for a worker.");
  const node = element(
    "div",
    { class: "grid progress" },
    element("section", { class: "card" }, element("h2", {}, "Stages"), connection, waiting, stages.node),
    element("section", { class: "card" }, element("h2", {}, "Best so far"), board.node),
    element("section", { class: "card wide" }, element("h2", { id: "log-title" }, "Log"), log.node),
  );
  let attempt = 0;
  /** @type {Record<string, (data: any) => void>} */
  const takers = {
    status: ({ status, attempt: current }) => {
      if (current > attempt) stages.clear();
      attempt = current;
      waiting.hidden = status !== "queued";
    },
    stage: stages.stage,
    progress: stages.progress,
    search: board.show,
    line: log.add,
  };
  return {
    node,
    take: ({ kind, data }) => takers[kind]?.(data),
    connection: (connected) => say(connection, connected ? "" : "The connection broke off. Trying again."),
  };
}

/** The stages, each with a bar and its time. */
function stageList() {
  /** @type {Map<string, {row: HTMLElement, bar: HTMLProgressElement, time: HTMLElement, note: HTMLElement}>} */
  const known = new Map();
  const node = element("ol", { class: "stages" });
  const row = (/** @type {string} */ stage) => {
    const found = known.get(stage);
    if (found) return found;
    const bar = element("progress", { max: 1, "aria-label": stage });
    const time = element("span", { class: "time" });
    const note = element("span", { class: "note" });
    const made = { row: element("li", {}, element("span", { class: "stage-name" }, stage.replaceAll("_", " ")), time, bar, note), bar, time, note };
    known.set(stage, made);
    node.append(made.row);
    return made;
  };
  return {
    node,
    clear: () => (known.clear(), fill(node)),
    stage: (/** @type {any} */ { stage, state, seconds, reused }) => {
      const { row: line, bar, time, note } = row(stage);
      line.className = state;
      if (state !== "ended") return;
      bar.value = 1;
      say(time, reused ? "reused" : duration(seconds ?? 0));
      say(note, "");
    },
    progress: (/** @type {any} */ { stage, title, done, total, note: text }) => {
      const { bar, time, note } = row(stage);
      if (total) bar.value = done / total;
      if (total === 1) say(time, percent(done));
      else say(time, total ? `${figure(done)}/${figure(total)}` : figure(done));
      say(note, text ? `${title}: ${text}` : title);
    },
  };
}

/**
 * The best of each budget, as the search goes on. All its lines are there from the beginning.
 * @param {string[]} budgets
 * @param {string[]} targets
 */
function boardView(budgets, targets) {
  const names = targets.flatMap((target) => budgets.map((budget) => (targets.length > 1 ? `${budget} on ${target}` : budget)));
  const pace = element("p", { class: "hint pace" }, "The search has not begun.");
  const holder = element("div", {});
  const rows = (/** @type {any[]} */ best) =>
    fill(
      holder,
      table(
        "Best so far",
        ["budget", "predicted", "score", "architecture"],
        names.map((name, at) => {
          const one = best[at];
          return one ? [one.budget ?? name, milliseconds(one.latency_ms), one.score.toFixed(4), one.architecture] : [name, "–", "–", "nothing yet"];
        }),
        { numbers: [1, 2] },
      ),
    );
  rows([]);
  return {
    node: element("div", {}, pace, holder),
    show: (/** @type {any} */ { scored, planned, front_size, per_minute, seconds_left, expected_gain, best }) => {
      const parts = [`${scored}/${planned} evaluations`, per_minute && `${figure(per_minute)} a minute`, `${front_size} on the front`, seconds_left !== null && seconds_left !== undefined && `${duration(seconds_left)} left`, expected_gain > 1e-9 && `next expected to gain ${figure(expected_gain)}`];
      say(pace, parts.filter(Boolean).join(", "));
      rows(best);
    },
  };
}

/** The lines, the newest in sight unless someone reads an older one. */
function logView() {
  const node = element("ol", { class: "log", role: "log", tabindex: 0, "aria-labelledby": "log-title" });
  return {
    node,
    add: (/** @type {any} */ { text, level }) => {
      const atEnd = node.scrollHeight - node.scrollTop - node.clientHeight < 24;
      node.append(element("li", { class: level }, text));
      if (node.childElementCount > MOST_LINES) node.firstElementChild?.remove();
      if (atEnd) node.scrollTop = node.scrollHeight;
    },
  };
}
