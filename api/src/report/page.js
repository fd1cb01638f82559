/* The sections of the page, from the data in it. Words of the data are only ever set as text. */
const report = JSON.parse(document.getElementById("data").textContent);
const { head, cost } = report;

function make(tag, props = {}, children = []) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}
function drawn(tag, attributes, children = []) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function number(v) {
  if (v === null || v === undefined) return "–";
  const size = Math.abs(v);
  if (Number.isInteger(v) && size < 1e15) return v.toLocaleString("en");
  if (size >= 1000) return v.toLocaleString("en", { maximumFractionDigits: 0 });
  if (size < 0.001) return v === 0 ? "0" : v.toExponential(1);
  return v.toLocaleString("en", { maximumSignificantDigits: 3 });
}
const percent = (v) => (v * 100).toLocaleString("en", { maximumFractionDigits: v < 0.0995 ? 1 : 0 }) + "%";
const large = (v) => { const units = ["", " k", " M", " G", " T", " P"]; let i = 0; while (v >= 1000 && i < 5) { v /= 1000; i++; } return number(v) + units[i]; };
const bytes = (v) => { const units = ["B", "KiB", "MiB", "GiB", "TiB"]; let i = 0; while (v >= 1024 && i < 4) { v /= 1024; i++; } return number(v) + " " + units[i]; };
const key = (name, fill) => { const dot = make("i"); dot.style.background = `var(${fill})`; return make("span", { className: "key" }, [dot, name]); };
const soft = (text) => make("p", { className: "soft small", textContent: text });

const contents = make("ul");
function section(id, title, lead, children) {
  const heading = make("h2", { id: id + "-h", textContent: title });
  const node = make("section", { id }, [heading, ...(lead ? [soft(lead)] : []), ...children]);
  node.setAttribute("aria-labelledby", id + "-h");
  contents.append(make("li", {}, [make("a", { href: "#" + id, textContent: title })]));
  document.getElementById("page").append(node);
}
function table(caption, header, rows) {
  const cell = (tag, scope) => (value) => { const c = make(tag); scope && c.setAttribute("scope", scope); c.append(value); return c; };
  const named = (value, i) => { const c = cell("td")(value); c.dataset.label = header[i + 1]; return c; };
  const line = ([first, ...rest]) => make("tr", {}, [cell("th", "row")(first), ...rest.map(named)]);
  return make("div", { className: "scroll", tabIndex: 0 }, [make("table", {}, [
    ...(caption ? [make("caption", { textContent: caption })] : []),
    make("thead", {}, [make("tr", {}, header.map(cell("th", "col")))]),
    make("tbody", {}, rows.map(line)),
  ])]);
}

function top() {
  const { counts, tokens } = head;
  const budget = Object.fromEntries(head.plan).budget;
  const share = counts.pool_rows ? counts.selected_rows / counts.pool_rows : 0;
  const tiles = [["Rows chosen", number(counts.selected_rows), `${percent(share)} of ${number(counts.pool_rows)} to choose from`]];
  if (tokens) tiles.push(["Tokens chosen", large(tokens.selected), `${percent(tokens.pool ? tokens.selected / tokens.pool : 0)} of ${large(tokens.pool)}`]);
  const gone = [[counts.dropped_rows, "by filters"], [counts.filtered_rows, "by --where"], [counts.skipped_rows, "unreadable"], [counts.unsaid_rows, "beyond the model's window or without an answer"]].filter((g) => g[0]);
  if (gone.length) tiles.push(["Rows left out before", number(gone.reduce((sum, g) => sum + g[0], 0)), gone.map((g) => `${number(g[0])} ${g[1]}`).join(", ")]);
  const near = report.objective.find((m) => m.better === "lower");
  if (near && near.random_mean) tiles.push(["Distance to the nearest pick", signed(near.chosen / near.random_mean - 1), `against random: ${number(near.chosen)}, not ${number(near.random_mean)}`]);
  tiles.push(["Time", `${number(cost.seconds)} s`, `${bytes(cost.peak_rss_bytes)}, ${cost.threads} threads`]);
  document.getElementById("top").append(
    make("h1", { textContent: `${number(counts.selected_rows)} of ${number(counts.pool_rows)} rows, chosen by ${head.method}` }),
    soft(`${head.summary} Budget ${budget}, seed ${Object.fromEntries(head.plan).seed}.`),
    make("dl", { className: "tiles" }, tiles.map(([name, value, note]) => make("div", { className: "tile" }, [make("dt", { textContent: name }), make("dd", {}, [value, make("span", { textContent: note })])]))));
}
const signed = (v) => (v > 0 ? "+" : v < 0 ? "−" : "±") + percent(Math.abs(v));

