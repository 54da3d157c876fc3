/** Starts a search: what to learn, where it must run and how fast, and how long to look. */

import { ask } from "./api.js";
import { may } from "./caller.js";
import { element, fill, say } from "./dom.js";
import { isAway } from "./devices.js";
import { foreseen } from "./forecast.js";
import { ago } from "./format.js";
import { trial } from "./trial.js";
import { uploader } from "./uploader.js";

const RECIPES = {
  quick: "quick: a first answer, 4 to 8 minutes of two cores",
  standard: "standard: 6 to 12 minutes of two cores",
  full: "full: the most work, and longer",
  best: "best: what scored best in our comparison of recipes",
};
const NARROW = 640; // px

/** @type {import("./app.js").View} */
export async function showForm(holder, _, __, signal) {
  fill(
    holder,
    element("h1", {}, "How fast must your model be?"),
    element("p", { class: "lead" }, "Name a latency budget and a device. You get a small model distilled from your teacher, timed on that device and within the budget."),
  );
  if (!may("submit")) {
    holder.append(element("p", { class: "empty" }, "Your token does not start searches: it lacks the scope submit. ", element("a", { href: "#/searches" }, "Look at those there are"), "."));
    return;
  }
  const catalog = await ask("/v1/catalog", { signal });
  const summary = element("p", { class: "notice bad", role: "alert", tabindex: -1, hidden: true });
  const button = element("button", { class: "primary large" }, "Start the search");
  const wait = element("p", { class: "hint", role: "status" });
  const form = element("form", { class: "start", novalidate: true }, ...sections(catalog, signal), summary, element("div", { class: "submit" }, button, wait));
  const recipe = /** @type {HTMLSelectElement} */ (form.querySelector("#recipe"));
  const foresee = async () => {
    const asked = recipe.value;
    const text = await foreseen(asked, signal).catch(() => "");
    if (asked === recipe.value) say(wait, text); // an answer that comes late is of another recipe
  };
  recipe.addEventListener("change", foresee);
  foresee();
  let sent = { text: "", key: "" };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearProblems(form, summary);
    const { request, problems } = read(form);
    if (problems.length) return showProblems(form, summary, problems, "");
    const text = JSON.stringify(request);
    // The same request sent again, after an answer that got lost, starts no second search.
    if (sent.text !== text) sent = { text, key: newKey() };
    button.disabled = true;
    try {
      const search = await ask("/v1/searches", { method: "POST", json: request, headers: { "Idempotency-Key": sent.key }, signal });
      location.hash = `#/searches/${search.id}`;
    } catch (error) {
      if (!signal.aborted) showProblems(form, summary, fieldsOf(/** @type {any} */ (error)), /** @type {Error} */ (error).message);
    }
    button.disabled = false;
    return undefined;
  });
  holder.append(form);
}

/**
 * @param {any} catalog
 * @param {AbortSignal} signal
 */
