/* Calls to the server: JSON, problems with their hint, a token where one is asked for, and event streams that come back. */
import { button, h } from "./dom.js";

const KEY = "curate-token";
let token = null;
try { token = sessionStorage.getItem(KEY); } catch { /* then it lives as long as the page */ }

/** Whether calls carry a token. */
export const hasToken = () => Boolean(token);

function keep(value) {
  token = value;
  try { if (value) sessionStorage.setItem(KEY, value); else sessionStorage.removeItem(KEY); } catch { /* as above */ }
}

/** Forget the token and begin again. */
export function forget() { keep(null); location.reload(); }

/** An answer that is not what was asked for. */
export class Problem extends Error {
  constructor(body, status) {
    super(body.detail || body.title || `the server answered ${status}`);
    Object.assign(this, { status, code: body.code || "", hint: body.hint || "", request: body.request_id || "", retriable: Boolean(body.retriable) });
  }
}

async function problem(answer) {
  let body = {};
  try { body = await answer.json(); } catch { body = { detail: `the server answered ${answer.status} ${answer.statusText}` }; }
  return new Problem(body, answer.status);
}

/** One call; 401 asks for a token and tries again. */
export async function call(method, path, { body, signal, headers = {} } = {}) {
  for (;;) {
    const own = { ...headers };
    if (token) own.Authorization = `Bearer ${token}`;
    if (body !== undefined) own["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method, headers: own, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem({ detail: "the server does not answer", code: "client/unreachable", hint: "is curate serve still running, and does this address reach it?", retriable: true }, 0);
    }
    if (answer.ok) return answer;
    const failure = await problem(answer);
    if (answer.status !== 401) throw failure;
    await ask(failure);
  }
}

/** JSON of a call. */
export async function get(path, options) { return (await call("GET", path, options)).json(); }

/** Send JSON. */
export async function post(path, body = {}) {
  const answer = await call("POST", path, { body });
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

/** Delete. */
export const remove = (path) => call("DELETE", path);

/** A session's or job's path. */
export const at = (kind, id, rest = "") => `v1/${kind}/${encodeURIComponent(id)}${rest}`;

let asking = null;

function ask(failure) {
  asking ||= new Promise((resolve) => {
    const was = Boolean(token);
    const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true, spellcheck: false });
    const form = h("form", { method: "dialog" },
      h("h2", {}, "This server asks for a token"),
      h("p", { className: was ? "bad" : "soft", role: was ? "alert" : null }, was ? failure.message : "Whoever started it has one for you. To look, the scope read is enough; to pause or steer, feed is needed."),
      h("label", { for: "token" }, "Token"), field,
      h("p", { className: "soft small" }, "It is kept until this tab is closed, and sent to this server alone."),
      h("div", { className: "row" }, h("button", { type: "submit", className: "strong" }, "Use it")));
    const dialog = h("dialog", { className: "ask", "aria-label": "Token" }, form);
    form.addEventListener("submit", () => { keep(field.value.trim()); });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => { dialog.remove(); asking = null; resolve(); });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

/** Say what went wrong, until it is put away; the same words are shown once. */
export function complain(error, node = document.getElementById("notices")) {
  if (error.name === "AbortError") return;
  const words = [error.message, error.hint].filter(Boolean).join(". ");
  if ([...node.children].some((own) => own.dataset.words === words)) return;
  const notice = h("div", { className: "notice bad", role: "alert", "data-words": words }, problemText(error), button("×", () => notice.remove(), { className: "plain", "aria-label": "Put this message away" }));
  node.append(notice);
}

/** A problem as words: what, what to do, and the code for looking it up. */
export function problemText(error) {
  const code = [error.code, error.request ? `request ${error.request}` : ""].filter(Boolean).join(" · ");
  return h("div", {}, h("strong", {}, upper(error.message || error.detail || "it failed")), error.hint ? h("div", {}, `Try: ${error.hint}`) : null, code ? h("div", { className: "soft small" }, code) : null);
}
const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Say something that went well, for a few seconds. */
export function tell(text) {
  const notice = h("div", { className: "notice good" }, text);
  document.getElementById("notices").append(notice);
  setTimeout(() => notice.remove(), 4000);
}

/** Do something, and complain where it fails. */
export async function attempt(act) {
  try { return await act(); } catch (error) { complain(error); return undefined; }
}

const line = document.getElementById("link");
function connection(state) {
  line.className = `link ${state}`;
  line.textContent = { live: "live", lost: "reconnecting …", off: "" }[state];
}

/** Wait, or until the signal. */
export const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});

/** Read an event stream until it says it is over or the signal comes; after a break go on behind the last id. */
export async function events(path, { signal, last = null, on, over = () => false }) {
  let id = last, wait = 500;
  while (!signal.aborted) {
    try {
      const answer = await call("GET", path, { signal, headers: { Accept: "text/event-stream", ...(id === null ? {} : { "Last-Event-ID": String(id) }) } });
      connection("live");
      for await (const event of parsed(answer.body)) {
        wait = 500;
        if (event.id !== undefined) id = event.id;
        if (event.data) on(event.kind, JSON.parse(event.data));
        if (over(event.kind)) { connection("off"); return; }
      }
    } catch (error) {
      if (signal.aborted) break;
      if (error.status && !error.retriable && error.status < 500) { connection("off"); throw error; }
    }
    if (signal.aborted) break;
    connection("lost");
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(wait * 2, 15000);
  }
  connection("off");
}

async function* parsed(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", event = { kind: "message", data: "" };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const text of lines) {
      if (text === "") { yield event; event = { kind: "message", data: "" }; continue; }
      const cut = text.indexOf(":"), name = cut < 0 ? text : text.slice(0, cut), own = cut < 0 ? "" : text.slice(cut + 1).replace(/^ /, "");
      if (name === "event") event.kind = own;
      else if (name === "data") event.data += event.data ? `\n${own}` : own;
      else if (name === "id") event.id = own;
    }
  }
}
