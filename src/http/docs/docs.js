// Draws /openapi.json and /asyncapi.json. Everything is put in as text, never as markup.
"use strict";

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};
const json = (value) => element("pre", {}, JSON.stringify(value, null, 2));
// Text in which `this` is code.
const prose = (text) => (text ?? "").split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
const muted = (text) => element("span", { className: "muted" }, ...prose(text));

// What a reference leads to, and the last part of its name.
function resolve(root, value) {
  let name = null;
  while (value && value.$ref) {
    name = value.$ref.split("/").pop();
    value = value.$ref.slice(2).split("/").reduce(
      (at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], root);
  }
  return { name, value: value ?? {} };
}

// A schema in a few words: `integer ≥ 1`, `Goods[]`.
function words(root, schema) {
  const { name, value } = resolve(root, schema);
  if (value.const !== undefined) return JSON.stringify(value.const);
  if (value.enum) return value.enum.map((one) => JSON.stringify(one)).join(" | ");
  const several = value.oneOf ?? value.anyOf;
  if (several) return several.map((one) => words(root, one)).join(" | ");
  if (value.allOf || value.properties) return name ?? "object";
  if (value.type === "array") return `${words(root, value.items)}[]`;
  const parts = [[value.type ?? "any"].flat().join(" | ")];
  if (value.format && value.format !== "int64" && value.format !== "int32") parts.push(value.format);
  if (value.minimum !== undefined) parts.push(`≥ ${value.minimum}`);
  if (value.maximum !== undefined) parts.push(`≤ ${value.maximum}`);
  if (value.minLength !== undefined) parts.push(`${value.minLength} to ${value.maxLength ?? "…"} characters`);
  else if (value.maxLength !== undefined) parts.push(`at most ${value.maxLength} characters`);
  return parts.join(" ");
}

// All fields of a schema, those of its parts among them.
function fields(root, schema) {
  const { value } = resolve(root, schema);
  const found = new Map();
  for (const part of value.allOf ?? []) for (const [name, field] of fields(root, part)) found.set(name, field);
  for (const [name, field] of Object.entries(value.properties ?? {})) {
    const isRequired = (value.required ?? []).includes(name) || found.get(name)?.isRequired === true;
    found.set(name, { schema: field, isRequired });
  }
  return found;
}

function row(root, name, schema, isRequired, description) {
  const text = description ?? schema.description ?? resolve(root, schema).value.description ?? "";
  return element("tr", {}, element("td", {}, element("code", {}, name), isRequired ? null : muted("?")),
    element("td", {}, element("code", {}, words(root, schema))), element("td", {}, ...prose(text)));
}

// The fields of a schema as a table, those of a list's items for a list.
function shape(root, schema) {
  const { value } = resolve(root, schema);
  if (value.type === "array") return shape(root, value.items);
  const found = [...fields(root, schema)];
  if (found.length === 0) return element("p", {}, element("code", {}, words(root, schema)));
  return element("table", {}, ...found.map(([name, field]) => row(root, name, field.schema, field.isRequired)));
}

function contents(root, content) {
  return Object.entries(content ?? {}).flatMap(([type, media]) => {
    const examples = Object.values(media.examples ?? {}).map((one) => one.value);
    if (media.example !== undefined) examples.push(media.example);
    return [muted(type), media.schema ? shape(root, media.schema) : null, ...examples.map(json)];
  });
}

function who(operation) {
  const schemes = (operation.security ?? []).map((one) => Object.keys(one).join(" and ") || "nobody");
  return element("p", {}, "Token: ", schemes.map((one) => (one === "nobody" ? "not needed" : one)).join(", or "));
}

function call(root, path, method, operation) {
  const parameters = (operation.parameters ?? []).map((it) =>
    row(root, `${it.name} (${it.in})`, it.schema, it.required, it.description));
  const answers = Object.entries(operation.responses).map(([status, response]) =>
    element("details", {}, element("summary", {}, element("code", {}, status), " ", ...prose(response.description)),
      ...contents(root, response.content)));
  const body = operation.requestBody;
  return element("details", { className: "entry" },
    element("summary", {}, element("code", { className: operation.deprecated ? "old" : "" },
      element("span", { className: "method" }, method), path), " ", muted(operation.summary ?? "")),
    who(operation),
    parameters.length > 0 ? element("h3", {}, "Parameters") : null,
    parameters.length > 0 ? element("table", {}, ...parameters) : null,
    body ? element("h3", {}, "Body") : null,
    ...(body ? contents(root, body.content) : []),
    element("h3", {}, "Answers"), ...answers);
}

function calls(root) {
  return root.tags.flatMap((tag) => {
    const entries = Object.entries(root.paths).flatMap(([path, item]) => Object.entries(item)
      .filter(([, operation]) => operation.tags?.includes(tag.name))
      .map(([method, operation]) => call(root, path, method, operation)));
    return [element("h2", {}, ...prose(tag.description ?? tag.name)), ...entries];
  });
}

function frame(root, direction, reference) {
  const { value: message } = resolve(root, resolve(root, reference).value);
  return element("details", { className: "entry" },
    element("summary", {}, `${direction} `, element("code", {}, message.name)),
    shape(root, message.payload), ...(message.examples ?? []).map((one) => json(one.payload)));
}

function sockets(root) {
  const channels = Object.entries(root.channels).flatMap(([name, channel]) => [
    element("h2", {}, element("code", {}, channel.address)), element("p", {}, ...prose(channel.description)),
    ...root.operations[`send_${name}`].messages.map((it) => frame(root, "←", it)),
    ...root.operations[`receive_${name}`].messages.map((it) => frame(root, "→", it)),
  ]);
  const closes = root["x-close-codes"].map((it) => element("tr", {},
    element("td", {}, element("code", {}, String(it.code))), element("td", {}, it.reason),
    element("td", {}, it.reconnect ? "reconnect" : "stay away")));
  return [...channels, element("h2", {}, "Closes"), element("table", {}, ...closes)];
}

async function read(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function filter(text) {
  for (const entry of document.querySelectorAll(".entry")) {
    entry.hidden = !entry.querySelector("summary").textContent.toLowerCase().includes(text.toLowerCase());
  }
}

async function start() {
  const main = document.getElementById("main");
  try {
    const [http, ws] = await Promise.all([read("/openapi.json"), read("/asyncapi.json")]);
    main.replaceChildren(element("p", {}, ...prose(http.info.description)), ...calls(http), ...sockets(ws));
  } catch (error) {
    main.replaceChildren(element("p", {}, `Not available: ${error.message}`));
  }
  const input = document.getElementById("filter");
  input.addEventListener("input", () => filter(input.value));
}

start();
