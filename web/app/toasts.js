// What comes up for a moment, and what the browser shows while the page is in the background.

import { details, headline, isUrgent, mark, target } from "./alarms.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { announce } from "./live.js";
import { say } from "./words.js";

const SHOWN_MS = 7_000;
const MOST = 3;

export const toasts = h("div.toasts", { role: "region", "aria-label": say("inbox") });

/** Shows nodes; it stays while somebody points at it or has the focus in it. */
function show(start, ...content) {
  const close = h("button.icon", { type: "button", "aria-label": say("close"), onclick: () => node.remove() }, icon("close"));
  const node = h("div.toast", null, start, h("div", null, content), close);
  let timer;
  const wait = () => (timer = setTimeout(() => node.remove(), SHOWN_MS));
  for (const type of ["pointerenter", "focusin"]) node.addEventListener(type, () => clearTimeout(timer));
  for (const type of ["pointerleave", "focusout"]) node.addEventListener(type, wait);
  toasts.append(node);
  while (toasts.children.length > MOST) toasts.firstChild.remove();
  wait();
  return node;
}

/** Something that went wrong, in a sentence. */
export function complain(text) {
  show(h("span.mark.out", { "aria-hidden": "true" }, icon("close")), h("b", null, text));
  announce(text);
}

export function showAlarm(alarm) {
  const link = h("a", { href: target(alarm) }, headline(alarm));
  const node = show(mark(alarm), h("b", null, link), h("p", null, details(alarm)));
  link.addEventListener("click", () => node.remove());
  announce([headline(alarm), details(alarm)].join(". "), isUrgent(alarm));
}

export function notify(alarm) {
  if (!document.hidden || globalThis.Notification?.permission !== "granted") return;
  // One for each auction: the newest takes the place of the one before. With several tabs, too.
  const options = { body: details(alarm), tag: `handsup-${alarm.goods_id ?? alarm.id}`, icon: "/app/icon.svg" };
  try {
    const notification = new Notification(headline(alarm), options);
    notification.onclick = () => {
      focus();
      location.hash = target(alarm);
      notification.close();
    };
  } catch {
    // Some telephones allow notifications from service workers alone.
  }
}
