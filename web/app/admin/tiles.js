// Small multiples: a figure, and how it was in the last minutes. Only what is off has colour.

import { h, setAttribute, setText, svg } from "/app/dom.js";
import { number } from "/app/format.js";
import { say } from "./words.js";

/** With a sample every two seconds: four minutes. */
const POINTS = 120;
/** From so many on they fill the width. */
const FILLING = 30;
const WIDTH = 100;
const HEIGHT = 44;

const rounded = (value) => (value >= 100 ? number(Math.round(value)) : value >= 10 ? value.toFixed(0) : String(Number(value.toFixed(1))));
const inMs = (seconds) => (seconds === null ? null : seconds * 1000);

/** `read(health, minute)` → `{ value, unit?, side?, isOff? }`; a value of null is not known. */
const TILES = {
  sessions: ({ checks: { sessions } }) => ({ value: sessions.sessions, side: say("users", number(sessions.users)), isOff: sessions.status !== "pass" }),
  bids: ({ checks: { bid_actors } }, minute) => {
    const all = minute.grown("handsup_bids_total");
    const accepted = minute.grown("handsup_bids_total", { result: "accepted" });
    const side = all > 0 && say("refused", rounded(((all - accepted) / all) * 100));
    return { value: minute.rate("handsup_bids_total"), unit: say("perSecond"), side, isOff: bid_actors.status !== "pass" };
  },
  toSocket: (_, minute) => times(minute, "handsup_alarm_socket_seconds"),
  toProof: (_, minute) => times(minute, "handsup_alarm_receipt_seconds"),
  commit: ({ checks: { ledger } }, minute) => ({ ...times(minute, "handsup_ledger_commit_seconds"), isOff: ledger.status !== "pass" }),
  lag: ({ checks: { auction_clock } }) => ({
    value: auction_clock.lag_ms,
    unit: say("ms"),
    side: say("due", number(auction_clock.agenda)),
    isOff: auction_clock.status !== "pass",
  }),
  waiting: ({ checks: { alarm_hub } }) => ({
    value: alarm_hub.undelivered,
    side: alarm_hub.slow_clients > 0 && say("slow", number(alarm_hub.slow_clients)),
    isOff: alarm_hub.status !== "pass",
  }),
  bus: ({ checks: { bus } }, minute) => {
    if (bus.kind === "none") return { value: null, side: say("oneNode") };
    const value = ["sent", "received"].map((way) => minute.rate(`handsup_bus_${way}_total`) ?? 0).reduce((one, other) => one + other);
    return { value, unit: say("perSecond"), side: say("others", bus.others), isOff: bus.status !== "pass" };
  },
};

function times(minute, name) {
  const [median, slow] = [0.5, 0.99].map((part) => inMs(minute.percentile(name, part)));
  return { value: median, unit: say("p50"), side: slow !== null && say("p99", rounded(slow)) };
}

class Tile {
  #values = [];
  #read;
  #side = h("span");
  #value = h("span");
  #unit = h("small");
  #line = svg("polyline");
  #area = svg("polygon");

  constructor(name, read) {
    this.#read = read;
    const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.#area, this.#line);
    this.node = h("section.box.tile", { "data-tile": name }, h("div.k", null, h("h2", null, say(name)), this.#side), h("div.v.num", null, this.#value, this.#unit), chart);
  }

  show(health, minute) {
    const { value, unit = "", side, isOff = false } = this.#read(health, minute);
    setText(this.#value, value === null || value === undefined ? "–" : rounded(value));
    setText(this.#unit, value === null ? "" : unit);
    setText(this.#side, side || "");
    this.node.classList.toggle("off", isOff);
    this.#values.push(value ?? 0);
    if (this.#values.length > POINTS) this.#values.shift();
    this.#draw();
  }

  #draw() {
    const top = Math.max(...this.#values) || 1;
    const step = WIDTH / (Math.max(this.#values.length, FILLING) - 1);
    const first = WIDTH - (this.#values.length - 1) * step;
    const points = this.#values.map((value, index) => `${(first + index * step).toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 8)).toFixed(1)}`);
    setAttribute(this.#line, "points", points.join(" "));
    setAttribute(this.#area, "points", `${first.toFixed(1)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`);
  }
}

export function tiles() {
  const all = Object.entries(TILES).map(([name, read]) => new Tile(name, read));
  return {
    node: h("div.tiles", null, all.map(({ node }) => node)),
    show: (health, minute) => all.forEach((tile) => tile.show(health, minute)),
  };
}