function sections(catalog, signal) {
  const teacher = choice("teacher", "Teacher", named(catalog.teachers, "minilm"), "The BERT-like model whose knowledge is passed on.");
  const data = choice("data", "Data", named(catalog.datasets, "pydoc"), "Texts and labels that the model is trained and tested on. pydoc is built here, from the docstrings of Python packages.");
  const addedTo = (/** @type {HTMLElement} */ field) => (/** @type {string} */ name) => {
    const select = /** @type {HTMLSelectElement} */ (field.querySelector("select"));
    if (![...select.options].some((option) => option.value === name)) select.append(element("option", { value: name }, name));
    select.value = name;
  };
  return [
    section(
      "What should it know?",
      teacher,
      uploader("teacher", addedTo(teacher), signal),
      data,
      uploader("dataset", addedTo(data), signal),
      trial(() => {
        const form = /** @type {HTMLFormElement} */ (data.closest("form"));
        const { teacher, data: texts, text_columns, label_column, metric, labels } = /** @type {any} */ (read(form).request);
        return { teacher, data: texts, text_columns, label_column, metric, labels };
      }, signal),
    ),
    section(
      "Where, and how fast?",
      entry("budgets", "Latency budgets", { value: "4x", required: true, autocapitalize: "off", spellcheck: "false" }, "Milliseconds (5ms), a speed-up over the teacher (4x), or either at the 95th percentile (5ms@p95). Several, separated by commas: one search serves all."),
      targets(catalog.targets),
    ),
    section(
      "How long may it look?",
      choice("recipe", "Recipe", named(catalog.recipes, "quick").map(([name]) => [name, /** @type {any} */ (RECIPES)[name] ?? name]), "How much is trained, and by which method of distillation."),
      choice("space", "Search space", [["", "what suits the teacher"], ...named(catalog.spaces)], "The sizes that architectures may have. The native ones load as plain BERT, without code of their own."),
    ),
    section(
      "What do you call it?",
      entry("name", "Name", { maxlength: 100, placeholder: "none" }, "What it is listed by, for you and your colleagues."),
      entry("note", "Note", { maxlength: 4000, placeholder: "none" }, "Why you started it, or what is to become of it. You may write more later."),
    ),
    element(
      "details",
      { class: "card advanced" },
      element("summary", {}, "Advanced"),
      element(
        "div",
        { class: "fields" },
        entry("label_column", "Label column", { value: "label" }, "The column of the data that holds the labels."),
        entry("text_columns", "Text columns", { placeholder: "found by itself" }, "One, or two for pairs of texts, separated by commas."),
        entry("labels", "The teacher's classes", { placeholder: "as its configuration says" }, "Their names in the order of its head, separated by commas, where it calls them LABEL_0, LABEL_1 and so on."),
        choice("metric", "Metric", [["", "what suits the labels"], ...named(catalog.metrics)], "The score that architectures are compared by."),
        choice("supernet", "Supernet", [["", "as the recipe says"], ...named(catalog.supernets)], "An uploaded one scores the candidates; most recipes need none."),
        entry("max_parameters", "At most so many parameters", { inputmode: "numeric", placeholder: "no cap" }, "Of the whole model, embeddings included."),
        entry("max_memory_mb", "At most so many MB", { inputmode: "decimal", placeholder: "no cap" }, "Memory of the model's weights."),
        entry("webhook", "Webhook", { inputmode: "url", placeholder: "none" }, "An https address that is told when the search ends, on a host that your operator allows."),
        entry("seed", "Seed", { value: "0", inputmode: "numeric" }, "The same seed gives the same search."),
        entry("priority", "Priority", { value: "100", inputmode: "numeric" }, "Among your own searches: 1 comes before 1000."),
      ),
    ),
  ];
}

/**
 * @param {string} title
 * @param {...HTMLElement} fields
 */
const section = (title, ...fields) =>
  element("section", { class: "card" }, element("h2", {}, title), element("div", { class: "fields" }, fields));

/**
 * A field around an input.
 * @param {string} name
 * @param {string} label
 * @param {HTMLElement} input
 * @param {string} hint
 */
function field(name, label, input, hint) {
  input.setAttribute("aria-describedby", `${name}-hint ${name}-problem`);
  return element(
    "div",
    { class: "field" },
    element("label", { for: name }, label),
    input,
    element("p", { id: `${name}-hint`, class: "hint" }, hint),
    element("p", { id: `${name}-problem`, class: "field-problem" }),
  );
}

/** @type {(name: string, label: string, attributes: Record<string, any>, hint: string) => HTMLElement} */
const entry = (name, label, attributes, hint) => field(name, label, element("input", { id: name, name, autocomplete: "off", ...attributes }), hint);

/** @type {(name: string, label: string, options: [string, string][], hint: string) => HTMLElement} */
const choice = (name, label, options, hint) =>
  field(name, label, element("select", { id: name, name }, options.map(([value, text]) => element("option", { value }, text))), hint);

/**
 * Options of names, the first choice first.
 * @param {string[]} names
 * @param {string} first
 * @returns {[string, string][]}
 */
const named = (names, first = "") => [...names].sort((a, b) => Number(b === first) - Number(a === first)).map((name) => [name, name]);

/**
 * Boxes for the targets; folded on a narrow screen, where they would be a screenful by themselves.
 * @param {{name: string, place: string, last_seen: string | null}[]} offered
 */
