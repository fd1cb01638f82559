/* Line and area charts over steps, on uPlot: what the cursor points at in words, by mouse and by keyboard; lines that can be
   switched off; the same values as a table; files of what is shown. */
import { button, card, css, fill, h, number, table } from "./dom.js";
import { exports } from "./export.js";

/** Distinct colours that the style sheet has. */
export const COLOURS = 8;

/** Tell every chart and map that colours changed. */
export const repaint = () => document.dispatchEvent(new Event("curate-colours"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

const colour = (line) => (line.colour.startsWith("--") ? css(line.colour) : line.colour);
const clear = (text, share) => `color-mix(in srgb, ${text} ${Math.round(share * 100)}%, transparent)`;

/** Mean over the last `window` values that are there. */
export function smooth(values, window) {
  if (window < 2) return values;
  const out = new Array(values.length);
  let sum = 0, count = 0;
  for (let i = 0; i < values.length; i += 1) {
    if (Number.isFinite(values[i] ?? NaN)) { sum += values[i]; count += 1; }
    const gone = values[i - window];
    if (i >= window && Number.isFinite(gone ?? NaN)) { sum -= gone; count -= 1; }
    out[i] = count && values[i] !== null ? sum / count : null;
  }
  return out;
}

/** A chart in a card. Options: title, lead, name (parts of file names), controls, say (value to words), zero (axis from 0), empty, join. */
export class Chart {
  constructor(options) {
    this.options = { say: number, zero: false, empty: "No steps yet.", x: "step", ...options };
    this.hidden = new Set();
    this.data = { x: [], lines: [], marks: [], stacked: false };
    this.tip = h("div", { className: "tip", hidden: true });
    this.spoken = h("div", { className: "hidden", role: "status" });
    this.plot = h("div", { className: "plot" });
    this.stage = h("div", { className: "stage", tabIndex: 0, role: "group", onkeydown: (event) => this.key(event), onblur: () => this.point(null) }, this.plot, this.tip, this.spoken);
    this.stage.style.setProperty("min-height", `${this.height()}px`);
    this.legend = h("ul", { className: "legend" });
    this.notes = h("p", { className: "soft small marks" });
    this.list = h("div", { hidden: true });
    const toggle = button("Table", () => {
      this.list.hidden = !this.list.hidden;
      toggle.setAttribute("aria-pressed", String(!this.list.hidden));
      this.tabulate();
    }, { className: "small", "aria-pressed": "false", title: "the same values as a table" });
    const tools = [this.options.controls, toggle, exports(this.options.name || [this.options.title], () => this.values(), () => this.u?.ctx.canvas || h("canvas"))];
    this.node = card(this.options.title, this.options.lead, tools, this.stage, this.legend, this.notes, this.list);
    this.paint = () => this.build();
    document.addEventListener("curate-colours", this.paint);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.plot);
  }

  /** Let go of what outlives the node. */
  close() {
    document.removeEventListener("curate-colours", this.paint);
    this.observer.disconnect();
    this.u?.destroy();
    this.u = null;
  }

  /** New values: { x, lines: [{ key, name, colour, values, dash }], marks: [{ step, text }], stacked }. */
  update(data) {
    const shape = (own) => JSON.stringify([own.stacked, own.lines.map((line) => [line.key, line.name, line.colour]), own.x.length === 0]);
    const same = this.u && shape(data) === shape(this.data);
    this.data = { marks: [], stacked: false, ...data };
    if (same) this.refresh(); else this.build();
    this.tabulate();
    const marks = this.data.marks;
    this.notes.textContent = marks.length ? `By hand: ${marks.slice(-6).map((mark) => `${mark.text} at step ${number(mark.step)}`).join("; ")}${marks.length > 6 ? "; …" : ""}.` : "";
    this.stage.setAttribute("aria-label", `${this.options.title}: ${this.data.x.length ? `${this.data.lines.length} lines from step ${this.data.x[0]} to ${this.data.x.at(-1)}. Arrow keys read values, the table has them all.` : this.options.empty}`);
  }

  shown() { return this.data.lines.filter((line) => !this.hidden.has(line.key)); }

  columns() {
    const lines = this.shown();
    if (!this.data.stacked) return [this.data.x, ...lines.map((line) => line.values)];
    const sum = new Float64Array(this.data.x.length);
    return [this.data.x, ...lines.map((line) => Array.from(line.values, (value, at) => (sum[at] += value || 0)))];
  }

  refresh() {
    const { min, max } = this.u.scales.x, all = this.u.data[0];
    const zoomed = all.length > 1 && (min > all[0] || max < all.at(-1));
    this.u.setData(this.columns(), !zoomed);
    if (zoomed) this.u.redraw();
  }

  build() {
    this.u?.destroy();
    this.u = null;
    const { x, lines } = this.data;
    if (!x.length || !lines.length) { fill(this.plot, h("p", { className: "empty" }, this.options.empty)); fill(this.legend); return; }
    this.plot.replaceChildren();
    this.u = new uPlot(this.settings(), this.columns(), this.plot);
    fill(this.legend, lines.length > 1 ? lines.map((line) => this.entry(line)) : []);
  }

  entry(line) {
    const on = !this.hidden.has(line.key);
    return h("li", {}, button([h("i", { style: { background: on ? colour(line) : "transparent", "border-color": colour(line) } }), line.name], () => {
      if (on) this.hidden.add(line.key); else this.hidden.delete(line.key);
      this.build();
      this.tabulate();
      [...this.legend.querySelectorAll("button")].find((own) => own.dataset.key === String(line.key))?.focus();
    }, { className: "key", "aria-pressed": String(on), "data-key": line.key, title: on ? "hide" : "show" }));
  }

  size() { return { width: Math.max(220, Math.floor(this.plot.clientWidth || 600)), height: this.height() }; }

  height() { const wish = this.options.height || 300; return window.innerWidth < 640 ? Math.min(240, wish) : wish; }

  resize() {
    if (this.u && this.u.width !== this.size().width) this.u.setSize(this.size());
  }

  settings() {
    const ink = css("--soft"), grid = { stroke: css("--line"), width: 1 }, stacked = this.data.stacked, { say, zero } = this.options;
    const line = (own, at) => ({
      label: own.name, stroke: colour(own), width: stacked ? 1 : 2, dash: own.dash, spanGaps: true, points: { show: this.data.x.length < 3 },
      fill: stacked ? clear(colour(own), 0.55) : undefined, value: null, show: true, at,
    });
    const lines = this.shown();
    const font = "12px system-ui, sans-serif";
    return {
      ...this.size(), ms: 1, legend: { show: false }, padding: [12, 12, 0, 0],
      cursor: { points: { size: 7 }, drag: { x: true, y: false, dist: 8 }, focus: { prox: -1 } },
      scales: { x: { time: false }, y: { range: (u, low, high) => this.range(low, high, zero || stacked) } },
      axes: [
        { stroke: ink, grid, ticks: grid, font, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6], values: (u, all) => all.map((v) => number(v)), label: this.options.x, labelFont: font, labelSize: 20, size: 28, space: 64 },
        { stroke: ink, grid, ticks: grid, font, size: 58, values: (u, all) => all.map((v) => say(v)) },
      ],
      series: [{}, ...lines.map(line)],
      bands: stacked ? lines.slice(1).map((own, at) => ({ series: [at + 2, at + 1] })) : undefined,
      hooks: { setCursor: [(u) => this.say(u)], draw: [(u) => this.marks(u)] },
    };
  }

  range(low, high, zero) {
    if (low === null || high === null) return [0, 1];
    const from = zero ? Math.min(0, low) : low, room = (high - from) * 0.06 || Math.abs(high) * 0.1 || 0.5;
    return [zero && low >= 0 ? 0 : from - room, high + room];
  }

  marks(u) {
    const { ctx: pen, bbox } = u, ratio = devicePixelRatio || 1;
    pen.save();
    pen.strokeStyle = pen.fillStyle = css("--ink");
    pen.font = `${11 * ratio}px system-ui, sans-serif`;
    pen.setLineDash([4 * ratio, 4 * ratio]);
    for (const mark of this.data.marks) {
      const at = u.valToPos(mark.step, "x", true);
      if (at < bbox.left || at > bbox.left + bbox.width) continue;
      pen.beginPath();
      pen.moveTo(at, bbox.top);
      pen.lineTo(at, bbox.top + bbox.height);
      pen.stroke();
      const right = at > bbox.left + bbox.width * 0.75;
      pen.textAlign = right ? "right" : "left";
      pen.fillText(mark.text, at + (right ? -4 : 4) * ratio, bbox.top + 11 * ratio);
    }
    pen.restore();
  }

  words(at) {
    const { say } = this.options;
    const own = this.shown().map((line) => ({ line, value: line.values[at] })).filter((one) => one.value !== null && one.value !== undefined);
    return own.sort((a, b) => b.value - a.value).map(({ line, value }) => ({ line, text: say(value) }));
  }

  say(u) {
    const at = u.cursor.idx;
    if (at === null || at === undefined || u.cursor.left < 0) { this.tip.hidden = true; return; }
    const words = this.words(at);
    fill(this.tip, h("strong", {}, `${this.options.x} ${number(this.data.x[at])}`), words.slice(0, 12).map(({ line, text }) => h("div", {}, h("i", { style: { background: colour(line) } }), h("span", {}, line.name), h("b", {}, text))));
    this.tip.hidden = false;
    const left = u.over.offsetLeft + u.cursor.left, width = this.tip.offsetWidth, room = this.stage.clientWidth;
    const place = left + 14 + width > room ? left - width - 14 : left + 14;
    this.tip.style.setProperty("left", `${Math.max(0, Math.min(place, room - width))}px`);
  }

  point(at) {
    if (!this.u) return;
    const left = at === null ? -10 : this.u.valToPos(this.data.x[at], "x");
    this.u.setCursor({ left, top: at === null ? -10 : 20 });
    this.spoken.textContent = at === null ? "" : `${this.options.x} ${this.data.x[at]}: ${this.words(at).slice(0, 4).map(({ line, text }) => `${line.name} ${text}`).join(", ")}`;
  }

  key(event) {
    if (!this.u || event.target !== this.stage) return;
    const last = this.data.x.length - 1, now = this.u.cursor.idx ?? last, page = Math.max(1, Math.round(last / 10));
    const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - page, PageDown: now + page, Home: 0, End: last };
    if (event.key === "Escape") { this.point(null); this.u.setData(this.columns(), true); return; }
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.point(Math.max(0, Math.min(last, moves[event.key])));
  }

  values() {
    const lines = this.shown();
    const from = this.u?.scales.x.min ?? -Infinity, to = this.u?.scales.x.max ?? Infinity;
    const rows = this.data.x.map((step, at) => [step, ...lines.map((line) => line.values[at] ?? null)]).filter((row) => row[0] >= from && row[0] <= to);
    return { header: [this.options.x, ...lines.map((line) => line.name)], rows };
  }

  tabulate() {
    if (this.list.hidden) return;
    const { header, rows } = this.values(), most = 50;
    fill(this.list, rows.length > most ? h("p", { className: "soft small" }, `The last ${most} of ${number(rows.length)} steps; the CSV has all.`) : null,
      table(this.options.title, header, rows.slice(-most).reverse().map(([step, ...rest]) => [number(step), ...rest.map((value) => (value === null ? "–" : this.options.say(value)))])));
  }
}

