/* Elements and figures. What comes from the server is only ever set as text. */

/** An element with properties and children; a child may be text, a node, or nothing. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("aria-") || key.startsWith("data-") || key === "role" || key === "for") node.setAttribute(key, value);
    else if (key === "style") for (const [name, own] of Object.entries(value)) node.style.setProperty(name, own);
    else node[key] = value;
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A button. */
export const button = (text, act, props = {}) => h("button", { type: "button", onclick: act, ...props }, text);

/** A labelled choice among [value, text]. */
export function choice(label, options, value, act) {
  const change = () => { chosen = true; try { act(select.value); } finally { chosen = false; } };
  const select = h("select", { onchange: change, "data-key": `choice-${label}` }, options.map(([own, text]) => h("option", { value: own, selected: own === value }, text)));
  return h("label", { className: "choice" }, h("span", {}, label), select);
}

/** A table with a heading row; cells may be nodes. `columns`: [{ name, text, unit }]. */
export function table(caption, header, rows, props = {}) {
  const cell = (tag, scope) => (value) => h(tag, { scope }, value ?? "–");
  return h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption, "data-key": `table-${caption}` }, h("table", props, h("caption", { className: "hidden" }, caption),
    h("thead", {}, h("tr", {}, header.map(cell("th", "col")))),
    h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, cell("th", "row")(first), rest.map(cell("td")))))));
}

/** A number as people read it. */
export function number(v, digits = 3) {
  if (v === null || v === undefined || Number.isNaN(v)) return "–";
  const size = Math.abs(v);
  if (Number.isInteger(v) && size < 1e15) return v.toLocaleString("en");
  if (size >= 1000) return v.toLocaleString("en", { maximumFractionDigits: 0 });
  if (size < 0.0005) return v === 0 ? "0" : v.toExponential(1).replace("-", "−");
  return v.toLocaleString("en", { maximumSignificantDigits: digits }).replace("-", "−");
}

/** A share of one. */
export const percent = (v) => (v === null || v === undefined ? "–" : (v * 100).toLocaleString("en", { maximumFractionDigits: Math.abs(v) < 0.0995 ? 1 : 0 }).replace("-", "−") + " %");

/** A change, with its sign. */
export const signed = (v, say = number) => (v > 0 ? "+" : v < 0 ? "−" : "±") + say(Math.abs(v));

/** Bytes. */
export function bytes(v) {
  if (v === null || v === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (v >= 1024 && at < 4) { v /= 1024; at += 1; }
  return `${number(at ? Number(v.toPrecision(3)) : v)} ${units[at]}`;
}

/** Seconds as a length of time. */
export function span(secs) {
  if (secs === null || secs === undefined || !Number.isFinite(secs)) return "–";
  if (secs < 1) return "under 1 s";
  const whole = Math.round(secs), d = Math.floor(whole / 86400), hours = Math.floor(whole / 3600) % 24, m = Math.floor(whole / 60) % 60;
  if (d) return `${d} d ${hours} h`;
  if (hours) return `${hours} h ${m} min`;
  return m ? `${m} min ${whole % 60} s` : `${whole} s`;
}

/** How long ago a Unix time was. */
export const ago = (at) => (at ? `${span(Math.max(0, Date.now() / 1000 - at))} ago` : "–");

/** The value of a colour of the style sheet. */
export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Whether things should stand still. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** A heading with a line below it and controls at its side. */
export function card(title, lead, controls, ...children) {
  const head = h("div", { className: "head" }, h("h2", {}, title), controls ? h("div", { className: "tools" }, controls) : null);
  return h("section", { className: "card" }, head, lead ? h("p", { className: "soft small" }, lead) : null, ...children);
}

/** Text to copy, with the button that copies it. */
export function snippet(title, text) {
  const copy = button("Copy", async () => {
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch { done = false; }
    copy.textContent = done ? "Copied" : "Select it by hand";
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  }, { "aria-label": `Copy: ${title}` });
  return h("figure", { className: "snippet" }, h("figcaption", {}, title, copy), h("pre", { tabIndex: 0 }, h("code", {}, text)));
}

/** Bar of something that is under way; without a total it only says so. */
export function bar(done, total, label) {
  const known = total > 0;
  return h("progress", known ? { max: total, value: Math.min(done, total), "aria-label": label } : { "aria-label": label });
}

/** A word on a state. */
export const chip = (state) => h("span", { className: `chip ${state}` }, state);

let pressed = null, chosen = false;
const waiting = new Map();
const later = () => setTimeout(flush, 0);
addEventListener("pointerdown", (event) => { pressed = event.target; }, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = null; later(); }, true);
addEventListener("blur", (event) => { if (event.target === window) { pressed = null; later(); } });
for (const kind of ["focusout", "selectionchange"]) document.addEventListener(kind, later);

/** Whether somebody is about to use what a node holds: a button held down, a list of choices open, words marked for copying. */
function busy(node) {
  const focused = document.activeElement, marked = getSelection();
  if (pressed && node.contains(pressed)) return true;
  if (!chosen && focused?.tagName === "SELECT" && node.contains(focused)) return true;
  return Boolean(marked && !marked.isCollapsed && node.contains(marked.anchorNode));
}

function flush() {
  for (const [node, children] of [...waiting]) if (!busy(node)) fill(node, ...children);
}

/** Replace what a node holds, later where it is in use; the focus stays on the control with the same data-key. */
export function fill(node, ...children) {
  if (busy(node)) { waiting.set(node, children); return node; }
  waiting.delete(node);
  const held = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  node.replaceChildren(...children.flat().filter(Boolean));
  if (held) [...node.querySelectorAll("[data-key]")].find((own) => own.dataset.key === held)?.focus();
  return node;
}
