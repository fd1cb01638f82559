"use strict";

let contract;

/** An element with attributes and children; texts stay texts. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Follow references, and look through `null` as an alternative. */
function resolve(schema) {
  let found = schema ?? {};
  const about = found.description;
  while (found.$ref) found = found.$ref.slice(2).split("/").reduce((at, key) => at[key], contract);
  const real = found.anyOf?.filter((part) => part.type !== "null");
  if (real?.length === 1) return { ...resolve(real[0]), ...(about && { description: about }) };
  return about ? { ...found, description: about } : found;
}

/** A sentence whose words in backticks are code. */
function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
}

function typeOf(schema) {
  const name = schema.$ref?.split("/").pop();
  const found = resolve(schema);
  if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (found.const !== undefined) return JSON.stringify(found.const);
  const choices = found.oneOf ?? found.anyOf;
  if (choices) return choices.map(typeOf).join(" | ");
  if (found.type === "array") return `list of ${typeOf(found.items ?? {})}`;
  const type = [found.type ?? "any"].flat().filter((part) => part !== "null").join(" | ");
  const bounds = [found.minimum !== undefined && `from ${found.minimum}`, found.maximum !== undefined && `to ${found.maximum}`];
  return [name ?? type, ...bounds.filter(Boolean)].join(" ");
}

/** What a value is and, on request, its parts. */
function value(schema, needed, depth) {
  const found = resolve(schema);
  const words = [typeOf(schema), needed && "needed", found.default !== undefined && found.default !== null && `default ${JSON.stringify(found.default)}`];
  const entry = make("dd", {}, ...prose(found.description ?? ""), " ", make("span", { class: "type" }, `(${words.filter(Boolean).join(", ")})`));
  const inner = found.type === "array" ? resolve(found.items) : found;
  if (inner.properties && depth < 6) {
    const parts = make("details", {}, make("summary", {}, "fields"));
    parts.addEventListener("toggle", () => parts.children.length > 1 || parts.append(fields(inner, depth + 1)));
    entry.append(parts);
  }
  return entry;
}

function fields(schema, depth = 0) {
  const found = resolve(schema);
  const list = make("dl");
  for (const [name, part] of Object.entries(found.properties ?? {})) {
    list.append(make("dt", {}, name), value(part, found.required?.includes(name), depth));
  }
  return list.children.length ? list : make("p", {}, found.description ?? (found.type === "object" ? "A JSON object, told in docs/http.md." : typeOf(schema)));
}

function part(title, ...content) {
  return content.length ? [make("h4", {}, title), ...content] : [];
}

function media(title, content) {
  return Object.entries(content ?? {}).flatMap(([kind, { schema }]) => part(`${title}: ${kind}`, fields(schema)));
}

function example(method, path, operation) {
  const body = operation.requestBody ? ` \\\n  -H 'Content-Type: application/json' -d '{…}'` : "";
  const token = operation.security?.length ? ` \\\n  -H "Authorization: Bearer $CURATE_TOKEN"` : "";
  return `curl -X ${method.toUpperCase()} ${location.origin}${path}${token}${body}`;
}

function call(method, path, operation) {
  const known = Object.entries(operation.responses);
  const failed = known.filter(([status]) => status >= "400").map(([status]) => status).join(", ");
  const given = operation.parameters.flatMap((p) => [make("dt", {}, `${p.name}`), value({ ...p.schema, description: p.description ?? `in the ${p.in}` }, p.required, 0)]);
  const answers = known.filter(([status]) => status < "400").flatMap(([status, answer]) => answer.description === "Done." && answer.content
    ? media(`Answer ${status}`, answer.content) : part(`Answer ${status}`, make("p", {}, answer.description)));
  return make("section", { id: operation.operationId },
    make("h3", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), make("code", {}, path), make("span", { class: "scope" }, operation["x-curate-scope"])),
    make("p", {}, ...prose(operation.summary)),
    ...part("Parameters", ...(given.length ? [make("dl", {}, ...given)] : [])),
    ...media("Body", operation.requestBody?.content),
    ...answers,
    ...part("Errors", make("p", {}, failed, " as application/problem+json")),
    make("pre", { tabindex: "0" }, make("code", {}, example(method, path, operation))));
}

function show(words) {
  const list = document.getElementById("list"), calls = document.getElementById("calls");
  list.replaceChildren();
  calls.replaceChildren();
  const all = Object.entries(contract.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  const wanted = all.filter(({ path, method, operation }) => `${method} ${path} ${operation.summary}`.toLowerCase().includes(words.toLowerCase()));
  for (const tag of new Set(wanted.map(({ operation }) => operation.tags[0]))) {
    list.append(make("h2", {}, tag));
    calls.append(make("h2", {}, tag));
    for (const { path, method, operation } of wanted.filter((one) => one.operation.tags[0] === tag)) {
      list.append(make("a", { href: `#${operation.operationId}` }, make("span", { class: `method ${method}` }, method.toUpperCase()), make("span", {}, path)));
      calls.append(call(method, path, operation));
    }
  }
  if (!wanted.length) calls.append(make("p", {}, "No call is like that."));
}

async function start() {
  const answer = await fetch("/openapi.json");
  contract = await answer.json();
  document.getElementById("version").textContent = contract.info.version;
  document.getElementById("about").textContent = contract.info.description;
  const find = document.getElementById("find");
  find.addEventListener("input", () => show(find.value));
  show("");
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

start().catch((error) => { document.getElementById("calls").textContent = `The contract cannot be read: ${error.message}`; });
