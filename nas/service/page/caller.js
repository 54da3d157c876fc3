/** Who uses the page, and what they may change. */

/** @typedef {{owner: string, scopes: string[], private: boolean}} Caller */

/** @type {Caller} */
let current = { owner: "", scopes: [], private: false };

/** @param {Caller} caller as the service says. */
export const keepCaller = (caller) => (current = caller);

export const caller = () => current;

/** @param {string} scope */
export const may = (scope) => current.scopes.includes(scope) || current.scopes.includes("admin");

/**
 * Whether the service takes a change from this user of what is somebody's.
 * @param {string} owner
 * @param {string} scope that such a change asks for.
 */
export const mayChange = (owner, scope = "submit") => may(scope) && (owner === current.owner || may("admin"));
