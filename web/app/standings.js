// On which goods the user was outbid, as the inbox says: an `outbid` that no longer holds is superseded there.

import { client, user } from "./session.js";

let outbid = new Set();

/** Reads it anew; `changed` is called after this and after each change. */
export function followStandings(changed) {
  outbid = new Set();
  if (!user) return;
  const of = client;
  let timer;
  const read = async () => {
    try {
      const { results } = await of.inbox({ limit: 200 });
      if (of !== client) return;
      outbid = new Set(results.filter(({ kind, superseded }) => kind === "outbid" && !superseded).map(({ goods_id }) => goods_id));
      changed();
    } catch {
      // The next change asks again.
    }
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(read, 200);
  };
  of.on("alarm", (alarm) => {
    if (alarm.kind === "outbid" && !alarm.superseded) outbid.add(alarm.goods_id);
    changed();
  });
  of.on("unread", soon);
  of.on("status", ({ state }) => state === "online" && soon());
  read();
}

/** The user has bid, and leads. */
export function leads(goodsId) {
  outbid.delete(goodsId);
}

/** `lead`, `out`, `won`, `yours`, or undefined: what the user has to do with goods of a list. */
export function standing(goods) {
  if (!user) return undefined;
  if (goods.seller.id === user.id) return "yours";
  const isBuyer = goods.buyer?.id === user.id;
  if (isBuyer && goods.status !== null) return goods.status ? "lead" : "won";
  return goods.status === true && outbid.has(goods.id) ? "out" : undefined;
}
