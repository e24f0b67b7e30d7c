// The first page: what ends soon, what is live, what starts soon; by category and search.

import { arrange, fill, h, setText } from "./dom.js";
import { bones, cards } from "./card.js";
import { icon } from "./icons.js";
import { keepReading, page, pages } from "./lists.js";
import { client, user } from "./session.js";
import { namePanel } from "./signin.js";
import { standing } from "./standings.js";
import { say } from "./words.js";

const SOON_MS = 300_000;
const READ_MS = 4_000;
const READ_SOON_MS = 2_000;
const MOST_PAGES = 8;
/** How many that have ended are shown. */
const ENDED = 4;

/** A heading with cards below it, hidden while there are none. */
function section(title, hint, look = "") {
  const grid = h(`div.grid${look}`);
  const heading = h("h2", null, title);
  const node = h("section", { hidden: true }, h("div.bar", null, heading, hint && h("span.faint", null, hint)), grid);
  return {
    node,
    heading,
    show(nodes) {
      node.hidden = nodes.length === 0;
      arrange(grid, nodes);
    },
  };
}

export function home(root, { search = "", category = "" }) {
  const toCard = cards();
  const yours = section(say("yours"), say("yoursHint"), ".low");
  const ending = section(say("endingSoon"), say("endingSoonHint"));
  const live = section(say("live"));
  const starting = section(say("startingSoon"));
  const ended = section(say("justEnded"));
  const results = section(say("found", search));
  const chips = h("div.chips", { role: "group", "aria-label": say("search") });
  const empty = h("div.empty", { hidden: true });
  const loading = h("section", { "aria-busy": "true" }, h("div.bar", null, h("h2.bone", null, say("endingSoon"))), h("div.grid", null, bones(8)));
  const hero = user || search ? null : namePanel({ onEnter: intoARoom });
  const more = h("button.second.more", { hidden: true, onclick: () => showMore() }, say("more"));
  const sections = [yours, ending, live, starting, ended, results].map(({ node }) => node);
  fill(root, h("div.wrap.home", null, hero, chips, loading, ...sections, empty, more));

  let shown = [];
  let categories = [];
  let searched = [];
  let searchedPages = 1;
  const query = (more) => `/goods/?${new URLSearchParams({ ...(search && { search }), ...(category && { category }), ...more })}`;

  async function read() {
    try {
      if (search) await readSearch();
      else await readHome();
      loading.hidden = true;
      draw();
    } catch (error) {
      // The bar says that there is no connection; what is there stays.
      if (!shown.length && !loading.hidden) loading.setAttribute("aria-busy", "true");
    }
  }

  async function readHome() {
    const [liveNow, scheduled, over] = await Promise.all([
      pages(query({ status: "true" }), MOST_PAGES),
      pages(query({ status: "null" }), 2),
      page(query({ status: "false" }), 1),
    ]);
    shown = [...liveNow, ...scheduled, ...over.slice(0, 10)];
    if (!category) categories = [...new Set(shown.map((goods) => goods.category))].filter(Boolean).sort((a, b) => a.localeCompare(b));
  }

  async function readSearch() {
    searched = await pages(query({}), searchedPages);
    more.hidden = searched.length < searchedPages * 10;
    shown = searched;
  }

  function showMore() {
    searchedPages++;
    reading.now();
  }

  const by = (time) => (a, b) => Date.parse(a[time]) - Date.parse(b[time]) || a.id - b.id;

  function draw() {
    const phase = (status) => shown.filter((goods) => goods.status === status);
    const nodes = (goods) => goods.map(toCard);
    drawChips();
    if (search) {
      results.show(nodes(shown));
    } else {
      const liveNow = phase(true).sort(by("ends_at"));
      const mine = liveNow.filter((goods) => ["lead", "out"].includes(standing(goods)));
      const others = liveNow.filter((goods) => !mine.includes(goods));
      const isSoon = (goods) => Date.parse(goods.ends_at) - client.now() <= SOON_MS;
      yours.show(nodes(mine.sort((a, b) => (standing(a) === "out" ? -1 : 0) - (standing(b) === "out" ? -1 : 0))));
      ending.show(nodes(others.filter(isSoon)));
      live.show(nodes(others.filter((goods) => !isSoon(goods))));
      starting.show(nodes(phase(null).sort(by("starts_at"))));
      ended.show(nodes(phase(false).sort(by("ends_at")).reverse().slice(0, ENDED)));
    }
    const hasNone = search ? !shown.length : !phase(true).length && !phase(null).length;
    empty.hidden = !hasNone;
    if (hasNone && !empty.firstChild) {
      const nothing = search || category ? "nothingFound" : "nothingLive";
      fill(empty, h("span.mark", null, icon(search ? "find" : "gavel")), h("h2", null, say(nothing)), h("p", null, say(`${nothing}Hint`)));
    }
  }

  function drawChips() {
    const names = category && !categories.includes(category) ? [category, ...categories] : categories;
    chips.hidden = Boolean(search) || names.length < 2;
    if (chips.hidden || chips.dataset.names === names.join("|")) return;
    chips.dataset.names = names.join("|");
    const chip = (text, name) =>
      h("button.chip", { type: "button", "aria-pressed": String(category === name), onclick: () => choose(name) }, text);
    fill(chips, chip(say("all"), ""), names.map((name) => chip(name, name)));
  }

  function choose(name) {
    category = name;
    for (const chip of chips.children) chip.setAttribute("aria-pressed", String((name || say("all")) === chip.textContent));
    empty.replaceChildren();
    reading.now();
  }

  /** Into the auction that leaves the most to do: the first to end with over a minute left. */
  function intoARoom() {
    const live = shown.filter((goods) => goods.status === true).sort(by("ends_at"));
    const best = live.find((goods) => Date.parse(goods.ends_at) - client.now() > 75_000) ?? live.at(-1);
    if (best) location.hash = `#/room/${best.id}`;
  }

  const endsSoon = () => shown.some((goods) => goods.status === true && Date.parse(goods.ends_at) - client.now() < 60_000);
  const reading = keepReading(read, () => (endsSoon() ? READ_SOON_MS : READ_MS));
  setText(document.querySelector("title"), "Hands-Up");
  return { end: reading.end, changed: () => (draw(), reading.now()) };
}
