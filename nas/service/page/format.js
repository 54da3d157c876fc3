/** Figures, durations and moments in words, as the report and the terminal write them. */

const SHARES = new Set(["accuracy", "f1"]);

/**
 * Three significant digits, thousands set apart.
 * @param {number | null | undefined} value
 */
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

/** @param {number | null | undefined} value */
export const milliseconds = (value) => (value === null || value === undefined ? "–" : `${figure(value)} ms`);

/**
 * `94.1%` for a share, `0.612` for a correlation.
 * @param {string} metric
 * @param {number | null | undefined} value
 */
export function score(metric, value) {
  if (value === null || value === undefined) return "–";
  return SHARES.has(metric) ? percent(value) : value.toFixed(3);
}

/** @param {number} share */
export const percent = (share) => `${(100 * share).toFixed(1)}%`;

/** @param {string} metric */
export const metricName = (metric) => metric.replaceAll("_", " ");

/** @param {string} metric */
export const isShare = (metric) => SHARES.has(metric);

/**
 * Whether a model was measured within its budget.
 * @param {any} model
 */
export const met = (model) => model.measured_ms <= model.budget_ms;

/** @param {number} count */
export const millions = (count) => `${(count / 1e6).toFixed(2)} M`;

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  const step = bytes ? Math.min(3, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${figure(bytes / 1000 ** step)} ${units[step]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

/**
 * A duration that is not known well: `9 min`, `2 h`.
 * @param {number} seconds
 */
export function roughly(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/**
 * How long ago a moment was.
 * @param {string} moment ISO 8601.
 */
export function ago(moment) {
  const seconds = Math.max(0, (Date.now() - Date.parse(moment)) / 1000);
  if (seconds < 45) return "just now";
  for (const [unit, length] of /** @type {[string, number][]} */ ([["day", 86400], ["hour", 3600], ["minute", 60]])) {
    const count = Math.round(seconds / length);
    if (seconds >= length * 0.75 && count) return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

/**
 * `4x368 8h q128 f448`; unequal layers one by one.
 * @param {Architecture} architecture
 */
export function architectureText({ hidden_size, layers }) {
  const texts = layers.map((one) => `${one.num_heads}h q${one.qkv_size} f${one.intermediate_size}${(one.compression ?? 1) > 1 ? ` c${one.compression}` : ""}`);
  if (new Set(texts).size === 1) return `${layers.length}x${hidden_size} ${texts[0]}`;
  return `${layers.length}x${hidden_size} [${texts.join(" | ")}]`;
}

/** @typedef {{num_heads: number, qkv_size: number, intermediate_size: number, compression?: number}} Layer */
/** @typedef {{hidden_size: number, layers: Layer[]}} Architecture */
