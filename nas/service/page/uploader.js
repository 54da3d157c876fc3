/** Uploads a data set or a teacher from within the form. */

import { upload, withQuery } from "./api.js";
import { announce, element, say } from "./dom.js";
import { percent, size } from "./format.js";

const NAME = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/;

/** What may be uploaded, by the kind's name in the service's paths. */
const KINDS = {
  dataset: {
    title: "Upload data of your own",
    accept: ".parquet,.csv,.jsonl,.zip",
    hint: "Parquet, CSV or JSON lines with a column of texts and one of labels; or a zip with a file for each split.",
    /** @type {(found: any) => string} */
    told: ({ splits, labels }) =>
      `${Object.entries(splits).map(([split, rows]) => `${rows} rows of ${split}`).join(", ")}${labels?.classes ? `; ${labels.classes} classes: ${someOf(labels.names)}` : ""}`,
  },
  teacher: {
    title: "Upload a teacher of your own",
    accept: ".zip",
    hint: "A zip of a model's folder: config.json, model.safetensors and the files of its tokenizer.",
    /** @type {(found: any) => string} */
    told: ({ model_type, layers, hidden_size, labels }) =>
      `${model_type}, ${layers} layers of ${hidden_size}; ${labels ? `${labels.length} classes: ${someOf(labels)}` : "no head for a classification, so one is trained"}`,
  },
};

/** @param {string[]} names */
const someOf = (names) => names.slice(0, 5).join(", ") + (names.length > 5 ? ", ..." : "");

/**
 * @param {"dataset" | "teacher"} kind
 * @param {(name: string) => void} added called with its name once it is there.
 * @param {AbortSignal} signal
 */
export function uploader(kind, added, signal) {
  const { title, accept, hint, told } = KINDS[kind];
  const file = element("input", {
    id: `upload-${kind}-file`,
    type: "file",
    accept,
    "aria-describedby": `upload-${kind}-hint`,
    onchange: () => {
      const chosen = file.files?.[0];
      if (chosen && !name.value) name.value = nameOf(chosen.name);
    },
  });
  const name = element("input", { id: `upload-${kind}-name`, autocomplete: "off", spellcheck: "false", "aria-describedby": `upload-${kind}-problem` });
  const bar = element("progress", { max: 1, value: 0, "aria-label": "Upload", hidden: true });
  const state = element("p", { class: "hint", role: "status" });
  const problem = element("p", { id: `upload-${kind}-problem`, class: "field-problem", role: "alert" });
  const button = element("button", { type: "button", onclick: send }, "Upload");

  async function send() {
    const chosen = file.files?.[0];
    say(problem, "");
    if (!chosen) return say(problem, "Choose a file first.");
    if (!NAME.test(name.value)) return say(problem, "A name has small letters, digits, dots and dashes.");
    button.disabled = true;
    bar.hidden = false;
    try {
      const path = withQuery(`/v1/${kind}s/${name.value}`, { filename: `${kind}${endingOf(chosen.name)}` });
      const found = await upload(path, chosen, (share) => {
        bar.value = share;
        say(state, share < 1 ? `${percent(share)} of ${size(chosen.size)}` : "Sent. The service looks at it.");
      }, signal);
      say(state, `${name.value} is uploaded and chosen: ${told(found)}.`);
      announce(`${name.value} is uploaded and chosen.`);
      added(name.value);
    } catch (error) {
      say(state, "");
      say(problem, /** @type {Error} */ (error).message);
    }
    bar.hidden = true;
    button.disabled = false;
    return undefined;
  }

  return element(
    "details",
    { class: "upload" },
    element("summary", {}, title),
    element(
      "div",
      { class: "fields" },
      element(
        "div",
        { class: "field" },
        element("label", { for: `upload-${kind}-file` }, "File"),
        file,
        element("p", { id: `upload-${kind}-hint`, class: "hint" }, hint),
      ),
      element("div", { class: "field" }, element("label", { for: `upload-${kind}-name` }, "Name"), name, problem),
      element("div", { class: "upload-row" }, button, bar, state),
    ),
  );
}

/**
 * What the service knows a file's kind by; its name may be of letters that the service does not take.
 * @param {string} filename
 */
function endingOf(filename) {
  return filename.match(/\.[^.]*$/)?.[0].toLowerCase() ?? "";
}

/**
 * A name that the service takes, from a file's.
 * @param {string} filename
 */
export function nameOf(filename) {
  const stem = filename.replace(/\.[^.]*$/, "").toLowerCase();
  return stem.replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 63).replace(/[^a-z0-9]+$/, "");
}
