// Alarms in words: one way to show them for the inbox, toasts and notifications.

import { h } from "./dom.js";
import { money } from "./format.js";
import { icon } from "./icons.js";
import { say } from "./words.js";

const LOOKS = {
  outbid: ["out", "up"],
  auction_started: ["", "flag"],
  ending_soon: ["soon", "clock"],
  auction_won: ["lead", "check"],
  auction_lost: ["", "gavel"],
  auction_sold: ["lead", "gavel"],
  auction_unsold: ["", "gavel"],
  auction_cancelled: ["", "close"],
  bid_voided: ["out", "close"],
  leading_again: ["lead", "check"],
  chat: ["", "chat"],
};
/** What is said by its own text: a notice, and kinds that this page doesn't know. */
const hasWords = (kind) => kind in LOOKS;

export function mark(alarm) {
  const [colour, name] = LOOKS[alarm.kind] ?? ["", "bell"];
  return h(`span.mark${colour && `.${colour}`}`, { "aria-hidden": "true" }, icon(name));
}

export function headline(alarm) {
  if (!hasWords(alarm.kind)) return alarm.message;
  return alarm.kind === "chat" ? say("alarm_chat", alarm.sender_name) : say(`alarm_${alarm.kind}`);
}

export function details(alarm) {
  const price = alarm.high_price ? money(alarm.high_price) : alarm.start_price ? say("from", money(alarm.start_price)) : "";
  const text = alarm.kind === "chat" ? alarm.message : price;
  return [alarm.goods_title, text].filter(Boolean).join(" · ");
}

/** Where it leads: into the trade where there is one, else into the room. */
export function target(alarm) {
  if (!alarm.goods_id) return "#/inbox";
  const isTrade = ["chat", "auction_won", "auction_sold"].includes(alarm.kind);
  return `#/${isTrade ? "trade" : "room"}/${alarm.goods_id}`;
}

export const isUrgent = (alarm) => alarm.kind === "outbid" && !alarm.superseded;
