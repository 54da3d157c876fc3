/** What a finished search hands over: each model with its verdict, figures, files and plots. */

import { ask, askAll, download, token } from "./api.js";
import { dataView } from "./data.js";
import { announce, element, fill, failure, say, table, tabbed } from "./dom.js";
import { architectureText, met, metricName, milliseconds, millions, percent, score, size } from "./format.js";
import { frontView } from "./front.js";
import { predictedView } from "./predicted.js";

const UNSTEADY_PERCENT = 5;

/**
 * @param {any} search one that is done.
 * @param {AbortSignal} signal
 */
export function resultView(search, signal) {
  const models = search.models;
  if (models.length === 1) return modelView(search, models[0], signal);
  return tabbed("Models", models.map((/** @type {any} */ model) => ({ title: `${model.budget} on ${model.target}`, panel: () => modelView(search, model, signal) })));
}

/**
 * @param {any} search
 * @param {any} model
 * @param {AbortSignal} signal
 */
function modelView(search, model, signal) {
  const base = `/v1/searches/${search.id}/models/${model.number}`;
  const plots = element("div", { class: "grid plots-waiting" });
  const unsteady = element("p", { class: "notice", hidden: true });
  Promise.all([ask(`${base}/front`, { signal }), askAll("/v1/targets", { signal })])
    .then(([front, devices]) => {
      const repeats = front.predictor_errors?.floor_mape_percent;
      unsteady.hidden = !(repeats > UNSTEADY_PERCENT);
      say(unsteady, `Timings on ${model.target} are unsteady: the same models measured again were off by ${repeats?.toFixed(1)}% on average. Keep the device quiet, and search again, before you count on milliseconds.`);
      fill(plots, frontView(search, model, front, devices, signal), predictedView(front, signal), dataView(front.data_summary, search.request.data));
    })
    .catch((error) => signal.aborted || fill(plots, failure(error)));
  return element(
    "div",
    { class: "model" },
    element(
      "section",
      { class: `card verdict ${met(model) ? "good" : "bad"}` },
      element("h2", {}, `Budget ${met(model) ? "met" : "missed"}: ${milliseconds(model.measured_ms)} measured against ${milliseconds(model.budget_ms)} asked (p${model.percentile}).`),
      element("p", {}, quality(model)),
      model.warnings.map((/** @type {string} */ text) => element("p", { class: "notice bad" }, text)),
      unsteady,
      element("p", { class: "architecture" }, architectureText(model.architecture), element("span", { class: "chip" }, model.native ? "plain BERT" : "own modelling file")),
      files(search, model, base, signal),
    ),
    element("div", { class: "grid" }, element("section", { class: "card" }, element("h2", {}, "Model and teacher"), figures(model)), loading(model)),
    plots,
  );
}

/** @param {any} model */
function quality(model) {
  const share = model.teacher_score > 0 ? `${percent(model.score / model.teacher_score)} of the teacher's` : `the teacher's is ${score(model.metric, model.teacher_score)}`;
  return `${score(model.metric, model.score)} ${metricName(model.metric)}, ${share}, at ${model.speedup.toFixed(1)}x its speed.`;
}

/** @param {any} model */
function figures(model) {
  const times = (/** @type {number} */ value) => `${value.toFixed(1)}x`;
  return table(
    "Model and teacher",
    ["", "model", "teacher", "ratio"],
    [
      [`${metricName(model.metric)} on test`, score(model.metric, model.score), score(model.metric, model.teacher_score), model.teacher_score > 0 ? percent(model.score / model.teacher_score) : ""],
      [`latency, p${model.percentile}, measured`, milliseconds(model.measured_ms), milliseconds(model.teacher_ms), times(model.teacher_ms / model.measured_ms)],
      model.percentile === 95 ? ["latency, p50, measured", milliseconds(model.p50_ms), "", ""] : ["latency, p95, measured", milliseconds(model.p95_ms), "", ""],
      ["latency, p50, predicted", milliseconds(model.predicted_ms), "", ""],
      ["parameters", millions(model.parameters), millions(model.teacher_parameters), times(model.teacher_parameters / model.parameters)],
    ],
    { numbers: [1, 2, 3] },
  );
}

/**
 * @param {any} search
 * @param {any} model
 * @param {string} base
 * @param {AbortSignal} signal
 */
