/* All sessions and jobs, and how the server is doing. */
import { at, attempt, complain, get, pause, post } from "./api.js";
import { Chart } from "./charts.js";
import { ago, bar, button, bytes, card, chip, fill, h, number, percent, snippet, span } from "./dom.js";
import { authorization, Pace, tiles } from "./parts.js";

const EVERY = 2000;
const KEPT = 300;

export function overview() {
  const stop = new AbortController(), system = h("div"), sessions = h("div"), jobs = h("div"), seen = [], pace = new Pace();
  const load = new Chart({ title: "Load", lead: "Since this page was opened.", name: ["curate", "load"], x: "seconds", zero: true, height: 180, empty: "A moment …", say: percent });
  const node = h("div", {}, h("h1", { className: "hidden" }, "Overview"), sessions, jobs, system, load.node);
  const begun = performance.now();

  async function look() {
    const options = { signal: stop.signal };
    const [all, work, now] = await Promise.all([get("v1/sessions", options), get("v1/jobs", options), get("v1/system", options)]);
    fill(sessions, card("Sessions", null, null, all.sessions.length ? grid(["Session", "State", "Method", "Step", "Rows", ""], all.sessions.map((own) => sessionLine(own, pace, look))) : teachSessions()));
    fill(jobs, card("Jobs", null, null, work.jobs.length ? grid(["Job", "State", "Progress", "Begun", "Result"], work.jobs.map((own) => jobLine(own, pace))) : teachJobs()));
    fill(system, figures(now));
    seen.push([Math.round((performance.now() - begun) / 1000), now]);
    if (seen.length > KEPT) seen.shift();
    const line = (key, name, colour, of) => ({ key, name, colour, values: seen.map((own) => of(own[1])) });
    load.update({ x: seen.map((own) => own[0]), lines: [line("cpu", "processor", "--c0", (own) => own.cpu_share), line("memory", "memory, of its limit", "--c1", (own) => (own.memory_limit_bytes ? own.rss_bytes / own.memory_limit_bytes : null))] });
  }

  (async () => {
    let down = false;
    while (!stop.signal.aborted) {
      try { await look(); if (down) { down = false; document.getElementById("notices").replaceChildren(); } } catch (error) {
        if (stop.signal.aborted) return;
        if (!down) complain(error);
        down = true;
      }
      do await pause(EVERY, stop.signal); while (document.hidden && !stop.signal.aborted);
    }
  })();
  document.title = "curate";
  return { node, show: () => {}, close: () => { stop.abort(); load.close(); } };
}

/** A table whose lines become cards on a narrow screen. */
function grid(header, rows) {
  return h("table", { className: "grid" }, h("thead", {}, h("tr", {}, header.map((text) => h("th", { scope: "col" }, text || h("span", { className: "hidden" }, "Actions"))))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((own, i) => h(i ? "td" : "th", i ? { "data-label": header[i] } : { scope: "row" }, own))))));
}

function sessionLine(own, pace, again) {
  const name = h("a", { href: `#/sessions/${encodeURIComponent(own.id)}`, "data-key": `s-${own.id}` }, own.id);
  const steps = own.status === "preparing" ? progress(own.progress, `s-${own.id}`, pace) : own.status === "failed" ? h("span", { className: "bad small" }, own.error?.detail || "failed") : `${number(own.step)}${own.epochs ? `, epoch ${number(own.epoch)} of ${number(own.epochs)}` : ""}`;
  const act = own.status === "ready" ? button(own.paused ? "Resume" : "Pause", () => attempt(async () => { await post(at("sessions", own.id, own.paused ? "/resume" : "/pause")); await again(); }), { className: "small", "data-key": `p-${own.id}`, "aria-label": `${own.paused ? "Resume" : "Pause"} ${own.id}` }) : null;
  return [name, chip(own.paused && own.status === "ready" ? "paused" : own.status), own.method, steps, own.status === "ready" || own.status === "ended" ? number(own.rows) : "–", act];
}

