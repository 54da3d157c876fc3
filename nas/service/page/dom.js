/** Builds the page's elements. Text that came from the server only ever becomes text nodes. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An element with properties and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} properties `on...` functions listen; true and false toggle.
 * @param {...(Child | Child[])} children null, undefined and false are left out.
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") made.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...nodes(children));
  return made;
}

/**
 * Children without those that are left out.
 * @param {(Child | Child[])[]} children
 * @returns {(Node | string)[]}
 */
function nodes(children) {
  const kept = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  return kept.map((child) => (child instanceof Node ? child : String(child)));
}

/**
 * Put children in place of what an element holds.
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren(...nodes(children));
}

/**
 * Set an element's text, if it is another: what did not change is not announced again.
 * @param {Element} node
 * @param {string} text
 */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Tell those who do not see the page what happened.
 * @param {string} text
 */
export function announce(text) {
  say(/** @type {Element} */ (document.getElementById("announcer")), text);
}

/**
 * A table whose first column names its rows; it scrolls by itself where it is too wide.
 * @param {string} caption shown to screen readers.
 * @param {Child[]} head
 * @param {Child[][]} rows
 * @param {{numbers?: number[]}} options `numbers`: the columns set flush right.
 */
export function table(caption, head, rows, { numbers = [] } = {}) {
  const kind = (/** @type {number} */ column) => ({ class: numbers.includes(column) ? "number" : null });
  return element(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", { class: "unseen" }, caption),
      element("thead", {}, element("tr", {}, head.map((cell, at) => element("th", { scope: "col", ...kind(at) }, cell)))),
      element(
        "tbody",
        {},
        rows.map((row) =>
          element("tr", {}, row.map((cell, at) => (at ? element("td", kind(at), cell) : element("th", { scope: "row" }, cell)))),
        ),
      ),
    ),
  );
}

/**
 * Names and values, one under the other.
 * @param {[string, Child | Child[]][]} pairs
 */
export function facts(pairs) {
  return element("dl", { class: "facts" }, pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

/**
 * What went wrong, where it concerns a whole view.
 * @param {unknown} error
 */
export function failure(error) {
  return element("p", { class: "notice bad", role: "alert" }, error instanceof Error ? error.message : String(error));
}

/**
 * A button that does something, and shows beside itself what went wrong.
 * @param {string} verb on the button.
 * @param {string} about what it is done to, for those who do not see where it stands.
 * @param {() => Promise<boolean>} act whether it was done.
 * @param {() => unknown} done called then.
 */
export function doing(verb, about, act, done) {
  const pressed = async () => {
    button.disabled = true;
    try {
      if (await act()) {
        announce(`${verb}: ${about}`);
        button.blur();
        await done();
      }
    } catch (error) {
      button.closest(".actions")?.append(failure(error));
    }
    button.disabled = false;
  };
  const button = element("button", { type: "button", class: "small", "aria-label": `${verb} ${about}`, onclick: pressed }, verb);
  return button;
}

/**
 * Ask before something that cannot be undone. The dialog holds the focus, and Escape says no.
 * @param {string} title
 * @param {string} text
 * @param {string} action what the button that agrees says.
 * @returns {Promise<boolean>}
 */
export function confirmed(title, text, action) {
  return new Promise((resolve) => {
    const dialog = element(
      "dialog",
      { "aria-labelledby": "dialog-title", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      element(
        "form",
        { method: "dialog" },
        element("h2", { id: "dialog-title" }, title),
        element("p", {}, text),
        element(
          "div",
          { class: "actions" },
          element("button", { value: "yes", class: "danger" }, action),
          element("button", { value: "no", autofocus: true }, "Keep it"),
        ),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Tabs over panels, moved through by the arrow keys.
 * @param {string} label of them all.
 * @param {{title: string, panel: () => HTMLElement}[]} tabs a panel is built when first shown.
 */
export function tabbed(label, tabs) {
  const id = `tabs-${label.replace(/\W+/g, "-")}`;
  /** @type {(HTMLElement | null)[]} */
  const built = tabs.map(() => null);
  const holder = element("div", { role: "tabpanel", id: `${id}-panel` });
  const show = (/** @type {number} */ at, focus = true) => {
    built[at] ??= tabs[at].panel();
    fill(holder, built[at]);
    holder.setAttribute("aria-labelledby", `${id}-${at}`);
    buttons.forEach((button, other) => {
      button.setAttribute("aria-selected", String(other === at));
      button.tabIndex = other === at ? 0 : -1;
    });
    if (focus) buttons[at].focus();
  };
  const move = (/** @type {number} */ at, /** @type {KeyboardEvent} */ event) => {
    const last = tabs.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at ? at - 1 : last, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  };
  const buttons = tabs.map(({ title }, at) =>
    element(
      "button",
      {
        type: "button",
        role: "tab",
        id: `${id}-${at}`,
        "aria-controls": `${id}-panel`,
        onclick: () => show(at),
        onkeydown: (/** @type {KeyboardEvent} */ event) => move(at, event),
      },
      title,
    ),
  );
  show(0, false);
  return element("div", {}, element("div", { role: "tablist", "aria-label": label, class: "tabs" }, buttons), holder);
}
