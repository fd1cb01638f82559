/* What was measured at each step: signals of the trainer, scores, utility and diversity; and the belief of how hard prompts are. */
import { bars, Chart, smooth } from "./charts.js";
import { card, choice, fill, h, number, percent } from "./dom.js";
import { tiles } from "./parts.js";

const TITLES = { loss: "Loss", reward: "Reward", grad_norm: "Norm of the gradient", nuclear_norm: "Nuclear norm" };
const LEADS = { utility: "Mean utility of the rows of the step, as the method sees it.", diversity: "Mean distance of the step's rows to those in memory.", score: "Mean score of the rows drawn.", informative: "Share of the step's prompts whose answers were neither all right nor all wrong." };

/** Every number of a step that some point has. */
function known(run) {
  const keys = new Set();
  for (const point of run.points) Object.keys(point.signals || {}).forEach((key) => keys.add(key));
  const signals = [...keys].sort().map((key) => ({ key: `signal.${key}`, title: TITLES[key] || key, lead: `Mean of signal.${key} over the rows fed back at each step.`, of: (point) => point.signals?.[key] }));
  const others = ["utility", "diversity", "score", "informative"].filter((key) => run.points.some((point) => point[key] !== null && point[key] !== undefined));
  return [...signals, ...others.map((key) => ({ key, title: key.charAt(0).toUpperCase() + key.slice(1), lead: LEADS[key], of: (point) => point[key] }))];
}

/** Two lines: the values as they came, pale, and their mean over some steps. */
function pair(run, of, window) {
  const values = run.column(of), x = run.points.map((point) => point.step);
  const mean = { key: "mean", name: `mean of the last ${window} steps`, colour: "--c0", values: smooth(values, window) };
  const raw = { key: "raw", name: "each step", colour: window > 1 ? "--pale" : "--c0", values };
  return { x, lines: window > 1 ? [raw, mean] : [raw] };
}

/** Charts of all that is measured a step. */
export function signals(run) {
  const own = { window: "20", charts: new Map() };
  const bench = h("div", { className: "bench" }, choice("Smooth over", [["1", "no steps"], ["5", "5 steps"], ["20", "20 steps"], ["100", "100 steps"]], own.window, (value) => { own.window = value; draw(); }));
  const grid = h("div", { className: "two charts" }), memory = h("div"), node = h("div", {}, bench, memory, grid);
  function draw() {
    const all = known(run);
    for (const { key, title, lead, of } of all) {
      if (!own.charts.has(key)) {
        own.charts.set(key, new Chart({ title, lead, name: ["curate", run.id, key], height: 240, say: key === "informative" ? percent : number }));
        grid.append(own.charts.get(key).node);
      }
      own.charts.get(key).update(pair(run, of, Number(own.window)));
    }
    if (!all.length && !grid.children.length) grid.append(teach(run));
    if (all.length) grid.querySelector(".teach")?.remove();
    const held = run.state?.memory;
    fill(memory, held ? tiles([["Memory of rows seen", `${number(held.held)} of ${number(held.slots)}`, "slots held"]]) : null);
  }
  return { node, update: draw, close: () => own.charts.forEach((chart) => chart.close()) };
}

function teach(run) {
  const needs = (run.info?.needs?.after || []).join(", ");
  return h("div", { className: "card teach" }, h("h2", {}, "Nothing measured yet"), h("p", { className: "soft" }, needs ? `This session waits for ${needs} of the rows it handed out. A trainer sends it after each step; the charts begin then.` : "This method needs no feedback. What a trainer sends all the same is charted here."));
}

/** The belief of how often each prompt is answered right. */
export function difficulty(run) {
  const share = new Chart({ title: "Informative share over time", lead: LEADS.informative, name: ["curate", run.id, "informative"], say: percent, zero: true, height: 240, empty: "No step says how many prompts were informative yet." });
  const top = h("div"), node = h("div", {}, top, share.node);
  function draw() {
    const belief = run.state?.posterior;
    fill(top, belief ? posterior(belief) : card("Difficulty of prompts", null, null, h("p", { className: "soft" }, "This method keeps no belief of how hard prompts are. Sessions of mopps do: they learn from the rewards of each step which prompts the model answers sometimes, and draw those.")));
    share.update(pair(run, (point) => point.informative, 20));
  }
  return { node, update: draw, close: () => share.close() };
}

function posterior(belief) {
  const counts = belief.mean_histogram, edges = Array.from({ length: counts.length + 1 }, (_, at) => at / counts.length);
  return [tiles([["Prompts", number(belief.prompts), "in the session"], ["Tried", number(belief.tried), `${percent(belief.prompts ? belief.tried / belief.prompts : 0)} of them`], ["Informative, expected", percent(belief.informative_expected), "of the next step's prompts"]]),
    card("Difficulty of prompts", "Prompts by the mean of the belief of how often they are answered right: hard ones left, easy ones right. The shaded middle is where answers differ and a step teaches most.", null,
      bars({ edges, sets: [{ name: "prompts", colour: "c0", counts }], label: "Histogram of the believed share of right answers", say: percent, band: [0.3, 0.7] }), h("p", { className: "soft small center" }, "believed share of right answers"))];
}
