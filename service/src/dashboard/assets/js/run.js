/* What is known of one session: its info, its points by step, its clusters now, and what was done by hand; kept up to date by events. */
import { at, attempt, complain, events, get, pause } from "./api.js";
import { COLOURS } from "./charts.js";

/** Steps asked for at a time. */
const PAGE = 1000;

export class Run {
  constructor(id, changed) {
    Object.assign(this, { id, changed, info: null, state: null, points: [], steers: [], window: 1000, colours: new Map(), stop: new AbortController(), due: new Set() });
  }

  path(rest = "") { return at("sessions", this.id, rest); }

  /** Load, and follow until closed. */
  async open() {
    this.info = await get(this.path(), this.options());
    this.changed("info");
    while (this.info.status === "preparing") {
      await pause(1000, this.stop.signal);
      if (this.stop.signal.aborted) return;
      this.info = await get(this.path(), this.options());
      this.changed("info");
    }
    if (this.info.status === "failed") return;
    await Promise.all([this.load(), this.look()]);
    this.follow();
    this.clock = setInterval(() => document.hidden || this.look().catch(() => {}), 3000);
  }

  close() {
    this.stop.abort();
    clearInterval(this.clock);
    clearTimeout(this.timer);
    clearTimeout(this.filling);
  }

  options() { return { signal: this.stop.signal }; }

  /** The points of the window, page by page. */
  async load() {
    const from = this.window ? Math.max(0, this.info.step - this.window) : 0;
    let after = from, points = [];
    for (;;) {
      const page = await get(this.path(`/history?after=${after}&limit=${PAGE}`), this.options());
      points = points.concat(page.points);
      if (page.points.length === 0 || page.next <= after) break;
      after = page.next;
      if (after >= this.info.step) break;
    }
    this.points = points;
    this.changed("points");
  }

  /** The clusters as they stand. */
  async look() {
    const before = this.groupsOf().length;
    const [state, info] = await Promise.all([get(this.path("/state?words=true"), this.options()), get(this.path(), this.options())]);
    this.state = state;
    this.renew(info);
    if (this.state.steers) this.steers = this.state.steers;
    // Clusters that were found just now are in no point that was loaded before.
    if (!before && this.groupsOf().length && this.bare().length) await this.load();
    this.changed("state");
  }

  follow() {
    const last = this.points.length ? this.points.at(-1).step : Math.max(0, this.info.step);
    events(this.path("/events"), { signal: this.stop.signal, last, on: (kind, data) => this.take(kind, data), over: (kind) => kind === "ended" })
      .catch((error) => { if (!this.stop.signal.aborted) complain(error); });
  }

  take(kind, data) {
    if (kind === "point") { this.put(data); if (this.groupsOf().length && !Object.keys(data.groups || {}).length) this.refill(); }
    else if (kind === "info") this.renew(data);
    else if (kind === "steer") this.steers.push({ step: this.info.step, ...data });
    else if (kind === "ended") attempt(async () => { this.info = await get(this.path(), this.options()); this.soon("info"); });
    this.soon(kind === "point" || kind === "steer" ? "points" : "info");
  }

  /** News of the session; after a seek the points behind it are forgotten. */
  renew(info) {
    this.info = info;
    if (this.points.length && this.points.at(-1).step > info.step) this.points = this.points.filter((point) => point.step <= info.step);
  }

  /** Points that say nothing of clusters. */
  bare() { return this.points.filter((point) => !point.groups || !Object.keys(point.groups).length); }

  /** Where the method has no clusters, news say nothing of those that were found for it; the history does, a little later. */
  refill() {
    this.filling ||= setTimeout(async () => {
      this.filling = null;
      const first = this.bare()[0];
      if (!first || this.stop.signal.aborted) return;
      try {
        const page = await get(this.path(`/history?after=${first.step - 1}&limit=${PAGE}`), this.options());
        page.points.forEach((point) => this.put(point));
        this.soon("points");
      } catch { /* the next point tries again */ }
    }, 1500);
  }

  /** A point in its place: mostly the last one. */
  put(point) {
    let place = this.points.length;
    while (place > 0 && this.points[place - 1].step > point.step) place -= 1;
    if (place > 0 && this.points[place - 1].step === point.step) this.points[place - 1] = point;
    else this.points.splice(place, 0, point);
    if (this.window && this.points.length > this.window * 1.2) this.points.splice(0, this.points.length - this.window);
    if (this.info && point.step > this.info.step) Object.assign(this.info, { step: point.step, epoch: point.epoch ?? this.info.epoch });
  }

  /** Tell of changes, a few times a second at most. */
  soon(what) {
    this.due.add(what);
    this.timer ||= setTimeout(() => {
      this.timer = null;
      const due = [...this.due];
      this.due.clear();
      due.forEach((own) => this.changed(own));
    }, 300);
  }

  /** Values of a field of the points, null where there is none. */
  column(of) { return this.points.map((point) => of(point) ?? null); }

  /** What is told of a cluster: the last value known at every step. */
  group(group, field) {
    const key = String(group);
    let last = null;
    return this.points.map((point) => {
      const value = point.groups?.[key]?.[field];
      if (value !== undefined && value !== null) last = value;
      return last;
    });
  }

  /** Rows of a cluster drawn over the last `window` steps, as a share of all rows drawn in them. */
  drawnShare(group, window) {
    const key = String(group), own = this.points.map((point) => point.groups?.[key]?.drawn || 0);
    const all = this.points.map((point) => point.rows || 0);
    let sum = 0, total = 0;
    return own.map((value, i) => {
      sum += value; total += all[i];
      if (i >= window) { sum -= own[i - window]; total -= all[i - window]; }
      return total ? sum / total : null;
    });
  }

  /** Whether the method has weights of clusters. */
  weighted() { return Boolean(this.state?.groups?.some((own) => own.weight !== null && own.weight !== undefined)); }

  groupsOf() { return this.state?.groups || []; }

  /** A cluster's name. */
  name(group) {
    const own = this.groupsOf().find((one) => one.group === group), words = own?.keywords?.slice(0, 3).join(", ");
    return words ? `${group} · ${words}` : `cluster ${group}`;
  }

  /** Give these clusters the distinct colours, each keeping the one it has. */
  assign(groups) {
    for (const group of [...this.colours.keys()]) if (!groups.includes(group)) this.colours.delete(group);
    const taken = new Set(this.colours.values()), free = Array.from({ length: COLOURS }, (_, at) => `--c${at}`).filter((own) => !taken.has(own));
    for (const group of groups) if (!this.colours.has(group) && free.length) this.colours.set(group, free.shift());
  }

  /** A cluster's colour on every view: a distinct one, or a generated hue for those that are in no chart. */
  colour(group) { return this.colours.get(group) || `hsl(${Math.round((group * 137.508) % 360)} 40% 55%)`; }

  /** The same as the style sheet writes it. */
  ink(group) {
    const own = this.colour(group);
    return own.startsWith("--") ? `var(${own})` : own;
  }
}
