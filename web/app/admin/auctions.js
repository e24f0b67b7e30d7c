// The live auctions, the next to end first, each with a way to cancel it.

import { arrange, fill, h, setText } from "/app/dom.js";
import { left, money, number } from "/app/format.js";
import { ask } from "./ask.js";
import { call, get } from "./service.js";
import { say } from "./words.js";

const SHOWN = 50;

export function auctions({ onChange, onError }) {
  const count = h("span.faint");
  const body = h("tbody");
  const none = h("p.none", { hidden: true }, say("noAuctions"));
  const head = ["goods", "price", "bidCount", "watching", "left"].map((name, at) => h(at ? "th.r" : "th", { scope: "col" }, say(name)));
  const table = h("table", null, h("thead", null, h("tr", null, head, h("th", null, h("span.unseen", null, say("cancel"))))), body);
  const rows = new Map();
  let offset = 0;

  async function cancel({ id, title }) {
    const reason = await ask({ title: say("cancelTitle", title), text: say("cancelText"), yes: say("cancelIt"), field: say("reason") });
    if (reason === null) return;
    try {
      await call("POST", `/admin/goods/${id}/cancel`, reason ? { reason } : {});
      await refresh();
      onChange();
    } catch (error) {
      onError(error);
    }
  }

  function row(goods) {
    const cells = { price: h("td.r.num"), bids: h("td.r.num"), watching: h("td.r.num.wide"), left: h("td.r.num") };
    const title = h("a", { href: `/#/room/${goods.id}` }, goods.title);
    const button = h("button.act", { type: "button", "aria-label": `${say("cancel")}: ${goods.title}`, onclick: () => cancel(goods) }, say("cancel"));
    return { cells, node: h("tr", { "data-goods": goods.id }, h("td", null, title), Object.values(cells), h("td.r", null, button)) };
  }

  function tick() {
    for (const { goods, cells } of rows.values()) setText(cells.left, left(Date.parse(goods.ends_at) - Date.now() - offset));
  }

  async function refresh() {
    const live = await get("/goods/?status=true");
    if (live.length) offset = Date.parse(live[0].server_time) - Date.now();
    live.sort((one, other) => Date.parse(one.ends_at) - Date.parse(other.ends_at));
    const shown = live.slice(0, SHOWN);
    for (const id of [...rows.keys()]) if (!shown.some((goods) => goods.id === id)) rows.delete(id);
    for (const goods of shown) {
      if (!rows.has(goods.id)) rows.set(goods.id, row(goods));
      const { cells } = Object.assign(rows.get(goods.id), { goods });
      setText(cells.price, money(goods.high_price || goods.start_price));
      setText(cells.bids, number(goods.bid_seq));
      setText(cells.watching, number(goods.watchers));
    }
    arrange(body, shown.map(({ id }) => rows.get(id).node));
    setText(count, live.length ? say("byEnd", number(live.length)) : "");
    none.hidden = live.length > 0;
    table.hidden = !live.length;
    tick();
  }

  const node = fill(h("section.box.auctions"), h("h2", null, say("liveAuctions"), count), h("div.scroll", null, table), none);
  return { node, refresh, tick };
}
