/* The dashboard: which page the address names, the way back, and light or dark. */
import { forget, hasToken, complain } from "./api.js";
import { repaint } from "./charts.js";
import { button, fill, h } from "./dom.js";
import { job } from "./jobs.js";
import { overview } from "./overview.js";
import { session } from "./session.js";

const main = document.getElementById("main"), crumbs = document.getElementById("crumbs");
let page = null, shown = "";

/** `#/sessions/ID/VIEW/REST`, `#/jobs/ID`, else the overview. */
function route() {
  const [kind, id, view, rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const key = id && (kind === "sessions" || kind === "jobs") ? `${kind}/${id}` : "";
  if (!page || key !== shown) {
    page?.close();
    document.getElementById("notices").replaceChildren();
    page = !key ? overview() : kind === "sessions" ? session(id) : job(id);
    shown = key;
    fill(main, page.node);
    if (document.activeElement === document.body && location.hash) main.focus({ preventScroll: true });
  }
  page.show(view, rest);
  fill(crumbs, h("a", { href: "#/", "aria-current": key ? null : "page" }, "Overview"), key ? [h("span", { "aria-hidden": "true" }, "/"), h("a", { href: `#/${kind}/${encodeURIComponent(id)}`, "aria-current": "page" }, id)] : null, hasToken() ? button("Forget the token", forget, { className: "plain small" }) : null);
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

const THEMES = { "": "Auto", light: "Light", dark: "Dark" };
const toggle = document.getElementById("theme");
function name() {
  const now = document.documentElement.dataset.theme || "";
  toggle.textContent = THEMES[now];
  toggle.setAttribute("aria-label", `Colours: ${THEMES[now]}. Change`);
}
toggle.addEventListener("click", () => {
  const all = Object.keys(THEMES), next = all[(all.indexOf(document.documentElement.dataset.theme || "") + 1) % all.length];
  if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
  try { localStorage.setItem("curate-theme", next); } catch { /* then for this page alone */ }
  name();
  repaint();
});

window.addEventListener("hashchange", route);
window.addEventListener("unhandledrejection", (event) => { if (event.reason?.name === "AbortError") event.preventDefault(); else complain(event.reason); });
name();
route();
