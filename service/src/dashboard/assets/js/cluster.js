/* One cluster: keywords, examples, scores of rows drawn and not drawn, and how it fared. */
import { attempt, complain, get, tell } from "./api.js";
import { bars, Chart } from "./charts.js";
import { button, card, fill, h, number, percent } from "./dom.js";
import { exports } from "./export.js";
import { tiles } from "./parts.js";
import { steer } from "./steer.js";

export function cluster(run, group) {
  const top = h("div"), low = h("div", {}, h("p", { className: "card soft" }, "Words, scores and examples are on their way …")), stop = new AbortController();
  const weighted = run.weighted();
  const time = new Chart({ title: weighted ? "Weight over time" : "Share of rows drawn over time", name: ["curate", run.id, `cluster-${group}`], say: percent, zero: true, height: 220 });
  const fed = new Chart({ title: "Feedback over time", name: ["curate", run.id, `cluster-${group}-feedback`], height: 220, empty: "No feedback on rows of this cluster yet." });
  const node = h("div", {}, top, h("div", { className: "two charts" }, time.node, fed.node), low);
  const own = () => run.groupsOf().find((one) => one.group === group);

  function draw() {
    const now = own(), x = run.points.map((point) => point.step), feedback = run.group(group, "signal");
    time.update({ x, lines: [{ key: "w", name: run.name(group), colour: run.colour(group), values: weighted ? run.group(group, "weight") : run.drawnShare(group, 50) }], marks: run.steers.filter((one) => one.group === group && x.length && one.step >= x[0]).map((one) => ({ step: one.step, text: `×${number(one.factor)}` })) });
    fed.update({ x: feedback.some((v) => v !== null) ? x : [], lines: [{ key: "s", name: "feedback", colour: run.colour(group), values: feedback }] });
    const change = weighted ? button("Change its weight …", () => attempt(async () => { const factor = await steer(run, group); if (factor) tell(`Cluster ${group} ×${number(factor)}, recorded.`); }), { "data-key": "steer" }) : null;
    fill(top, h("div", { className: "head" }, h("h2", {}, h("i", { className: "dot", style: { background: run.ink(group) } }), `Cluster ${group}`), h("span", { className: "fill" }), change, h("a", { href: `#/sessions/${encodeURIComponent(run.id)}/weights` }, "All clusters")),
      now ? tiles([["Rows", number(now.rows), ""], ["Drawn", number(now.drawn), now.left === undefined || now.left === null ? "times" : `times; ${number(now.left)} rows never`], ["Weight", percent(now.weight), weighted ? "now" : "the method has none"], ["Feedback", number(now.signal), "mean of the last"]]) : null);
  }

  async function load() {
    try { fill(low, detail(run, await get(run.path(`/groups/${group}`), { signal: stop.signal }))); } catch (error) {
      if (stop.signal.aborted) return;
      if (error.status === 404) fill(low, h("p", { className: "card" }, "There is no such cluster in this session.")); else complain(error);
    }
  }
  load();
  return { node, update: draw, close: () => { stop.abort(); time.close(); fed.close(); } };
}

function detail(run, { group, keywords = [], examples = [], scores }) {
  const total = scores ? [scores.kept, scores.rest].map((list) => list.reduce((a, b) => a + b, 0)) : [0, 0];
  const words = card("Words that set it apart", "More frequent in its rows than in the others.", null, keywords.length ? h("ul", { className: "words" }, keywords.map((word) => h("li", {}, word))) : h("p", { className: "soft" }, "None stand out."));
  const spread = card("Scores", "Rows drawn and rows not drawn, each as shares of their own number.", scores ? [exports(["curate", run.id, `cluster-${group}-scores`], () => ({ header: ["from", "to", "drawn", "not drawn"], rows: scores.kept.map((kept, at) => [scores.edges[at], scores.edges[at + 1], kept, scores.rest[at]]) }))] : null,
    total[0] + total[1] ? [bars({ edges: scores.edges, sets: [{ name: "not drawn", colour: "whole", counts: scores.rest }, { name: "drawn", colour: "picked", counts: scores.kept }], shares: true, label: "Histogram of scores of rows drawn and not drawn" }),
      h("p", { className: "legend small" }, h("span", { className: "key" }, h("i", { className: "fill-picked" }), `drawn (${number(total[0])})`), h("span", { className: "key" }, h("i", { className: "fill-whole" }), `not drawn (${number(total[1])})`))] : h("p", { className: "soft" }, "Its rows have no scores."));
  const one = (own) => h("article", { className: "example" }, h("div", { className: "soft small" }, [`row ${number(own.row)}`, own.score === null || own.score === undefined ? "" : `score ${number(own.score)}`, own.drawn ? "drawn" : "not drawn"].filter(Boolean).join(" · ")), h("pre", { tabIndex: 0 }, own.text));
  return [h("div", { className: "two" }, words, spread), card("Example rows", null, null, examples.length ? examples.map(one) : h("p", { className: "soft" }, "None."))];
}
