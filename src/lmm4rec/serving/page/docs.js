// The OpenAPI document as a page to read: what there is, what it takes, an example to run.

import { byId, el } from "./dom.js";

const base = new URL("..", import.meta.url).href.replace(/\/$/, ""); // with the path under which a proxy shows it
let document_;

function resolve(schema) {
  if (!schema) return {};
  if (schema.$ref) return resolve(schema.$ref.split("/").slice(1).reduce((part, name) => part[name], document_));
  const some = schema.anyOf?.find((one) => one.type !== "null");
  return some ? { ...schema, ...resolve(some) } : schema;
}

function example(schema, depth = 0) {
  const whole = resolve(schema);
  if (whole.examples?.length && whole.examples[0] !== null) return whole.examples[0];
  if (schema?.anyOf?.some((one) => one.type === "null")) return null;
  if (whole.default !== undefined && whole.default !== null) return whole.default;
  if (whole.type === "object" && whole.properties && depth < 6) {
    return Object.fromEntries(Object.entries(whole.properties).map(([name, one]) => [name, example(one, depth + 1)]));
  }
  if (whole.type === "array") return depth < 6 ? [example(whole.items, depth + 1)] : [];
  return { string: "text", number: 0.5, integer: 1, boolean: false, object: {} }[whole.type] ?? null;
}

function limits(schema) {
  const whole = resolve(schema);
  const words = [whole.type];
  if (whole.minimum !== undefined) words.push(`≥ ${whole.minimum}`);
  if (whole.maximum !== undefined) words.push(`≤ ${whole.maximum}`);
  if (whole.maxLength !== undefined) words.push(`up to ${whole.maxLength.toLocaleString()} characters`);
  if (whole.maxItems !== undefined) words.push(`up to ${whole.maxItems.toLocaleString()}`);
  if (whole.default !== undefined && whole.default !== null && whole.default !== "") words.push(`default ${JSON.stringify(whole.default)}`);
  return words.filter(Boolean).join(", ");
}

const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

function command(path, method, { parameters = [], requestBody }) {
  let address = path;
  for (const one of parameters.filter((each) => each.in === "path")) {
    address = address.replace(`{${one.name}}`, encodeURIComponent(example(one.schema)));
  }
  const query = parameters.filter((one) => one.in === "query" && one.required).map((one) => `${one.name}=${encodeURIComponent(example(one.schema))}`);
  const parts = ["curl", method === "get" ? "" : `-X ${method.toUpperCase()}`, quoted(base + address + (query.length ? `?${query.join("&")}` : ""))];
  for (const [kind, { schema }] of Object.entries(requestBody?.content ?? {})) {
    if (kind === "application/json") parts.push("--json", quoted(JSON.stringify(example(schema))));
    else for (const [name, one] of Object.entries(resolve(schema).properties ?? {})) {
      const file = resolve(one).format === "binary" || resolve(one).contentMediaType;
      parts.push("-F", quoted(`${name}=${file ? "@picture.jpg" : example(one)}`));
    }
  }
  return parts.filter(Boolean).join(" ");
}

function values(operation) {
  const rows = (operation.parameters ?? []).map((one) => [one.name, one.in + (one.required ? ", needed" : ""), limits(one.schema), one.description ?? one.schema.description ?? ""]);
  for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
    const whole = resolve(schema);
    for (const [name, one] of Object.entries(whole.properties ?? {})) {
      rows.push([name, `body${whole.required?.includes(name) ? ", needed" : ""}`, limits(one), one.description ?? ""]);
    }
  }
  if (!rows.length) return null;
  return el("table", { class: "values" }, el("tbody", {}, ...rows.map(([name, ...rest]) => el("tr", {}, el("td", {}, el("code", {}, name)), ...rest.map((text) => el("td", {}, text))))));
}

/** Paragraphs of a description; what stands between backticks is code. */
function prose(text) {
  const inline = (part, index) => (index % 2 ? el("code", {}, part) : part);
  return text.split(/\n\s*\n/).map((one) => el("p", { class: "hint" }, ...one.replace(/\s*\n\s*/g, " ").split("`").map(inline)));
}

function endpoint(path, method, operation) {
  const good = Object.entries(operation.responses).find(([status]) => status.startsWith("2"));
  const json = good?.[1].content?.["application/json"]?.schema;
  const errors = Object.entries(operation.responses).filter(([status]) => !status.startsWith("2"));
  const [about, ...rest] = prose(operation.description ?? "");
  return el("details", { class: "endpoint" },
    el("summary", {}, el("span", { class: "method" }, method.toUpperCase()), el("code", {}, path), el("span", { class: "hint" }, ...about.childNodes)),
    ...rest,
    values(operation),
    el("h3", {}, "Try"), el("pre", {}, command(path, method, operation)),
    json && el("h3", {}, `Answer ${good[0]}`), json && el("pre", {}, JSON.stringify(example(json), null, 2)),
    el("p", { class: "hint" }, `Errors: ${errors.map(([status, { description }]) => `${status} ${description}`).join(", ")}`));
}

async function start() {
  document_ = await (await fetch(`${base}/openapi.json`)).json();
  const groups = new Map();
  for (const [path, operations] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] ?? "";
      groups.set(tag, [...(groups.get(tag) ?? []), endpoint(path, method, operation)]);
    }
  }
  const sections = [...groups].map(([tag, nodes]) => el("section", {}, el("h2", {}, tag), ...nodes));
  byId("main").replaceChildren(el("section", {}, el("h2", {}, "For programs"), ...prose(document_.info.description)), ...sections);
}

start();
