/** Shows the view that the address's fragment names, once the service knows who asks. */

import { ask, keepToken, Problem, signIn, token } from "./api.js";
import { keepCaller } from "./caller.js";
import { showCompare } from "./compare.js";
import { showDevices } from "./devices.js";
import { element, failure, fill } from "./dom.js";
import { showForm } from "./form.js";
import { showSearch } from "./search.js";
import { showSearches } from "./searches.js";
import { showSession, showSignIn } from "./session.js";
import { showUploads } from "./uploads.js";

/**
 * Draws itself into `main`, and stops all that goes on when the signal says that it is left.
 * @typedef {(main: HTMLElement, argument: string, query: URLSearchParams, signal: AbortSignal) => void | Promise<void>} View
 */

/** @type {[RegExp, string, View][]} */
const VIEWS = [
  [/^\/new$/, "New search", showForm],
  [/^\/searches$/, "Searches", showSearches],
  [/^\/searches\/([0-9A-Za-z-]+)$/, "Search", showSearch],
  [/^\/compare$/, "Compare models", showCompare],
  [/^\/devices$/, "Devices", showDevices],
  [/^\/uploads$/, "Uploads", showUploads],
];

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const session = /** @type {HTMLElement} */ (document.getElementById("session"));
let leaving = new AbortController();
let first = true;

async function enter() {
  try {
    const caller = await ask("/v1/whoami");
    keepCaller(caller);
    showSession(session, caller, token() === null ? null : signOut);
    await route();
  } catch (error) {
    const status = error instanceof Problem ? error.status : 0;
    // A token that may not even read is of no use here: another one may.
    if (status === 403) showSignIn(main, "This token does not read: the page needs one that has the scope read.", enter);
    else if (status !== 401) fill(main, failure(error));
  }
}

function signOut() {
  keepToken(null);
  enter();
}

async function route() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, query] = (location.hash.slice(1) || "/new").split("?");
  const found = VIEWS.find(([pattern]) => pattern.test(path));
  markCurrent(path);
  const [pattern, title, view] = found ?? [/()/, "Not found", showNothing];
  document.title = `${title} · TailorBERT`;
  const holder = element("div", { class: "view" });
  fill(main, holder);
  if (!first) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  first = false;
  try {
    await view(holder, pattern.exec(path)?.[1] ?? "", new URLSearchParams(query), signal);
  } catch (error) {
    if (!signal.aborted && !(error instanceof Problem && error.status === 401)) holder.append(failure(error));
  }
}

/** @param {string} path */
function markCurrent(path) {
  for (const link of document.querySelectorAll("nav a")) {
    const at = /** @type {string} */ (link.getAttribute("href")).slice(1);
    if (path === at || path.startsWith(`${at}/`)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** @type {View} */
function showNothing(holder) {
  fill(holder, element("h1", {}, "Nothing here"), element("p", {}, "This page does not exist. ", element("a", { href: "#/new" }, "Start a search")));
}

signIn.addEventListener("needed", () => {
  leaving.abort();
  fill(session);
  showSignIn(main, token() === null ? "" : "The token is unknown, expired or revoked.", enter);
});
addEventListener("hashchange", (event) => {
  if (/^#\/|^$/.test(new URL(event.newURL).hash)) route();
});
enter();
