/** With whom a thing is shared: a field for its owner, where the service is private. */

import { ask } from "./api.js";
import { caller, mayChange } from "./caller.js";
import { announce, element, say } from "./dom.js";

let made = 0;

/**
 * @param {string} path of the thing.
 * @param {{owner: string, shared_with: string[]}} thing
 * @param {string} about what to call it.
 * @returns {HTMLElement | null} null where there is nothing to say.
 */
export function sharing(path, { owner, shared_with }, about) {
  if (!caller().private) return null;
  if (!mayChange(owner)) return owner === caller().owner ? null : element("p", { class: "hint" }, `${owner} shares it with you.`);
  const id = `share-${(made += 1)}`;
  const input = element("input", { id, value: shared_with.join(", "), autocomplete: "off", autocapitalize: "off", spellcheck: "false", placeholder: "nobody", "aria-describedby": `${id}-hint ${id}-problem` });
  const problem = element("p", { id: `${id}-problem`, class: "field-problem", role: "alert" });
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    say(problem, "");
    try {
      const users = input.value.split(/[,\s]+/).filter(Boolean);
      const changed = await ask(path, { method: "PATCH", json: { shared_with: users } });
      input.value = changed.shared_with.join(", ");
      announce(changed.shared_with.length ? `${about} is shared with ${changed.shared_with.join(", ")}.` : `${about} is shared with nobody.`);
    } catch (error) {
      const { message, errors = [] } = /** @type {any} */ (error);
      say(problem, errors.length ? "Write names of users, separated by commas, or * for everyone." : message);
    }
  };
  return element(
    "form",
    { class: "sharing", onsubmit: save },
    element("label", { for: id }, "Shared with"),
    element("div", { class: "input-row" }, input, element("button", { class: "small", "aria-label": `Share ${about}` }, "Share")),
    element("p", { id: `${id}-hint`, class: "hint" }, "Users, separated by commas; * is everyone."),
    problem,
  );
}