function jobLine(own, pace) {
  const name = h("a", { href: `#/jobs/${encodeURIComponent(own.id)}`, "data-key": `j-${own.id}` }, own.id);
  const state = own.status === "running" ? progress(own.progress, `j-${own.id}`, pace) : own.error ? h("span", { className: "bad small" }, own.error.detail) : own.finished && own.started ? span(own.finished - own.started) : "–";
  const result = own.result ? `${number(own.result.rows)} rows, ${bytes(own.result.bytes)}` : "–";
  return [name, chip(own.status), state, ago(own.started || own.created), result];
}

function progress(node, key, pace) {
  if (!node) return h("span", { className: "soft small" }, "waiting");
  const left = node.total > 0 ? pace.left(key, node.done, node.total) : null;
  const words = [node.label, node.total > 0 ? percent(node.done / node.total) : number(node.done), left === null ? "" : `${span(left)} left`].filter(Boolean).join(" · ");
  return h("div", { className: "progress" }, bar(node.done, node.total, node.label), h("span", { className: "soft small" }, words));
}

function figures(now) {
  const { requests = {} } = now;
  return tiles([["Processor", percent(now.cpu_share), `of ${number(now.threads)} threads`], ["Memory", bytes(now.rss_bytes), now.memory_limit_bytes ? `of ${bytes(now.memory_limit_bytes)} allowed` : "no limit set"], ["Requests", `${number(requests.per_s)} / s`, `${number(requests.total)} in all`],
    ["Answer time", `${number(requests.p99_ms)} ms`, `99 of 100; half in ${number(requests.p50_ms)} ms`], ["Disk free", bytes(now.disk_free_bytes), now.read_only ? "full: reading only" : `state in ${now.store}`], ["Up for", span(now.uptime_s), `curate ${now.version}`]]);
}

function teachSessions() {
  const origin = location.origin;
  const curl = `curl -s ${origin}/v1/sessions \\\n  -H 'Content-Type: application/json'${authorization()} \\\n  -d '{"id": "first", "batch": 8, "plan": {"input": {"paths": ["train.jsonl"]},\n       "seed": 17, "online": {"use": "kmeans-refine"}}}'`;
  const own = authorization() ? ["import json, os, urllib.request", `, "Authorization": "Bearer " + os.environ["CURATE_TOKEN"]`] : ["import json, urllib.request", ""];
  const python = `${own[0]}\n\ndef call(path, body):\n    request = urllib.request.Request("${origin}/v1/sessions/first/" + path,\n        json.dumps(body).encode(), {"Content-Type": "application/json"${own[1]}})\n    return json.load(urllib.request.urlopen(request))\n\nfor step in range(1, 101):\n    batch = call("propose", {"step": step, "rank": 0, "wait_s": 30})\n    rows = [own["row"] for own in batch["rows"]]\n    losses = [1.0 for _ in rows]          # what your model says of batch["rows"][i]["data"]\n    call("feedback", {"step": step, "rank": 0, "rows": rows, "signals": {"loss": losses}})`;
  return h("div", { className: "teach" }, h("p", {}, "No session yet. A session hands a trainer its batches, step by step, and learns from what the trainer sends back. Make one:"), snippet("Make a session", curl), h("p", {}, "Draw from it in any language, and watch the clusters move here:"), snippet("A trainer in Python", python));
}

function teachJobs() {
  const curl = `curl -s ${location.origin}/v1/jobs \\\n  -H 'Content-Type: application/json'${authorization()} \\\n  -d '{"plan": {"input": {"paths": ["train.jsonl"]},\n       "select": {"use": "facility-location", "budget": "5%"}}}'`;
  return h("div", { className: "teach" }, h("p", {}, "No job yet. A job runs a plan once, as curate select does, and keeps the file for you to fetch:"), snippet("Run a job", curl));
}
