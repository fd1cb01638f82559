/* One session: its head, and the views of it. */
import { attempt, call, post, problemText, remove, tell } from "./api.js";
import { button, card, chip, choice, fill, h, number, snippet } from "./dom.js";
import { save } from "./export.js";
import { cluster } from "./cluster.js";
import { CorpusMap } from "./map.js";
import { authorization, Pace, tree } from "./parts.js";
import { Run } from "./run.js";
import { difficulty, signals } from "./signals.js";
import { weights } from "./weights.js";

const VIEWS = { weights: ["Clusters", weights], signals: ["Signals", signals], difficulty: ["Difficulty", difficulty], map: ["Map", (run) => new CorpusMap(run)], details: ["Details", details] };
const WINDOWS = [["200", "the last 200 steps"], ["1000", "the last 1,000 steps"], ["5000", "the last 5,000 steps"], ["0", "all steps"]];

/** The page of a session: { node, show(view, rest), close() }. */
export function session(id) {
  const pace = new Pace(), head = h("div", { className: "session-head" }), tabs = h("nav", { className: "tabs", "aria-label": "Views of the session" }), place = h("div"), node = h("div", {}, head, tabs, place);
  let view = null, name = "weights", rest = "", began = false;
  const run = new Run(id, changed);

  function changed(what) {
    if (run.info && what !== "info") top();
    if (what === "info") { top(); if (run.info.status === "preparing") fill(place, preparing()); else if (run.info.status === "failed") fill(place, failed()); }
    if (!run.state || !["ready", "ended"].includes(run.info.status)) return;
    // Clusters that are found for the map come after the first look.
    if (!run.colours.size) {
      const size = (own) => own.weight ?? own.rows;
      run.assign([...run.groupsOf()].sort((a, b) => size(b) - size(a)).slice(0, 8).map((own) => own.group));
    }
    if (!began) { began = true; open(); }
    else if (what !== "info" || name === "details") view?.update(what);
  }

  function top() {
    const { info } = run, path = (own) => `#/sessions/${encodeURIComponent(id)}/${own}`;
    const steps = info.kind === "online" || info.observed ? `, feedback taken in up to ${number(info.observed)}` : "";
    const facts = [info.method, `${number(info.rows)} rows`, `step ${number(info.step)}${steps}`, `epoch ${number(info.epoch)}${info.epochs ? ` of ${number(info.epochs)}` : ""}`, `${number(info.batch)} rows a batch${info.ranks > 1 ? ` for each of ${info.ranks} ranks` : ""}`];
    fill(head, h("div", { className: "head" }, h("h1", {}, id), chip(info.paused ? "paused" : info.status), h("span", { className: "fill" }),
      info.status === "ready" ? button(info.paused ? "Resume" : "Pause", () => attempt(async () => { run.renew(await post(run.path(info.paused ? "/resume" : "/pause"))); top(); tell(run.info.paused ? "Paused: trainers are told to wait." : "Going on."); }), { className: "strong", "data-key": "pause", id: "pause" }) : null),
      h("p", { className: "soft facts" }, facts.join(" · ")));
    const shown = ["ready", "ended"].includes(info.status) ? Object.entries(VIEWS) : [];
    fill(tabs, shown.map(([own, [title]]) => h("a", { href: path(own), "aria-current": own === (name === "cluster" ? "weights" : name) ? "page" : null, "data-key": `tab-${own}` }, title)),
      shown.length && ["weights", "signals", "difficulty"].includes(name) ? choice("Steps", WINDOWS, String(run.window), (value) => attempt(async () => { run.window = Number(value); await run.load(); })) : null);
    document.title = `${id} · curate`;
  }

  const preparing = () => card("Getting ready", "Rows are being chosen or copied. Trainers may ask already; they are told to wait.", null, tree(run.info.progress, pace) || h("p", { className: "soft" }, "It has not begun yet."));
  const failed = () => card("It failed", null, button("Delete", () => attempt(async () => { await remove(run.path()); location.hash = "#/"; })), h("div", { className: "bad", role: "alert" }, problemText({ ...run.info.error, message: run.info.error?.detail })));

  function open() {
    view?.close();
    view = name === "cluster" ? cluster(run, Number(rest)) : (VIEWS[name] || VIEWS.weights)[1](run);
    fill(place, view.node);
    view.update("points");
  }

  run.open().catch((error) => { if (error.name !== "AbortError") { fill(place, missing(error)); } });
  return {
    node,
    show(own, more) { name = own || "weights"; rest = more; if (run.info) top(); if (began) open(); },
    close() { view?.close(); run.close(); },
  };
}

const missing = (error) => h("div", { className: "card bad", role: "alert" }, problemText(error), h("p", {}, h("a", { href: "#/" }, "All sessions and jobs")));

/** What the session was made of, how a trainer joins it, its log, and its end. */
function details(run) {
  const node = h("div");
  const list = (pairs) => h("dl", { className: "facts-list" }, pairs.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  const log = () => attempt(async () => save(new Blob([await (await call("GET", run.path("/log"))).text()], { type: "application/x-ndjson" }), `curate-${run.id}-log.ndjson`));
  const end = button("Delete the session", () => attempt(async () => {
    if (!confirm(`Delete session ${run.id}? Trainers that draw from it get an error, and its history is lost.`)) return;
    await remove(run.path());
    location.hash = "#/";
  }), { className: "danger", "data-key": "delete" });
  function draw() {
    const { info } = run, path = `${location.origin}/${run.path()}`, auth = authorization();
    fill(node, h("div", { className: "two" },
      card("Session", null, null, list([["Method", info.method], ["Kind", info.kind === "online" ? "chosen step by step" : "chosen once, then streamed"], ["Seed", String(info.seed)], ["Rows", info.brings_candidates ? "brought by the trainer" : number(info.rows)], ["Rendered as", info.render], ["Feedback may lag", `${number(info.lag)} steps`],
        ["Wants before a step", (info.needs?.before || []).join(", ") || "nothing"], ["Wants after a step", (info.needs?.after || []).join(", ") || "nothing"], ["Cursor", h("code", {}, info.cursor || "–")], ["Made", info.created ? new Date(info.created * 1000).toLocaleString() : "–"]])),
      card("Join it", "A trainer keeps the cursor of its last step in its own checkpoint and seeks back to it after a restart.", null,
        snippet("Next batch", `curl -s -X POST ${path}/propose \\\n  -H 'Content-Type: application/json'${auth} \\\n  -d '{"step": ${info.step + 1}, "rank": 0, "wait_s": 20}'`),
        snippet("What the trainer saw", `curl -s -X POST ${path}/feedback \\\n  -H 'Content-Type: application/json'${auth} \\\n  -d '{"step": ${info.step + 1}, "rank": 0, "rows": [123], "signals": {"loss": [1.2]}}'`)),
      card("As it was asked for", null, null, h("pre", { tabIndex: 0 }, JSON.stringify(info.spec, null, 2))),
      card("Log and end", "The log has every call that was taken, changes by hand among them.", null, h("div", { className: "row" }, button("Save the log", log, { "data-key": "log" }), end))));
  }
  return { node, update: (what) => (what === "points" && node.children.length ? null : draw()), close: () => {} };
}
