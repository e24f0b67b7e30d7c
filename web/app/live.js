// What is said aloud to those who can't see it.

import { h } from "./dom.js";

const polite = h("div.unseen", { "aria-live": "polite" });
const assertive = h("div.unseen", { "aria-live": "assertive" });

export const regions = [polite, assertive];

/** `isUrgent`: what costs somebody their lead. */
export function announce(text, isUrgent = false) {
  const region = isUrgent ? assertive : polite;
  // A new node is read even if the text is the same.
  region.replaceChildren(h("p", null, text));
}
