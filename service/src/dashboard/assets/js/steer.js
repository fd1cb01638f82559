/* A cluster's weight changed by hand, after one is asked by how much. */
import { post } from "./api.js";
import { button, h, percent } from "./dom.js";

/** Ask for a factor and send it; the factor, or nothing where it was called off. */
export async function steer(run, group) {
  const factor = await ask(run, group);
  if (!factor) return undefined;
  // The name lets the call be sent again without being done twice.
  await post(run.path("/steer"), { group, factor, id: `dashboard-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}` });
  await run.look();
  return factor;
}

function ask(run, group) {
  const now = run.groupsOf().find((own) => own.group === group)?.weight;
  return new Promise((resolve) => {
    const field = h("input", { type: "number", id: "factor", min: "0.001", max: "1000", step: "any", required: true, value: "2", inputMode: "decimal" });
    const presets = [["½", 0.5], ["⅔", 2 / 3], ["1½", 1.5], ["2", 2], ["4", 4]].map(([text, value]) => button(`×${text}`, () => { field.value = String(Number(value.toFixed(4))); field.focus(); }, { className: "small" }));
    const form = h("form", { method: "dialog" },
      h("h2", {}, `Weight of ${run.name(group)}`),
      h("p", { className: "soft" }, `It is ${percent(now)} now. It is multiplied from the next batch on, the others make room, and the method goes on from there. The change is recorded with the session.`),
      h("label", { for: "factor" }, "Multiply by"), h("div", { className: "row" }, field, ...presets),
      h("div", { className: "row end" }, button("Leave it", () => dialog.close(""), {}), h("button", { type: "submit", className: "strong" }, "Change the weight")));
    const dialog = h("dialog", { className: "ask", "aria-label": "Change a cluster's weight" }, form);
    form.addEventListener("submit", (event) => { event.preventDefault(); dialog.close(field.value); });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(Number(dialog.returnValue) || null); });
    document.body.append(dialog);
    dialog.showModal();
    field.select();
  });
}