function strip(m) {
  const reach = Math.max(Math.abs(m.chosen - m.random_mean), 3 * m.random_deviation) * 1.15 || 1;
  const x = (v) => 100 + (v - m.random_mean) / reach * 95;
  const band = Math.max(2, x(m.random_mean + 2 * m.random_deviation) - x(m.random_mean - 2 * m.random_deviation));
  const svg = drawn("svg", { viewBox: "0 0 200 24", class: "strip", role: "img", "aria-label": `choice ${number(m.chosen)}, random ${number(m.random_mean)}` }, [
    drawn("line", { x1: 2, x2: 198, y1: 12, y2: 12, stroke: "var(--line)" }),
    drawn("rect", { x: 100 - band / 2, y: 6, width: band, height: 12, rx: 2, fill: "var(--whole)" }),
    drawn("circle", { cx: x(m.chosen), cy: 12, r: 5, fill: "var(--picked)" }),
  ]);
  return svg;
}
function objective() {
  if (!report.objective.length) return;
  const rows = report.objective.map((m) => {
    const apart = m.random_deviation > 0 ? (m.chosen - m.random_mean) / m.random_deviation : 0;
    const ahead = m.better && apart ? (apart < 0) === (m.better === "lower") : null;
    const share = Math.abs(m.random_mean) > 5 * m.random_deviation && m.random_mean ? signed((m.chosen - m.random_mean) / Math.abs(m.random_mean)) : "";
    const steps = m.random_deviation > 0 ? `${apart < 0 ? "−" : "+"}${number(Math.round(Math.abs(apart) * 10) / 10)} sd` : "";
    const gap = make("span", {}, [share || steps || "–", ...(share && steps ? [make("div", { className: "soft small", textContent: steps })] : [])]);
    if (ahead !== null && Math.abs(apart) > 2) gap.className = ahead ? "good" : "bad";
    const name = make("span", {}, [m.name + (m.better ? ` (${m.better} is better)` : ""), make("div", { className: "soft small", textContent: m.note })]);
    return [name, number(m.chosen), `${number(m.random_mean)} ± ${number(m.random_deviation)}`, gap, strip(m)];
  });
  section("chance", "Against chance", `The same measures of the choice and of ${report.objective[0].draws} random draws of the same budget: mean and standard deviation (sd) over the draws.`, [
    make("div", { className: "card chance" }, [table("", ["measure", "choice", "random", "difference", ""], rows), make("p", { className: "small" }, [key("choice", "--picked"), key("random, two standard deviations to each side", "--whole")])]),
  ]);
}

