/* Parts that several views have. */
import { hasToken } from "./api.js";
import { bar, h, number, span } from "./dom.js";

/** Figures side by side: [title, value, note]. */
export const tiles = (all) => h("dl", { className: "tiles" }, all.map(([title, value, note]) => h("div", { className: "tile" }, h("dt", {}, title), h("dd", {}, value, h("span", {}, note || " ")))));

/** When each node of a progress tree was first seen, and how far it was: for the time it still takes. */
export class Pace {
  constructor() { this.seen = new Map(); }

  /** Seconds that a node still takes, or nothing. */
  left(key, done, total) {
    const now = performance.now() / 1000;
    let first = this.seen.get(key);
    if (!first || done < first.done) { first = { done, now }; this.seen.set(key, first); }
    const rate = (done - first.done) / Math.max(1e-9, now - first.now);
    return total > 0 && rate > 0 && now - first.now > 2 ? (total - done) / rate : null;
  }
}

/** A progress tree, each line with its bar, counts and the time left. */
export function tree(node, pace, key = "") {
  if (!node) return null;
  const own = `${key}/${node.label}`, { done = 0, total } = node, finished = total > 0 && done >= total;
  const left = finished ? null : pace.left(own, done, total);
  const counts = total > 0 ? `${number(done)} of ${number(total)}` : done ? number(done) : "";
  const words = [counts, finished ? "done" : left === null ? "" : `${span(left)} left`, node.note].filter(Boolean).join(" · ");
  return h("ul", { className: "tree" }, h("li", {}, h("div", { className: "stage-line" }, h("b", {}, node.label), h("span", { className: "soft small" }, words)), total > 0 || done ? bar(done, total, node.label) : null,
    (node.children || []).map((child) => tree(child, pace, own))));
}

/** What a command line adds where a token is needed. */
export const authorization = () => (hasToken() ? " \\\n  -H \"Authorization: Bearer $CURATE_TOKEN\"" : "");

/** The text of a row: every column in turn, as plain text. */
export function rowText(data) {
  if (typeof data === "string") return data;
  return Object.entries(data || {}).filter(([, value]) => value !== null && value !== "").map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join("\n");
}