function files(search, model, base, signal) {
  const state = element("p", { class: "hint", role: "status" });
  if (search.expired) return element("p", { class: "notice" }, "The archive has gone, to make room. Run the search again: what is kept of its stages is reused.");
  const bar = element("progress", { max: 1, value: 0, "aria-label": "Download", hidden: true });
  const name = `${search.id}-${model.number}.zip`;
  const label = `Download the model (${size(model.archive.bytes)})`;
  const save = async (/** @type {Event} */ event) => {
    const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
    button.disabled = true;
    bar.hidden = false;
    try {
      const blob = await download(`${base}/archive`, (share) => (bar.value = share ?? 0), signal);
      await check(blob, model.archive.sha256);
      const url = URL.createObjectURL(blob);
      element("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      say(state, `${name} is saved.`);
      announce(`${name} is saved.`);
    } catch (error) {
      if (!signal.aborted) say(state, /** @type {Error} */ (error).message);
    }
    bar.hidden = true;
    button.disabled = false;
  };
  // Without a token the browser downloads by itself: to disk, and on from where it broke off.
  const open = token() === null;
  return element(
    "div",
    { class: "files" },
    open
      ? element("a", { class: "button primary", href: `${base}/archive`, download: name }, label)
      : element("button", { type: "button", class: "primary", onclick: save }, label),
    open
      ? element("a", { class: "button", href: `${base}/report.html`, target: "_blank", rel: "noopener" }, "Full report")
      : element("button", { type: "button", onclick: () => openReport(`${base}/report.html`, state, signal) }, "Full report"),
    element("a", { class: "button", href: `#/compare?model=${search.id}.${model.number}` }, "Compare"),
    bar,
    state,
    element("p", { class: "digest" }, "sha256 ", element("code", {}, model.archive.sha256)),
  );
}

/**
 * Refuse a download that is not what the service announced. Only where the browser can compute it:
 * on loopback and under https.
 * @param {Blob} blob
 * @param {string} sha256
 */
async function check(blob, sha256) {
  if (!globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw new Error("What arrived is not what the service sent. Try again.");
}

/**
 * Open a report that needs the token. The window is opened within the click, before the answer: a
 * later one would be blocked. A blob's page has this page's policy, and the report has no scripts.
 * @param {string} path
 * @param {HTMLElement} state
 * @param {AbortSignal} signal
 */
async function openReport(path, state, signal) {
  const opened = window.open("", "_blank");
  try {
    const url = URL.createObjectURL(await download(path, () => {}, signal));
    if (opened) opened.location.href = url;
    else fill(state, element("a", { href: url, download: "report.html" }, "Save the report"));
    setTimeout(() => URL.revokeObjectURL(url), 600_000);
  } catch (error) {
    opened?.close();
    if (!signal.aborted) say(state, /** @type {Error} */ (error).message);
  }
}

/**
 * How to load the model.
 * @param {any} model
 */
function loading(model) {
  const trust = model.native ? "" : ", trust_remote_code=True";
  const code = [
    "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
    "",
    '# "model" is the folder in the archive',
    'tokenizer = AutoTokenizer.from_pretrained("model")',
    `model = AutoModelForSequenceClassification.from_pretrained("model"${trust})`,
    'logits = model(**tokenizer("Parse dates from strings", return_tensors="pt")).logits',
    "print(model.config.id2label[logits.argmax().item()])",
  ].join("\n");
  return element(
    "section",
    { class: "card" },
    element("h2", {}, "Load it"),
    snippet(code),
    element("p", { class: "hint" }, "model.onnx in the same archive is for ONNX Runtime.", model.native ? "" : " Its small modelling file comes with it; read it before you trust it."),
  );
}

/**
 * Code with a button that copies it.
 * @param {string} code
 */
export function snippet(code) {
  const copy = async (/** @type {Event} */ event) => {
    await navigator.clipboard.writeText(code);
    say(/** @type {Element} */ (event.currentTarget), "Copied");
    announce("Copied");
  };
  return element(
    "div",
    { class: "snippet" },
    element("pre", { tabindex: 0 }, element("code", {}, code)),
    navigator.clipboard && element("button", { type: "button", class: "small", onclick: copy }, "Copy"),
  );
}
