// Pictures of goods, and faces of people.

import { h } from "./dom.js";
import { initials } from "./format.js";
import { user } from "./session.js";

/** A picture of goods on a ground of its own tone; without one, or if it doesn't load, the first letter of the title. */
export function picture(goods, { alt = "", eager = false } = {}) {
  const images = Array.isArray(goods.images) ? goods.images : goods.images ? [goods.images] : [];
  const letter = h("span.letter", { "aria-hidden": "true" }, [...goods.title.trim()][0] ?? "?");
  const node = h(`div.pic.p${(goods.id % 6) + 1}`, null, letter);
  const source = images[0]?.image;
  if (source) {
    const image = h("img", { src: source, alt, loading: eager ? undefined : "lazy", decoding: "async", onerror: () => image.replaceWith(letter) });
    letter.replaceWith(image);
  }
  return node;
}

export function face(name, id) {
  return h(`span.face${id === user?.id ? ".me" : ""}`, { "aria-hidden": "true" }, initials(name));
}
