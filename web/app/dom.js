// Makes elements. Text is always text: nothing here, or anywhere else in the page, parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** `h("p.soft", { id: "x", onclick: run }, "text", node, condition && node)` */
export function h(tag, attributes, ...children) {
  return make((name) => document.createElement(name), tag, attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return make((name) => document.createElementNS(SVG, name), tag, attributes, children);
}

function make(create, tag, attributes, children) {
  const [name, ...classes] = tag.split(".");
  const node = create(name || "div");
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  fill(node, ...children);
  return node;
}

/** Replaces what is in a node. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child || child === 0));
  return node;
}

/** Sets a text, and touches nothing if it is the same. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === undefined || value === null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Gives a node these children in this order. Those that are there already stay, so that focus and pictures do. */
export function arrange(node, children) {
  const wanted = new Set(children);
  for (const child of [...node.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (node.children[index] !== child) node.insertBefore(child, node.children[index] ?? null);
  });
}

export const movesLittle = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