function targets(offered) {
  const chosen = element("summary", {});
  const boxes = offered.map(({ name, place, last_seen }) => {
    const away = place === "device" && isAway(last_seen);
    const where = place === "server" ? "this service" : last_seen ? `device, ${away ? "away, " : ""}seen ${ago(last_seen)}` : "device, not seen yet";
    return element(
      "label",
      { class: `check${away ? " away" : ""}` },
      element("input", { type: "checkbox", name: "targets", value: name, checked: name === "cpu", disabled: away }),
      name,
      element("small", {}, where),
    );
  });
  const checks = element("div", { class: "checks" }, boxes);
  const tell = () => {
    const names = [...checks.querySelectorAll("input:checked")].map((box) => /** @type {HTMLInputElement} */ (box).value);
    say(chosen, names.length ? `Chosen: ${names.join(", ")}` : "None is chosen");
  };
  checks.addEventListener("change", tell);
  tell();
  return element(
    "fieldset",
    { class: "field", id: "targets", tabindex: -1, "aria-describedby": "targets-hint targets-problem" },
    element("legend", {}, "Targets"),
    element("details", { class: "folding", open: innerWidth >= NARROW }, chosen, checks),
    element("p", { id: "targets-hint", class: "hint" }, "Where the model will serve. Every budget is met on each. A device that is away cannot be chosen."),
    element("p", { id: "targets-problem", class: "field-problem" }),
  );
}

/**
 * What the form asks for, and what cannot be sent.
 * @param {HTMLFormElement} form
 * @returns {{request: Record<string, unknown>, problems: {field: string, detail: string}[]}}
 */
export function read(form) {
  const given = new FormData(form);
  const text = (/** @type {string} */ name) => String(given.get(name) ?? "").trim();
  const several = (/** @type {string} */ name) => text(name).split(/[,;]/).map((one) => one.trim()).filter(Boolean);
  const problems = [];
  const number = (/** @type {string} */ name) => {
    if (!text(name)) return null;
    const value = Number(text(name));
    if (Number.isNaN(value)) problems.push({ field: name, detail: `Write a number, not "${text(name)}".` });
    return value;
  };
  const columns = several("text_columns");
  const labels = several("labels");
  const request = {
    teacher: text("teacher"),
    data: text("data"),
    budgets: several("budgets"),
    targets: given.getAll("targets"),
    recipe: text("recipe"),
    space: text("space") || null,
    label_column: text("label_column") || "label",
    text_columns: columns.length ? columns : null,
    metric: text("metric") || null,
    labels: labels.length ? labels : null,
    supernet: text("supernet") || null,
    name: text("name") || null,
    note: text("note") || null,
    webhook: text("webhook") || null,
    max_parameters: number("max_parameters"),
    max_memory_mb: number("max_memory_mb"),
    seed: number("seed") ?? 0,
    priority: number("priority") ?? 100,
  };
  if (!request.budgets.length) problems.push({ field: "budgets", detail: "Name at least one budget, such as 4x or 5ms." });
  if (!request.targets.length) problems.push({ field: "targets", detail: "Choose at least one target." });
  return { request, problems };
}

/**
 * The fields that a refusal is about: listed, or named at the beginning of its line.
 * @param {{message: string, errors?: {field: string, detail: string}[]}} problem
 */
function fieldsOf({ message, errors = [] }) {
  if (errors.length) return errors.map(({ field, detail }) => ({ field: field.replace(/^body\./, "").split(".")[0], detail: detail.replace(/^Value error, /, "") }));
  const [, named, rest] = /^([a-z_]+): (.*)$/.exec(message) ?? [];
  return named ? [{ field: named, detail: rest }] : [];
}

/**
 * @param {HTMLFormElement} form
 * @param {HTMLElement} summary
 * @param {{field: string, detail: string}[]} problems
 * @param {string} message
 */
function showProblems(form, summary, problems, message) {
  const inputs = problems.flatMap(({ field, detail }) => {
    const input = /** @type {HTMLElement | null} */ (form.querySelector(`#${CSS.escape(field)}`));
    const line = form.querySelector(`#${CSS.escape(field)}-problem`);
    if (!input || !line) return [];
    line.textContent = detail;
    input.setAttribute("aria-invalid", "true");
    const details = input.closest("details");
    if (details) details.open = true;
    return [input];
  });
  summary.textContent = inputs.length ? "Some fields need another value." : message;
  summary.hidden = false;
  (inputs[0] ?? summary).focus();
}

/**
 * @param {HTMLFormElement} form
 * @param {HTMLElement} summary
 */
function clearProblems(form, summary) {
  summary.hidden = true;
  form.querySelectorAll(".field-problem").forEach((line) => (line.textContent = ""));
  form.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
}

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
