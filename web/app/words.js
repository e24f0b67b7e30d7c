// The page's own texts in the reader's language. Both files have the same names.

import { en } from "./words.en.js";
import { ko } from "./words.ko.js";

const KEY = "handsup.language";

const chosen = localStorage.getItem(KEY) ?? navigator.language;
export const language = chosen.startsWith("ko") ? "ko" : "en";
const words = { en, ko }[language];

document.documentElement.lang = language;

/** A text, or a text made from values. */
export function say(name, ...values) {
  const text = words[name];
  return typeof text === "function" ? text(...values) : text;
}

export function choose(language) {
  localStorage.setItem(KEY, language);
  location.reload();
}
