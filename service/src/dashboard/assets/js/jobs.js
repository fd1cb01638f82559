/* One job: how far it is, how long it still takes, and what came of it. */
import { at, attempt, call, events, get, hasToken, problemText, remove, tell } from "./api.js";
import { ago, button, bytes, card, chip, fill, h, number, span } from "./dom.js";
import { save } from "./export.js";
import { Pace, tiles, tree } from "./parts.js";

const ENDED = ["done", "failed", "cancelled"];

export function job(id) {
  const stop = new AbortController(), pace = new Pace(), node = h("div", {}, h("p", { className: "soft" }, "Loading …"));
  const path = (rest = "") => at("jobs", id, rest);
  let now = null;

  function draw() {
    const over = ENDED.includes(now.status);
    const act = over ? button("Remove", () => attempt(async () => { if (!confirm(`Remove job ${id} and its file?`)) return; await remove(path()); location.hash = "#/"; }), { className: "danger", "data-key": "act" })
      : button("Cancel", () => attempt(async () => { await remove(path()); await renew(); tell("Cancelled. What was computed stays in the cache."); }), { className: "danger", "data-key": "act", id: "cancel" });
    fill(node, h("div", { className: "head" }, h("h1", {}, id), chip(now.status), h("span", { className: "fill" }), act), h("p", { className: "soft facts" }, times()),
      now.status === "queued" ? card("Waiting", null, null, h("p", { className: "soft" }, "Other jobs run before it.")) : null,
      now.status === "running" ? card("Progress", null, null, tree(now.progress, pace) || h("p", { className: "soft" }, "It has begun.")) : null,
      now.error ? h("div", { className: "card bad", role: "alert" }, problemText({ ...now.error, message: now.error.detail })) : null,
      now.result ? result() : null, card("Plan", null, null, h("pre", { tabIndex: 0 }, JSON.stringify(now.plan, null, 2))));
    document.title = `${id} · curate`;
  }

  const times = () => [`made ${ago(now.created)}`, now.started ? `begun ${ago(now.started)}` : "", now.finished && now.started ? `took ${span(now.finished - now.started)}` : ""].filter(Boolean).join(" · ");

  function result() {
    const own = now.result, name = own.path?.split("/").pop() || `${id}.bin`;
    const fetched = async () => save(await (await call("GET", path("/result"))).blob(), name);
    const link = hasToken() ? button("Download", () => attempt(fetched), { className: "strong", "data-key": "get" }) : h("a", { className: "button strong", href: path("/result"), download: name }, "Download");
    const manifest = button("Manifest", () => attempt(async () => save(new Blob([JSON.stringify(await get(path("/manifest")), null, 2)], { type: "application/json" }), `${name}.manifest.json`)), { "data-key": "manifest" });
    return card("Result", null, [link, manifest], tiles([["Rows", number(own.rows), "chosen"], ["File", bytes(own.bytes), name]]));
  }

  async function renew() { now = await get(path(), { signal: stop.signal }); draw(); }

  (async () => {
    try {
      await renew();
      if (ENDED.includes(now.status)) return;
      await events(path("/events"), { signal: stop.signal, over: (kind) => kind === "done", on: (kind, data) => { now = data.id ? data : { ...now, status: "running", progress: data.progress ?? data }; draw(); } });
      if (!stop.signal.aborted) await renew();
    } catch (error) {
      if (!stop.signal.aborted) fill(node, h("div", { className: "card bad", role: "alert" }, problemText(error), h("p", {}, h("a", { href: "#/" }, "All sessions and jobs"))));
    }
  })();
  return { node, show: () => {}, close: () => stop.abort() };
}
