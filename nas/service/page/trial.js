/** Tries the chosen teacher on the chosen data, before a search is started with both. */

import { ask } from "./api.js";
import { element, fill, failure } from "./dom.js";
import { metricName, score } from "./format.js";

/**
 * @param {() => {teacher: string, data: string, text_columns: string[] | null, label_column: string, metric: string | null, labels: string[] | null}} chosen
 * @param {AbortSignal} signal
 */
export function trial(chosen, signal) {
  const told = element("div", { role: "status", class: "told" });
  const button = element("button", { type: "button", class: "small", onclick: run }, "Try the teacher on the data");

  async function run() {
    const { teacher, ...asked } = chosen();
    button.disabled = true;
    fill(told, element("p", { class: "hint" }, "The service reads both, and predicts up to 200 examples. A large teacher takes a minute."));
    try {
      fill(told, lines(await ask(`/v1/teachers/${teacher}:try`, { method: "POST", json: asked, signal })));
    } catch (error) {
      const { status } = /** @type {any} */ (error);
      const unknown = element("p", { class: "hint" }, "Only teachers and data that were uploaded can be tried here. A search checks the others before it trains.");
      if (!signal.aborted) fill(told, status === 404 ? unknown : failure(error));
    }
    button.disabled = false;
  }

  return element("div", { class: "trial" }, button, told);
}

/** @param {any} found */
function lines({ data, metric, score: value, baseline_score, examples, doubt }) {
  const constant = `Always giving the same answer scores ${score(metric, baseline_score)}`;
  const verdict =
    value === null
      ? "The teacher has no head for these labels: a search trains one."
      : `The teacher's ${metricName(metric)} is ${score(metric, value)} on ${examples} validation examples. ${constant}.`;
  return [
    element("p", { class: doubt ? "notice bad" : "notice good" }, verdict, doubt && ` A search would refuse it: ${doubt}.`),
    data.map((/** @type {string} */ line) => element("p", { class: "hint" }, line)),
  ].flat();
}
