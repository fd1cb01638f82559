/* What is seen, as a file: CSV, JSON or PNG. */
import { button, css, h } from "./dom.js";

/** Hand a blob to the browser under a name. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const field = (value) => {
  if (value === null || value === undefined) return "";
  let text = String(value);
  // A spreadsheet must not take a text of a row for a formula.
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** Rows as CSV. */
export const csv = (header, rows) => [header, ...rows].map((row) => row.map(field).join(",")).join("\n") + "\n";

const name = (parts, ending) => `${parts.filter(Boolean).join("-").replace(/[^A-Za-z0-9._-]+/g, "_")}.${ending}`;

/** Buttons that save `data()` = { header, rows }, and the picture of `canvas()` if there is one. */
export function exports(parts, data, canvas) {
  const asObjects = ({ header, rows }) => rows.map((row) => Object.fromEntries(row.map((value, at) => [header[at], value])));
  const kinds = [
    ["CSV", () => { const own = data(); save(new Blob([csv(own.header, own.rows)], { type: "text/csv" }), name(parts, "csv")); }],
    ["JSON", () => save(new Blob([JSON.stringify(asObjects(data()), null, 1)], { type: "application/json" }), name(parts, "json"))],
  ];
  if (canvas) kinds.push(["PNG", () => picture(canvas(), parts)]);
  return h("span", { className: "exports", role: "group", "aria-label": "Save what is shown" }, kinds.map(([kind, act]) => button(kind, act, { className: "small", title: `save as ${kind}` })));
}

function picture(canvas, parts) {
  const own = h("canvas", { width: canvas.width, height: canvas.height }), pen = own.getContext("2d");
  pen.fillStyle = css("--card");
  pen.fillRect(0, 0, own.width, own.height);
  pen.drawImage(canvas, 0, 0);
  own.toBlob((blob) => blob && save(blob, name(parts, "png")));
}