function parts(share) {
  const most = Math.max(...share.parts.map((p) => Math.max(p.share, p.picked_share)), 1e-9);
  const bar = (value, rows, fill) => { const i = make("i"); i.style.cssText = `min-width:${value ? 2 : 0}px;width:calc(${(value / most * 100).toFixed(2)}% - ${(value / most * 7.5).toFixed(2)}rem);background:var(${fill})`; return make("div", { className: "bar" }, [i, `${percent(value)} · ${number(rows)}`]); };
  const plain = (value, rows) => make("div", { className: "bar", textContent: `${percent(value)} · ${number(rows)}` });
  const line = (p) => make("li", {}, [
    make("span", { className: "name", textContent: p.name }),
    make("div", { className: "bars" }, p === other[0] ? [plain(p.share, p.rows), plain(p.picked_share, p.picked_rows)]
      : [bar(p.share, p.rows, "--whole"), bar(p.picked_share, p.picked_rows, "--picked")]),
    make("span", { className: "lift", textContent: p.lift === null ? "–" : "×" + (p.lift < 9.95 ? p.lift.toFixed(2) : number(p.lift)), title: "share of the choice / share of the pool" }),
    ...(p.example ? [make("span", { className: "example", textContent: p.example, title: p.example })] : []),
  ]);
  const other = share.other ? [Object.assign({}, share.other, { name: `${number(share.other_parts)} others` })] : [];
  return make("div", { className: "card" }, [
    make("h3", { textContent: "By " + share.by }), soft(share.note),
    make("ul", { className: "parts" }, share.parts.concat(other).map(line)),
  ]);
}
function shares() {
  section("shares", "What was chosen", "Share of the pool and share of the choice; × is the one over the other.", [
    make("p", {}, [key("all rows", "--whole"), key("chosen rows", "--picked")]),
    make("div", { className: "columns" }, report.shares.filter((s) => s.parts.length).map(parts)),
  ]);
}

function histogram(d) {
  const width = 520, height = 150, foot = 22, bins = d.kept.length, total = (list) => list.reduce((a, b) => a + b, 0) || 1;
  const shareOf = (list) => list.map((n) => n / total(list)), kept = shareOf(d.kept), rest = shareOf(d.rest);
  const most = Math.max(...kept, ...rest, 1e-9), x = (bin) => bin / bins * width, y = (share) => height - share / most * (height - 8);
  const outline = (list) => "M0 " + height + list.map((share, bin) => `L${x(bin).toFixed(1)} ${y(share).toFixed(1)}L${x(bin + 1).toFixed(1)} ${y(share).toFixed(1)}`).join("") + `L${width} ${height}Z`;
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => { const bin = Math.round(part * bins); return drawn("text", { x: x(bin), y: height + foot - 5, "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle" }, [number(d.edges[bin])]); });
  const over = kept.map((share, bin) => drawn("rect", { x: x(bin), y: 0, width: width / bins, height, fill: "transparent" }, [drawn("title", {}, [`${number(d.edges[bin])} to ${number(d.edges[bin + 1])}: ${percent(share)} of the kept (${number(d.kept[bin])}), ${percent(rest[bin])} of the rest (${number(d.rest[bin])})`])]));
  return drawn("svg", { viewBox: `0 0 ${width} ${height + foot}`, role: "img", "aria-label": `Distribution of ${d.name}, kept and rest` }, [
    drawn("path", { d: outline(rest), fill: "var(--whole)", "fill-opacity": .55 }),
    drawn("path", { d: outline(kept), fill: "var(--picked)", "fill-opacity": .28, stroke: "var(--picked)", "stroke-width": 1.5 }),
    drawn("line", { x1: 0, x2: width, y1: height, y2: height, stroke: "var(--soft)" }), ...marks, ...over]);
}
function scores() {
  const card = (d) => make("div", { className: "card" }, [
    make("h3", { textContent: d.name + (d.log ? " (logarithmic)" : "") }), histogram(d),
    table("", ["", "mean", ...d.levels.map((l) => (l === 0 ? "least" : l === 1 ? "most" : l === .5 ? "median" : percent(l)))],
      [["kept", d.kept_mean, d.kept_quantiles], ["rest", d.rest_mean, d.rest_quantiles]].filter((r) => r[2].length).map(([name, mean, all]) => [name, number(mean), ...all.map(number)])),
  ]);
  section("scores", "Scores", "Shares of the kept rows and of all others, each side summing to one.", [
    make("p", {}, [key("all others", "--whole"), key("kept", "--picked")]), make("div", { className: "two" }, report.scores.map(card))]);
}

