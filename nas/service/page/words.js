/** A search's name and note: shown to all, changed by its owner. */

import { ask } from "./api.js";
import { caller, mayChange } from "./caller.js";
import { element, say } from "./dom.js";
import { sharing } from "./sharing.js";

/**
 * What the owner may write of a search, folded away; nothing for others, unless it is shared.
 * @param {any} search
 * @param {() => void} done called after a change.
 */
export function wordsOf(search, done) {
  const path = `/v1/searches/${search.id}`;
  if (!mayChange(search.owner)) return sharing(path, search, "the search");
  const name = element("input", { id: "search-name", value: search.name ?? "", maxlength: 100, autocomplete: "off", placeholder: "none" });
  const note = element("textarea", { id: "search-note", rows: 3, maxlength: 4000, placeholder: "none" }, search.note ?? "");
  const problem = element("p", { class: "field-problem", role: "alert" });
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await ask(path, { method: "PATCH", json: { name: name.value.trim() || null, note: note.value.trim() || null } });
      done();
    } catch (error) {
      say(problem, /** @type {Error} */ (error).message);
    }
  };
  return element(
    "details",
    { class: "card words" },
    element("summary", {}, caller().private ? "Name, note and sharing" : "Name and note"),
    element(
      "form",
      { onsubmit: save },
      element("div", { class: "field" }, element("label", { for: "search-name" }, "Name"), name),
      element("div", { class: "field" }, element("label", { for: "search-note" }, "Note"), note),
      problem,
      element("button", {}, "Save"),
    ),
    sharing(path, search, "the search"),
  );
}