/** Bars of counts over bins, drawn as SVG: [{ name, colour, counts }] over the same edges, each as a share of its own sum where `shares`. */
export function bars({ edges, sets, shares = false, say = number, label, band = null }) {
  const SVG = "http://www.w3.org/2000/svg", width = 600, height = 180, foot = 24, bins = edges.length - 1;
  const make = (tag, props, text) => { const node = document.createElementNS(SVG, tag); for (const [key, value] of Object.entries(props)) node.setAttribute(key, value); if (text) node.textContent = text; return node; };
  const heights = sets.map((set) => { const total = shares ? set.counts.reduce((a, b) => a + b, 0) || 1 : 1; return set.counts.map((count) => count / total); });
  const most = Math.max(1e-12, ...heights.flat()), x = (bin) => bin / bins * width, y = (value) => height - value / most * (height - 10);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height + foot}`, role: "img", "aria-label": label, class: "bars" });
  if (band) svg.append(make("rect", { x: band[0] * width, width: (band[1] - band[0]) * width, y: 0, height, class: "band" }));
  sets.forEach((set, own) => heights[own].forEach((value, bin) => {
    const inset = (0.1 + own * 0.1) * width / bins;
    const rect = make("rect", { x: x(bin) + inset, width: Math.max(1, width / bins - 2 * inset), y: y(value), height: height - y(value), class: `fill-${set.colour}` });
    rect.append(make("title", {}, `${say(edges[bin])} to ${say(edges[bin + 1])}: ${number(set.counts[bin])} ${set.name}`));
    svg.append(rect);
  }));
  svg.append(make("text", { x: 0, y: 12 }, shares ? `${number(most * 100, 2)} %` : number(most)));
  svg.append(make("line", { x1: 0, x2: width, y1: height, y2: height, class: "axis" }));
  for (const part of [0, 0.25, 0.5, 0.75, 1]) svg.append(make("text", { x: part * width, y: height + foot - 6, "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle" }, say(edges[Math.round(part * bins)])));
  return svg;
}
