/** The devices that models can be asked for: when they were seen, and how well they are predicted. */

import { ask, askAll, token } from "./api.js";
import { caller, may, mayChange } from "./caller.js";
import { confirmed, doing, element, facts, fill } from "./dom.js";
import { ago } from "./format.js";
import { errorCard } from "./predicted.js";
import { snippet } from "./result.js";
import { sharing } from "./sharing.js";

const STALE_MS = 120_000; // an agent asks for work every 20 s

/**
 * Whether nobody measures on a device just now.
 * @param {string | null} seen when its agent was.
 */
export const isAway = (seen) => !seen || Date.now() - Date.parse(seen) > STALE_MS;

/** @type {import("./app.js").View} */
export async function showDevices(holder, _, __, signal) {
  const devices = await askAll("/v1/targets", { signal });
  devices.sort((one, other) => Number(isAway(one.last_seen)) - Number(isAway(other.last_seen)));
  const again = () => signal.aborted || showDevices(holder, _, __, signal);
  fill(
    holder,
    element("h1", {}, "Devices"),
    element("p", { class: "lead" }, "A device measures itself: its agent fetches what a search wants timed, and sends back the profile."),
    devices.length
      ? element("div", { class: "grid" }, devices.map((device) => card(device, again)))
      : element("p", { class: "empty" }, "No device is registered yet. Searches run for the service's own machine meanwhile."),
    element(
      "section",
      { class: "card" },
      element("h2", {}, "Add a device"),
      token() === null ? element("p", {}, "This service asks for no token, and listens to this machine alone: a device elsewhere needs one that does.") : tokenHelp(),
      element("p", {}, "On the device, with the token in a file that only you read:"),
      element("p", { class: "hint" }, "The wheel is what make wheel writes in TailorBERT's repository: the package is on no index."),
      snippet(`pip install "$(echo ./tailorbert-*.whl)[device]"\nlatency agent --server ${location.origin} --name my-device --token-file token.txt`),
    ),
  );
}

/** How one comes by a token for a device: an administrator makes it here, others ask for it. */
function tokenHelp() {
  const command = `nas admin token create --owner ${caller().owner} --scope device`;
  if (!may("admin")) return element("div", {}, element("p", {}, "A device has a token of its own. Ask your operator for one with the scope device, made by"), snippet(command));
  const made = element("div", { role: "status" });
  const make = async () => {
    const { token: secret } = await ask("/v1/tokens", { method: "POST", json: { owner: caller().owner, scopes: ["device"], days: 365 } });
    fill(made, element("p", {}, "It is shown this once, and ends after a year:"), snippet(secret));
    return true;
  };
  return element("div", {}, element("p", {}, "A device has a token of its own, which lets it be a device and nothing else."), element("div", { class: "actions" }, doing("Make a token", "for a device", make, () => {})), made);
}

/**
 * @param {any} device
 * @param {() => void} again
 */
function card(device, again) {
  const { name, target, fingerprint, last_seen, agent, profile, owner } = device;
  const stale = isAway(last_seen);
  const path = `/v1/targets/${name}`;
  const remove = async () => {
    if (!(await confirmed(`Remove ${name}?`, "Its profile is deleted, and a search that waits for it fails. Its agent may register it again.", "Remove"))) return false;
    await ask(path, { method: "DELETE" });
    return true;
  };
  const workload = `${target.runtime} ${target.dtype}, ${target.threads} thread${target.threads === 1 ? "" : "s"}, batch ${target.batch_size}, sequence ${target.sequence_length}`;
  const machine = fingerprint && [fingerprint.gpu || fingerprint.cpu, `${fingerprint.cores} cores`, fingerprint.memory_gib ? `${fingerprint.memory_gib} GiB` : null, fingerprint.machine, fingerprint.system].filter(Boolean).join(", ");
  const versions = fingerprint && Object.entries(fingerprint.versions ?? {}).map(([one, version]) => `${one} ${version}`).join(", ");
  return element(
    "section",
    { class: `card device${stale ? " away" : ""}` },
    element(
      "div",
      { class: "title-row" },
      element("h2", {}, name),
      element("span", { class: `badge ${stale ? "stale" : "done"}` }, last_seen ? `${stale ? "away, " : ""}seen ${ago(last_seen)}` : "never seen"),
    ),
    facts([
      ["Target", workload],
      ["Machine", machine ?? "not told yet"],
      ["Versions", versions || "–"],
      ["Agent", agent?.version ?? "–"],
      ["Owner", owner],
    ]),
    element("h3", {}, "Latency predictor"),
    profile ? errorCard(profile.errors) : element("p", { class: "hint" }, "Not measured yet: the first search for it takes a profile."),
    sharing(path, device, name),
    mayChange(owner) && element("div", { class: "actions" }, doing("Remove", name, remove, again)),
  );
}
