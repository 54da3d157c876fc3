/** The devices that models can be asked for: when they were seen, and how well they are predicted. */

import { askAll } from "./api.js";
import { element, facts, fill } from "./dom.js";
import { ago } from "./format.js";
import { errorCard } from "./predicted.js";
import { snippet } from "./result.js";

const STALE_MS = 120_000; // an agent asks for work every 20 s

/** @type {import("./app.js").View} */
export async function showDevices(holder, _, __, signal) {
  const devices = await askAll("/v1/targets", { signal });
  fill(
    holder,
    element("h1", {}, "Devices"),
    element("p", { class: "lead" }, "A device measures itself: its agent fetches what a search wants timed, and sends back the profile."),
    devices.length
      ? element("div", { class: "grid" }, devices.map(card))
      : element("p", { class: "empty" }, "No device is registered yet. Searches run for the service's own machine meanwhile."),
    element(
      "section",
      { class: "card" },
      element("h2", {}, "Add a device"),
      element("p", {}, "On the device, with a token that has the scope device:"),
      snippet(`pip install "tailorbert[device]"\nlatency agent --server ${location.origin} --name my-device --token-file token.txt`),
    ),
  );
}

/** @param {any} device */
function card({ name, target, fingerprint, last_seen, agent, profile, owner }) {
  const stale = !last_seen || Date.now() - Date.parse(last_seen) > STALE_MS;
  const workload = `${target.runtime} ${target.dtype}, ${target.threads} thread${target.threads === 1 ? "" : "s"}, batch ${target.batch_size}, sequence ${target.sequence_length}`;
  const machine = fingerprint && [fingerprint.gpu || fingerprint.cpu, `${fingerprint.cores} cores`, fingerprint.memory_gib ? `${fingerprint.memory_gib} GiB` : null, fingerprint.machine, fingerprint.system].filter(Boolean).join(", ");
  const versions = fingerprint && Object.entries(fingerprint.versions ?? {}).map(([one, version]) => `${one} ${version}`).join(", ");
  return element(
    "section",
    { class: "card device" },
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
  );
}
