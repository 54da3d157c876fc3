/** Who is signed in: a token, kept for this tab until it is closed. */

import { ask, keepToken, Problem } from "./api.js";
import { element, fill, say } from "./dom.js";

/**
 * @param {HTMLElement} holder
 * @param {{owner: string, scopes: string[]}} caller
 * @param {(() => void) | null} signOut null where no token is asked for.
 */
export function showSession(holder, { owner, scopes }, signOut) {
  fill(
    holder,
    element("span", { title: `May ${scopes.join(", ")}` }, signOut ? "Signed in as " : "User ", element("strong", {}, owner)),
    signOut && element("button", { type: "button", class: "quiet", onclick: signOut }, "Sign out"),
  );
}

/**
 * Asks for a token.
 * @param {HTMLElement} holder
 * @param {string} refused why the one that there was is of no use; empty where there was none.
 * @param {() => void} enter called once there is a token.
 */
export function showSignIn(holder, refused, enter) {
  document.title = "Sign in · TailorBERT";
  keepToken(null);
  const problem = element("p", { id: "token-problem", class: "field-problem", role: "alert" });
  say(problem, refused);
  const input = element("input", {
    id: "token",
    type: "password",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "token-hint token-problem",
  });
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const given = input.value.trim();
    if (!/^[\x21-\x7e]+$/.test(given)) return say(problem, "A token has letters, digits and signs, and no spaces.");
    keepToken(given);
    try {
      await ask("/v1/whoami");
    } catch (error) {
      // A refused token has already led back to a fresh form.
      if (!(error instanceof Problem && error.status === 401)) say(problem, /** @type {Error} */ (error).message);
      return undefined;
    }
    return enter();
  };
  fill(
    holder,
    element(
      "div",
      { class: "view narrow" },
      element("h1", {}, "Sign in"),
      element("p", {}, "This service asks for a token. Your operator makes one with ", element("code", {}, "nas admin token create"), "."),
      element(
        "form",
        { class: "card", onsubmit: submit },
        element("label", { for: "token" }, "Token"),
        input,
        element("p", { id: "token-hint", class: "hint" }, "It begins with tb_ and stays in this tab until you close it or sign out."),
        problem,
        element("button", { class: "primary" }, "Sign in"),
      ),
    ),
  );
  input.focus();
}