function example(row) {
  const facts = [`row ${number(row.row)}`, ...(row.source ? [row.source] : []), ...row.numbers.map(([name, v]) => `${name} ${number(v)}`)];
  const text = make("pre", { textContent: row.text, tabIndex: 0 });
  return make("article", { className: "row" }, [
    make("h3", { textContent: (row.rank === null ? "" : `${row.rank + 1}. `) + row.because.charAt(0).toUpperCase() + row.because.slice(1) }), make("div", { className: "facts", textContent: facts.join(" · ") }), text]);
}
function rows() {
  if (report.best.length) section("best", "First rows of the choice", "In the order of the choice, with the method's reason.", [make("div", { className: "card" }, report.best.map(example))]);
  if (report.rejected.rows.length) section("rejected", "Best rows left out", `Rows that were not chosen, by ${report.rejected.by}, highest first.`, [make("div", { className: "card" }, report.rejected.rows.map(example))]);
}

function filters() {
  const pair = (title, text) => make("div", {}, [make("div", { className: "facts", textContent: title }), make("pre", { textContent: text, tabIndex: 0 })]);
  const one = (f) => make("div", { className: "card" }, [
    make("h3", { textContent: f.filter }), soft(`Removed ${number(f.removed_rows)} of ${number(f.judged_rows)} rows.` + (f.blockers.length ? " Rows that made most others superfluous:" : "")),
    ...f.blockers.map((b) => make("div", { className: "row" }, [make("div", { className: "pair" }, [
      ...(b.row === null ? [] : [pair(`row ${number(b.row)} stays, for ${number(b.removed_rows)} ${b.removed_rows === 1 ? "other" : "others"}`, b.text)]),
      pair(`row ${number(b.example_row)} removed`, b.example_text)])])),
  ]);
  if (report.filters.length) section("filters", "Removed by filters", "", report.filters.map(one));
}

function foot() {
  const list = (pairs) => make("dl", { className: "plan" }, pairs.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  const figures = Object.entries(head.figures).map(([name, v]) => [name, typeof v === "number" ? number(v) : typeof v === "string" ? v : JSON.stringify(v)]);
  const stages = cost.stages.map((s) => [s.stage, number(s.seconds), s.done ? number(s.done) : "–", s.tokens === null ? "–" : number(s.tokens), s.flop === null ? "–" : large(s.flop)]);
  section("plan", "Plan and cost", "", [make("div", { className: "two" }, [
    make("div", { className: "card" }, [make("h3", { textContent: "Plan" }), list(head.plan)]),
    make("div", { className: "card" }, [make("h3", { textContent: "Cost" }),
      table(`${number(cost.seconds)} s, ${bytes(cost.peak_rss_bytes)} at most, ${cost.threads} threads, ${cost.backend}; ${number(cost.cached_units)} units from the cache, ${number(cost.computed_units)} computed. A dash: not counted.`, ["stage", "seconds", "done", "tokens", "FLOP"], stages)]),
    ...(figures.length ? [make("div", { className: "card" }, [make("h3", { textContent: "Figures of the method" }), list(figures)])] : []),
    make("div", { className: "card" }, [make("h3", { textContent: "Versions and digests" }), list([["curate", `${head.curate}, code ${head.code_version}`], ...head.digests])]),
  ]), make("footer", { textContent: "Everything on this page but the cost is the same whenever the same plan meets the same input." })]);
}

top();
objective();
if (report.map) {
  const m = report.map, points = number(m.row.length);
  section("map", "Map of the corpus", `${points} of ${number(m.pool_rows)} rows: a draw of the corpus and ${number(m.picked_points)} chosen rows, along the two directions in which the vectors differ most (${percent(m.variance[0])} and ${percent(m.variance[1])} of their variance). Drag to move; the wheel zooms once the map is clicked.`, [make("div", { className: "card" }, corpusMap(m, make))]);
}
shares();
scores();
rows();
filters();
foot();
document.getElementById("contents").append(contents);
