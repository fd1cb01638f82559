/* The map of the corpus: pan, zoom, hover, colours, a legend that singles out, and the row behind a point. */
import { complain, get, pause } from "./api.js";
import { button, card, choice, css, fill, h, number, table } from "./dom.js";
import { exports } from "./export.js";
import { packed, Points, ramp, rgb } from "./points.js";
import { rowText } from "./parts.js";

const LISTED = 14;
const HELP = "Drag to move. Click, then turn the wheel to zoom; pinch on a touch screen. Keys: arrows, + and −, 0 for all, Enter for the row in the middle. The axes are the two directions in which the rows' vectors differ most.";

export class CorpusMap {
  constructor(run) {
    Object.assign(this, { run, points: null, view: { x: 0, y: 0, zoom: 1, unit: 1 }, by: "group", only: null, hovered: -1, pinned: -1, texts: new Map(), stop: new AbortController(), held: new Map(), labels: true });
    this.canvas = h("canvas", { className: "dots", tabIndex: 0, role: "application" });
    this.over = h("canvas", { className: "over", "aria-hidden": "true" });
    this.tip = h("div", { className: "tip wide", hidden: true });
    this.wait = h("p", { className: "wait", role: "status" }, "The map is being made …");
    this.stage = h("div", { className: "map-stage" }, this.canvas, this.over, this.wait, this.tip);
    this.legend = h("ul", { className: "legend map-legend" });
    this.about = h("div", { className: "about", "aria-live": "polite" }, h("span", { className: "soft" }, "Point at a dot to read its row; click to keep it here."));
    this.list = h("div", { hidden: true });
    this.bench = h("div", { className: "bench" });
    this.tools = h("span", { className: "tools" });
    this.node = card("Map of the corpus", HELP, this.tools, this.bench, this.stage, this.legend, this.about, this.list);
    this.paint = () => this.recolour();
    document.addEventListener("curate-colours", this.paint);
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.stage);
    this.listen();
    this.load();
  }

  /** Dots stay as they were asked for, and the button renews them; the clusters' words and colours may come later than the map. */
  update() {
    if (!this.points || this.by !== "group") return;
    const told = this.told();
    if (told === this.seen) return;
    const held = this.legend.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.recolour();
    if (held !== null) [...this.legend.querySelectorAll("button")].find((own) => own.dataset.key === held)?.focus();
  }

  /** What dots, legend and labels take from the session: names and colours of its clusters. */
  told() { return JSON.stringify(this.run.groupsOf().map(({ group }) => [this.run.name(group), this.run.colour(group)])); }

  close() {
    this.stop.abort();
    this.observer.disconnect();
    document.removeEventListener("curate-colours", this.paint);
  }

  async load() {
    const signal = this.stop.signal;
    while (!signal.aborted) {
      try {
        const answer = await get(this.run.path("/map"), { signal });
        this.sources = answer.sources || [];
        this.points = new Points(answer.columns);
        this.begin();
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (error.status !== 425 && !error.retriable) { this.wait.textContent = `There is no map: ${error.message}${error.hint ? ` (${error.hint})` : ""}`; if (error.status >= 500 || !error.status) complain(error); return; }
        await pause(700, signal);
      }
    }
  }

  begin() {
    const { points } = this, has = (list, test) => list.some(test);
    this.wait.hidden = true;
    this.canvas.setAttribute("aria-label", `Map of ${number(points.count)} rows. Arrow keys move, plus and minus zoom, Enter reads the row in the middle.`);
    const kinds = [["group", "cluster", has(points.group, (g) => g >= 0)], ["source", "source", this.sources.length > 0], ["score", "score", has(points.score, (s) => s === s)], ["picked", "drawn or not", true]].filter((kind) => kind[2]);
    if (!kinds.some((kind) => kind[0] === this.by)) this.by = kinds[0][0];
    const box = h("input", { type: "checkbox", checked: this.labels, onchange: () => { this.labels = box.checked; this.redraw(); } });
    fill(this.bench, choice("Colour by", kinds, this.by, (value) => { this.by = value; this.only = null; this.recolour(); }),
      h("label", { className: "choice" }, box, h("span", {}, "names of clusters")),
      h("span", { className: "tools" }, button("+", () => this.zoom(1.6), { "aria-label": "zoom in" }), button("−", () => this.zoom(1 / 1.6), { "aria-label": "zoom out" }), button("All", () => this.reset(), { "aria-label": "show all points" })),
      h("span", { className: "soft small" }, `${number(points.count)} rows, ${number(points.picked.reduce((a, b) => a + b, 0))} drawn`));
    const toggle = button("Table", () => { this.list.hidden = !this.list.hidden; toggle.setAttribute("aria-pressed", String(!this.list.hidden)); this.tabulate(); }, { className: "small", "aria-pressed": "false", title: "rows in view as a table" });
    fill(this.tools, button("Renew", () => this.load(), { className: "small", title: "ask again which rows are drawn" }), toggle, exports(["curate", this.run.id, "map"], () => this.values(), () => this.picture()));
    this.centres = centres(points);
    this.recolour();
  }

  /** Colour of every point, and the legend. */
  recolour() {
    if (!this.points) return;
    this.seen = this.told();
    const { points, run } = this, grey = rgb(css("--cx")), colour = (name) => rgb(name.startsWith("--") ? css(name) : name);
    const palette = (n) => (n >= 0 && n < 8 ? colour(`--c${n}`) : grey);
    const scores = this.by === "score" ? middle(points.score) : null;
    const of = {
      group: (i) => (points.group[i] < 0 ? grey : colour(run.colour(points.group[i]))), source: (i) => palette(points.source[i]),
      score: (i) => (points.score[i] === points.score[i] ? ramp((points.score[i] - scores[0]) / (scores[1] - scores[0] || 1)) : grey), picked: (i) => colour(points.picked[i] ? "--picked" : "--whole"),
    }[this.by];
    const cache = new Map(), key = this.by === "score" ? null : { group: points.group, source: points.source, picked: points.picked }[this.by];
    for (let i = 0; i < points.count; i += 1) {
      if (!key) { points.paint[i] = packed(of(i)); continue; }
      if (!cache.has(key[i])) cache.set(key[i], packed(of(i)));
      points.paint[i] = cache.get(key[i]);
    }
    for (let i = 0; i < points.count; i += 1) points.dim[i] = this.only !== null && key && key[i] !== this.only ? 1 : 0;
    this.explain(key, scores);
    this.redraw();
  }

  explain(key, scores) {
    if (!key) {
      const stops = [0, 0.25, 0.5, 0.75, 1].map((v) => `rgb(${ramp(v).join(" ")})`).join(", ");
      fill(this.legend, h("li", { className: "key" }, number(scores[0]), h("i", { className: "ramp", style: { background: `linear-gradient(90deg, ${stops})` } }), number(scores[1]), h("span", { className: "soft" }, "score; its lowest and highest hundredth are drawn like the ends")));
      return;
    }
    const sizes = new Map();
    key.forEach((value) => sizes.set(value, (sizes.get(value) || 0) + 1));
    const all = [...sizes].sort((a, b) => b[1] - a[1]), listed = all.slice(0, LISTED);
    const name = (value) => ({ group: () => (value < 0 ? "no cluster" : this.run.name(value)), source: () => this.sources[value] ?? "unknown", picked: () => (value ? "drawn" : "not drawn") }[this.by]());
    const dot = (value) => ({ group: () => (value < 0 ? "var(--cx)" : this.run.ink(value)), source: () => (value >= 0 && value < 8 ? `var(--c${value})` : "var(--cx)"), picked: () => (value ? "var(--picked)" : "var(--whole)") }[this.by]());
    fill(this.legend, listed.map(([value, count]) => h("li", {}, button([h("i", { style: { background: dot(value), "border-color": dot(value) } }), `${name(value)} (${number(count)})`], () => { this.only = this.only === value ? null : value; this.recolour(); },
      { className: "key", "aria-pressed": String(this.only === value), "data-key": String(value), title: this.only === value ? "show all alike" : "single out" }))), all.length > listed.length ? h("li", { className: "soft small" }, `and ${number(all.length - listed.length)} more`) : null);
  }

  size() { return { width: this.stage.clientWidth || 300, height: this.stage.clientHeight || 300, ratio: Math.min(2, devicePixelRatio || 1) }; }

  /** Draw as a view moves: fewer points where all would be slow, and all of them once it rests. */
  moving() {
    this.stride = Math.max(1, Math.min(10, Math.ceil((this.whole || 0) / 20)));
    this.redraw();
    clearTimeout(this.rest);
    this.rest = setTimeout(() => { this.stride = 1; this.redraw(); }, 140);
  }

  redraw() { this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.draw(); }); }

  draw() {
    if (!this.points) return;
    const { width, height, ratio } = this.size(), begun = performance.now();
    for (const own of [this.canvas, this.over]) { const [w, t] = [Math.round(width * ratio), Math.round(height * ratio)]; if (own.width !== w || own.height !== t) { own.width = w; own.height = t; this.image = null; } }
    this.unit = Math.min(width, height) / 2 * 0.95 * this.view.zoom;
    const pen = this.canvas.getContext("2d");
    this.image ||= pen.createImageData(this.canvas.width, this.canvas.height);
    this.points.draw(this.image, { ...this.view, unit: this.unit * ratio }, packed(rgb(css("--card"))), ratio, this.stride || 1);
    pen.putImageData(this.image, 0, 0);
    this.canvas.dataset.points = String(this.points.count);
    const took = performance.now() - begun;
    if ((this.stride || 1) === 1) this.whole = took;
    this.canvas.dataset.ms = took.toFixed(1);
    this.annotate();
    if (!this.list.hidden) this.tabulate();
  }

  /** Names of clusters, and rings around what is pointed at. */
  annotate() {
    const { width, height, ratio } = this.size(), pen = this.over.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (this.labels) this.name(pen, width, height);
    for (const [i, size] of [[this.pinned, 8], [this.hovered, 6]]) {
      if (i < 0) continue;
      const [x, y] = this.screen(this.points.x[i], this.points.y[i]);
      pen.strokeStyle = css("--ink");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x, y, size, 0, 6.2832);
      pen.stroke();
    }
  }

  name(pen, width, height) {
    const taken = [];
    pen.font = "600 12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeStyle = css("--card");
    pen.fillStyle = css("--ink");
    for (const { group, x, y } of this.centres) {
      const words = this.run.groupsOf().find((own) => own.group === group)?.keywords?.slice(0, 2).join(", ");
      const [px, py] = this.screen(x, y), text = words || `cluster ${group}`, half = pen.measureText(text).width / 2 + 4;
      if (px < half || px > width - half || py < 14 || py > height - 6 || taken.some((own) => Math.abs(own[0] - px) < own[2] + half && Math.abs(own[1] - py) < 16)) continue;
      taken.push([px, py, half]);
      pen.strokeText(text, px, py);
      pen.fillText(text, px, py);
    }
  }

  screen(x, y) { const { width, height } = this.size(); return [width / 2 + (x - this.view.x) * this.unit, height / 2 - (y - this.view.y) * this.unit]; }
  world(px, py) { const { width, height } = this.size(); return [(px - width / 2) / this.unit + this.view.x, (height / 2 - py) / this.unit + this.view.y]; }

  zoom(factor, px = this.size().width / 2, py = this.size().height / 2) {
    const [x, y] = this.world(px, py), before = this.view.zoom;
    this.view.zoom = Math.max(1, Math.min(400, before * factor));
    const kept = before / this.view.zoom;
    this.move(x + (this.view.x - x) * kept, y + (this.view.y - y) * kept);
  }

  move(x, y) {
    this.view.x = Math.max(-1, Math.min(1, x));
    this.view.y = Math.max(-1, Math.min(1, y));
    if (this.view.zoom === 1) this.view.x = this.view.y = 0;
    this.canvas.style.setProperty("touch-action", this.view.zoom === 1 ? "pan-y" : "none");
    this.moving();
  }

  reset() { this.view.zoom = 1; this.move(0, 0); }

  listen() {
    const { canvas, held } = this, spot = (event) => [event.offsetX, event.offsetY];
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); held.set(event.pointerId, spot(event)); this.pressed = spot(event); });
    canvas.addEventListener("pointermove", (event) => this.drag(event.pointerId, spot(event), event.pointerType));
    canvas.addEventListener("pointerup", (event) => { const [x, y] = spot(event); if (held.size === 1 && this.pressed && Math.hypot(x - this.pressed[0], y - this.pressed[1]) < 5) this.pin(this.find(x, y, event.pointerType === "touch" ? 22 : 12)); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => held.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.hover(-1));
    canvas.addEventListener("wheel", (event) => { if (event.ctrlKey || document.activeElement === canvas) { event.preventDefault(); this.zoom(2 ** (-event.deltaY / 250), ...spot(event)); } }, { passive: false });
    canvas.addEventListener("dblclick", (event) => this.zoom(2, ...spot(event)));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  drag(id, now, kind) {
    const was = this.held.get(id);
    if (!was) { if (kind !== "touch") this.hover(this.find(...now, 9), now); return; }
    this.held.set(id, now);
    const other = [...this.held].find(([own]) => own !== id)?.[1];
    if (other) {
      const gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      this.zoom(gap(now) / gap(was), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (this.view.zoom > 1) this.move(this.view.x - (now[0] - was[0]) / this.unit, this.view.y + (now[1] - was[1]) / this.unit);
  }

  key(event) {
    const step = 0.2 / this.view.zoom, { x, y } = this.view;
    const keys = { ArrowLeft: () => this.move(x - step, y), ArrowRight: () => this.move(x + step, y), ArrowUp: () => this.move(x, y + step), ArrowDown: () => this.move(x, y - step), "+": () => this.zoom(1.6), "=": () => this.zoom(1.6), "-": () => this.zoom(1 / 1.6), 0: () => this.reset(), Enter: () => this.pin(this.points.nearest(x, y, 2)), Escape: () => this.pin(-1) };
    if (!keys[event.key] || event.metaKey || event.altKey || event.ctrlKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  find(px, py, reach) { return this.points ? this.points.nearest(...this.world(px, py), reach / this.unit) : -1; }

  facts(i) {
    const { points } = this;
    return [`row ${points.row[i]}`, points.group[i] >= 0 ? this.run.name(points.group[i]) : "", points.score[i] === points.score[i] ? `score ${number(points.score[i])}` : "", this.sources[points.source[i]] || "", points.picked[i] ? "drawn" : "not drawn"].filter(Boolean).join(" · ");
  }

  hover(i) {
    if (i === this.hovered) return;
    this.hovered = i;
    clearTimeout(this.dwell);
    this.tip.hidden = i < 0;
    this.annotate();
    if (i < 0) return;
    const text = h("div", { className: "clip" }, "…");
    fill(this.tip, h("div", { className: "soft small" }, this.facts(i)), text);
    this.beside(i);
    this.dwell = setTimeout(async () => { const words = await this.text(this.points.row[i]); if (this.hovered === i) { text.textContent = words; this.beside(i); } }, this.texts.has(this.points.row[i]) ? 0 : 120);
  }

  beside(i) {
    const [x, y] = this.screen(this.points.x[i], this.points.y[i]), { width, height } = this.size(), { offsetWidth, offsetHeight } = this.tip;
    this.tip.style.setProperty("left", `${Math.max(4, Math.min(width - offsetWidth - 4, x + (x > width / 2 ? -offsetWidth - 12 : 12)))}px`);
    this.tip.style.setProperty("top", `${Math.max(4, Math.min(height - offsetHeight - 4, y + 12))}px`);
  }

  async text(row) {
    if (!this.texts.has(row)) {
      try { const answer = await get(this.run.path(`/rows/${row}`), { signal: this.stop.signal }); this.texts.set(row, rowText(answer.data ?? answer)); } catch (error) { return error.message; }
      if (this.texts.size > 500) this.texts.delete(this.texts.keys().next().value);
    }
    return this.texts.get(row);
  }

  async pin(i) {
    this.pinned = i;
    this.annotate();
    if (i < 0) return;
    const words = h("pre", { tabIndex: 0 }, "…"), group = this.points.group[i];
    fill(this.about, h("div", { className: "soft small" }, this.facts(i), group >= 0 ? [" · ", h("a", { href: `#/sessions/${encodeURIComponent(this.run.id)}/cluster/${group}` }, "see the cluster")] : null), words);
    words.textContent = await this.text(this.points.row[i]);
  }

  inView() {
    const { width, height } = this.size(), [left, high] = this.world(0, 0), [right, low] = this.world(width, height), { points } = this, out = [];
    points.within(left, right, low, high, (i) => { if (!points.dim[i] && points.x[i] >= left && points.x[i] <= right && points.y[i] >= low && points.y[i] <= high) out.push(i); });
    return out;
  }

  values() {
    const { points } = this;
    return { header: ["row", "cluster", "score", "source", "drawn", "x", "y"], rows: this.inView().map((i) => [points.row[i], points.group[i] < 0 ? null : points.group[i], points.score[i] === points.score[i] ? Number(points.score[i].toPrecision(6)) : null, this.sources[points.source[i]] ?? null, Boolean(points.picked[i]), points.x[i], points.y[i]]) };
  }

  tabulate() {
    if (this.list.hidden) return;
    const { points, view } = this, away = (i) => (points.x[i] - view.x) ** 2 + (points.y[i] - view.y) ** 2, all = this.inView();
    const rows = all.map((i) => [away(i), i]).sort((a, b) => a[0] - b[0]).slice(0, 50).map((own) => own[1]);
    fill(this.list, h("p", { className: "soft small" }, `${number(all.length)} rows in view; the ${number(rows.length)} nearest to the middle.`), table("Rows in view", ["row", "cluster", "score", "source", "drawn"],
      rows.map((i) => [button(String(points.row[i]), () => this.pin(i), { className: "small", "data-key": `row-${points.row[i]}` }), points.group[i] < 0 ? "–" : this.run.name(points.group[i]), number(points.score[i]), this.sources[points.source[i]] ?? "–", points.picked[i] ? "yes" : "no"])));
  }

  picture() {
    const own = h("canvas", { width: this.canvas.width, height: this.canvas.height }), pen = own.getContext("2d");
    pen.drawImage(this.canvas, 0, 0);
    pen.drawImage(this.over, 0, 0);
    return own;
  }
}

/** The middle of every cluster, the largest first. */
function centres(points) {
  const sums = new Map();
  for (let i = 0; i < points.count; i += 1) {
    if (points.group[i] < 0) continue;
    const own = sums.get(points.group[i]) || { group: points.group[i], x: 0, y: 0, count: 0 };
    own.x += points.x[i]; own.y += points.y[i]; own.count += 1;
    sums.set(points.group[i], own);
  }
  return [...sums.values()].sort((a, b) => b.count - a.count).map(({ group, x, y, count }) => ({ group, x: x / count, y: y / count }));
}

/** The values between which all but the outer hundredths lie. */
function middle(values) {
  const sorted = values.filter((value) => value === value).sort();
  return sorted.length ? [sorted[Math.floor(sorted.length * 0.01)], sorted[Math.ceil(sorted.length * 0.99) - 1]] : [0, 1];
}
