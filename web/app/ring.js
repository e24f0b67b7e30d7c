// A ring that shows how much time is left, and what ticks with the service's clock.

import { setAttribute, setText, svg } from "./dom.js";
import { left, leftInWords } from "./format.js";
import { client } from "./session.js";
import { say } from "./words.js";

const LAST_MS = 60_000;
const SOON_MS = 150_000;
/** Longer auctions have a full ring until so much is left. */
const FULL_MS = 600_000;
const RADIUS = 20.5;
const ROUND = 2 * Math.PI * RADIUS;

const ticking = new Set();
setInterval(() => {
  if (!document.hidden) for (const tick of [...ticking]) tick();
}, 200);
document.addEventListener("visibilitychange", () => !document.hidden && ticking.forEach((tick) => tick()));

/** Calls `run` five times a second while `node` is in the page. */
export function whileShown(node, run) {
  let wasShown = false;
  const tick = () => {
    if (node.isConnected) run();
    else if (wasShown) ticking.delete(tick);
    wasShown ||= node.isConnected;
  };
  ticking.add(tick);
}

export const urgency = (ms) => (ms <= LAST_MS ? "last" : ms <= SOON_MS ? "soon" : "");

/** `set(goods)` gives it goods, with `status` null, true or false; it does the rest. */
export function ring() {
  const arc = svg("circle.left", { cx: 24, cy: 24, r: RADIUS, transform: "rotate(-90 24 24)" });
  const text = svg("text", { x: 24, y: 28 });
  const node = svg("svg.ring", { viewBox: "0 0 48 48", role: "img" }, svg("circle.base", { cx: 24, cy: 24, r: RADIUS }), arc, text);
  let goods;
  const draw = () => {
    if (!goods) return;
    const isLive = goods.status === true;
    const now = client.now();
    const ms = Math.max(0, Date.parse(isLive ? goods.ends_at : goods.starts_at) - now);
    const whole = isLive ? Math.min(FULL_MS, Date.parse(goods.ends_at) - Date.parse(goods.starts_at)) : FULL_MS;
    const part = Math.min(1, ms / whole) * ROUND;
    setAttribute(node, "class", `ring ${isLive ? urgency(ms) : "wait"}`);
    setAttribute(arc, "stroke-dasharray", `${part.toFixed(1)} ${(ROUND * 2).toFixed(1)}`);
    setAttribute(arc, "stroke-linecap", part > 0.5 ? "round" : "butt");
    setText(text, left(ms));
    setAttribute(text, "font-size", text.textContent.length > 5 ? 9 : null);
    setAttribute(node, "aria-label", say(isLive ? "timeLeft" : "timeToStart", leftInWords(ms)));
  };
  whileShown(node, draw);
  return {
    node,
    set(next) {
      goods = next;
      node.toggleAttribute("hidden", goods.status === false);
      draw();
    },
  };
}
