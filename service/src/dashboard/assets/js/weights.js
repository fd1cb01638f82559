/* Cluster weights over time: who gains, who loses, and what is known of why. */
import { attempt, tell } from "./api.js";
import { Chart, COLOURS, smooth } from "./charts.js";
import { button, card, choice, fill, h, number, percent, signed } from "./dom.js";
import { exports } from "./export.js";
import { steer } from "./steer.js";

const KINDS = { weight: "Weight", drawn: "Share of rows drawn", signal: "Feedback" };
const DRAWN_WINDOW = 50;

/** The view: { node, update(what), close() }. */
export function weights(run) {
  const own = { kind: null, shape: "lines", which: "moved", sort: "change", down: true, chosen: [], at: 0 };
  const controls = h("span", { className: "tools" });
  const chart = new Chart({ title: "Clusters over time", lead: "A line a cluster. Drag across the chart to look closer, double-click to see all again.", name: ["curate", run.id, "clusters"], controls,
    say: (v) => (own.kind === "signal" ? number(v) : percent(v)), zero: true, height: 340 });
  const movers = h("div", { className: "two" }), body = h("tbody"), head = h("tr");
  const list = card("Clusters now", "Change is that over the steps shown, in points of a hundred. Feedback is the mean of what the trainer last sent of the cluster's rows; drawn counts a row as often as it was drawn, left are rows never drawn.",
    [exports(["curate", run.id, "clusters-now"], () => values(run))],
    h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Clusters now" }, h("table", { className: "clusters" }, h("caption", { className: "hidden" }, "Clusters now"), h("thead", {}, head), body)));
  const node = h("div", {}, chart.node, movers, list);

  const set = (key) => (value) => { own[key] = value; own.at = 0; draw(); };
  function options() {
    own.kind ||= run.weighted() ? "weight" : "drawn";
    const kinds = Object.entries(KINDS).filter(([kind]) => kind !== "weight" || run.weighted());
    fill(controls, choice("Show", kinds, own.kind, set("kind")),
      own.kind === "signal" ? null : choice("as", [["lines", "lines"], ["area", "stacked areas"]], own.shape, set("shape")),
      choice("of", [["moved", "those that moved most"], ["largest", "the largest"]], own.which, set("which")));
  }

  function draw() {
    const rows = ranked(run);
    choose(rows);
    options();
    chart.options.empty = !run.points.length ? "No step has been drawn yet. The chart begins with the first batch." : run.info.brings_candidates && !run.info.rows ? "The trainer brings the rows of this session, so nothing is known of clusters." : "Clusters are being found, for looking only: this method has none of its own.";
    chart.update(lines());
    gains(rows);
    tabulate(rows);
  }

  /** The clusters of the chart; looked at again now and then, so that lines do not come and go with every step. */
  function choose(rows) {
    if (own.chosen.length === Math.min(COLOURS, rows.length) && Date.now() - own.at < 20000) return;
    // Nothing has moved before the points are there: then look again at once.
    own.at = run.points.length ? Date.now() : 0;
    const by = own.which === "moved" ? (row) => Math.abs(row.change ?? 0) : (row) => row.share ?? 0;
    own.chosen = [...rows].sort((a, b) => by(b) - by(a) || a.group - b.group).slice(0, COLOURS).map((row) => row.group);
    own.chosen.sort((a, b) => a - b);
    run.assign(own.chosen);
  }

  function lines() {
    const x = run.points.map((point) => point.step), stacked = own.shape === "area" && own.kind !== "signal";
    const of = { weight: (group) => run.group(group, "weight"), drawn: (group) => run.drawnShare(group, DRAWN_WINDOW), signal: (group) => smooth(run.group(group, "signal"), 5) }[own.kind];
    const all = own.chosen.map((group) => ({ key: group, name: run.name(group), colour: run.colour(group), values: of(group) }));
    if (stacked && run.groupsOf().length > all.length) {
      const rest = x.map((_, at) => Math.max(0, 1 - all.reduce((sum, line) => sum + (line.values[at] || 0), 0)));
      all.push({ key: "rest", name: `${run.groupsOf().length - all.length} others`, colour: "--cx", values: rest });
    }
    const marks = run.steers.filter((one) => x.length && one.step >= x[0]).map((one) => ({ step: one.step, text: `cluster ${one.group} ×${number(one.factor)}` }));
    return { x, lines: x.length ? all : [], marks, stacked };
  }

  function gains(rows) {
    const moved = rows.filter((row) => row.change).sort((a, b) => b.change - a.change);
    const mean = average(rows);
    const item = (row) => h("li", {}, h("a", { href: link(run, row.group) }, run.name(row.group)), " ", h("b", { className: "mono" }, `${percent(row.first)} → ${percent(row.share)}`), h("div", { className: "soft small" }, reason(row, mean)));
    movers.hidden = !rows.length;
    const part = (title, own) => card(title, null, null, own.length ? h("ol", { className: "moves" }, own.map(item)) : h("p", { className: "soft" }, "None yet."));
    fill(movers, part("Gaining most", moved.filter((row) => row.change > 0).slice(0, 3)), part("Losing most", moved.filter((row) => row.change < 0).slice(-3).reverse()));
  }

  function tabulate(rows) {
    const columns = [["group", "Cluster"], ["share", run.weighted() ? "Weight" : "Drawn share"], ["change", "Change, points"], ["signal", "Feedback"], ["rows", "Rows"], ["drawn", "Drawn"], ["left", "Left"]];
    const steps = run.weighted() ? [h("th", { scope: "col" }, "By hand")] : [];
    fill(head, columns.map(([key, title]) => h("th", { scope: "col", "aria-sort": own.sort === key ? (own.down ? "descending" : "ascending") : "none" },
      button(`${title}${own.sort === key ? (own.down ? " ↓" : " ↑") : ""}`, () => { own.down = own.sort === key ? !own.down : true; own.sort = key; tabulate(ranked(run)); }, { className: "sort", "data-key": `sort-${key}` }))), steps);
    const sign = own.down ? -1 : 1, value = (row) => row[own.sort] ?? -Infinity;
    const sorted = [...rows].sort((a, b) => sign * (value(a) - value(b)) || a.group - b.group);
    list.hidden = !rows.length;
    fill(body, sorted.map((row) => h("tr", {}, h("th", { scope: "row" }, h("i", { className: "dot", style: { background: run.ink(row.group) } }), h("a", { href: link(run, row.group), "data-key": `group-${row.group}` }, run.name(row.group))),
      h("td", {}, percent(row.share)), h("td", { className: row.change > 0 ? "good" : row.change < 0 ? "bad" : "" }, row.change === null ? "–" : signed(row.change * 100, (v) => v.toFixed(1))),
      h("td", {}, number(row.signal)), h("td", {}, number(row.rows)), h("td", {}, number(row.drawn)), h("td", {}, number(row.left)),
      steps.length ? h("td", {}, button("Change …", () => act(row.group), { className: "small", "data-key": `steer-${row.group}`, "aria-label": `Change the weight of ${run.name(row.group)}` })) : null)));
  }

  const act = (group) => attempt(async () => {
    const factor = await steer(run, group);
    if (factor) tell(`Cluster ${group} ×${number(factor)}: recorded, and in force from the next batch on.`);
  });

  return { node, update: draw, close: () => chart.close() };
}

const link = (run, group) => `#/sessions/${encodeURIComponent(run.id)}/cluster/${group}`;

/** Every cluster with its share at the first and the last step shown. */
export function ranked(run) {
  const weighted = run.weighted();
  return run.groupsOf().map((own) => {
    const values = weighted ? run.group(own.group, "weight") : run.drawnShare(own.group, DRAWN_WINDOW);
    const known = values.filter((value) => value !== null), share = weighted ? own.weight : known.at(-1) ?? null;
    // The first steps of a share of rows drawn say little: they are few.
    const first = known[weighted ? 0 : Math.min(DRAWN_WINDOW, known.length) - 1] ?? null;
    return { ...own, share, first, change: first === null || share === null ? null : share - first, left: own.left ?? (own.rows === null || own.rows === undefined ? null : Math.max(0, own.rows - own.drawn)) };
  });
}

function average(rows) {
  const told = rows.filter((row) => row.signal !== null && row.signal !== undefined);
  return told.length ? told.reduce((sum, row) => sum + row.signal, 0) / told.length : null;
}

function reason(row, mean) {
  const words = [];
  if (row.signal !== null && row.signal !== undefined && mean) words.push(`feedback ${number(row.signal)}, ${percent(Math.abs(row.signal / mean - 1))} ${row.signal >= mean ? "above" : "below"} the clusters' mean`);
  words.push(row.rows ? `drawn ${number(row.drawn)} times, from ${number(row.rows)} rows` : `drawn ${number(row.drawn)} times`);
  return words.join("; ");
}

function values(run) {
  const header = ["cluster", "keywords", "weight", "change", "feedback", "rows", "drawn", "left"];
  return { header, rows: ranked(run).map((row) => [row.group, (row.keywords || []).join(" "), row.weight ?? null, row.change, row.signal ?? null, row.rows, row.drawn, row.left]) };
}
