// The price over time, in steps; the user's own bids are filled dots.

import { fill, h, setAttribute, setText, svg } from "./dom.js";
import { money, timeOfDay } from "./format.js";
import { user } from "./session.js";
import { say } from "./words.js";

const HEIGHT = 168;
const TOP = 14;
const BOTTOM = 26;
/** With more bids than this only the own ones and the last have dots. */
const MOST_DOTS = 40;

export function priceChart() {
  const note = h("span.faint.small");
  const legend = h("span.legend.faint.small", { hidden: true }, say("yourBids"));
  const drawing = svg("svg", { role: "img", height: HEIGHT, width: "100%" });
  const empty = h("p.soft.small", null, say("chartEmpty"));
  const node = h("section.box.chart", { "aria-label": say("price") }, h("div.bar", null, h("h2", null, say("price")), note, h("span.grow"), legend), empty, drawing);
  let state;
  const draw = () => state && plot(drawing, node.clientWidth - 40, state);
  new ResizeObserver(draw).observe(node);
  return {
    node,
    /** `bids` ascend: `{ price, at, user_id }`, `at` in milliseconds. */
    set({ bids, from, until, startPrice }) {
      const people = new Set(bids.map(({ user_id }) => user_id)).size;
      setText(note, bids.length ? say("bidsBy", bids.length, people) : "");
      empty.hidden = bids.length > 0;
      drawing.toggleAttribute("hidden", bids.length === 0);
      legend.hidden = !bids.some(({ user_id }) => user_id === user?.id);
      if (!bids.length) return;
      state = { bids, from: Math.min(from, bids[0].at), until: Math.max(until, bids.at(-1).at + 1), startPrice };
      draw();
    },
  };
}

function plot(drawing, width, { bids, from, until, startPrice }) {
  if (width <= 0) return;
  const high = bids.at(-1).price;
  const low = Math.min(startPrice, bids[0].price);
  const base = HEIGHT - BOTTOM;
  const x = (at) => (width * (at - from)) / (until - from);
  const y = (price) => base - 10 - ((base - 10 - TOP) * (price - low)) / (high - low || 1);
  const points = bids.flatMap(({ price, at }, index) => [[x(at), index ? y(bids[index - 1].price) : base], [x(at), y(price)]]);
  points.push([width, y(high)]);
  const line = points.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" ");
  const dots = bids.filter(({ user_id }, index) => bids.length <= MOST_DOTS || user_id === user?.id || index === bids.length - 1);
  const isShort = until - from < 600_000;
  setAttribute(drawing, "viewBox", `0 0 ${width} ${HEIGHT}`);
  setAttribute(drawing, "aria-label", say("chartLabel", money(bids[0].price), money(high), bids.length));
  fill(
    drawing,
    svg("line.axis", { x1: 0, x2: width, y1: base, y2: base }),
    svg("polygon.area", { points: `${points[0][0].toFixed(1)},${base} ${line} ${width},${base}` }),
    svg("polyline.step-line", { points: line }),
    dots.map(({ price, at, user_id }) => svg(`circle.${user_id === user?.id ? "me" : "they"}`, { cx: x(at).toFixed(1), cy: y(price).toFixed(1), r: 4.5 })),
    svg("text", { x: 0, y: HEIGHT - 6 }, timeOfDay(from, isShort)),
    svg("text", { x: width, y: HEIGHT - 6, "text-anchor": "end" }, timeOfDay(until, isShort)),
  );
}
