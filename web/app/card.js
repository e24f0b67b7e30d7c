// Goods in a list: a card that changes in place.

import { h, setAttribute, setText } from "./dom.js";
import { dayAndTime, money } from "./format.js";
import { icon } from "./icons.js";
import { picture } from "./picture.js";
import { ring } from "./ring.js";
import { standing } from "./standings.js";
import { say } from "./words.js";

const TAGS = { lead: "tagLead", out: "tagOut", won: "tagWon", yours: "tagYours" };

export function card(first) {
  const pic = picture(first);
  const time = ring();
  const tag = h("span.tag", { hidden: true });
  const chip = h("span.tag", { hidden: true });
  const heart = h("span.liked", { hidden: true, role: "img", "aria-label": say("liking") }, icon("heart"));
  pic.append(tag, heart, time.node);
  const title = h("a", { href: `#/room/${first.id}` });
  const price = h("div.price.num");
  const note = h("small.faint");
  const bids = h("span");
  const others = h("span");
  const node = h("article.card", { "data-goods": first.id }, pic, h("div.body", null, chip, h("h3", null, title), h("div.row-price", null, price, note), h("div.meta", null, bids, others)));
  const update = (goods) => {
    const mine = standing(goods);
    setAttribute(node, "class", `card ${mine === "lead" || mine === "out" ? mine : ""} ${goods.status === false ? "over" : ""}`.trim());
    const label = TAGS[mine] ?? (goods.status === false && (goods.buyer ? "tagSold" : "tagEnded"));
    // On the picture, or beside it, as the list is.
    for (const node of [tag, chip]) {
      node.hidden = !label;
      setAttribute(node, "class", `tag ${{ lead: "lead", won: "lead", out: "out" }[mine] ?? "plain"}`);
      setText(node, label ? say(label) : "");
    }
    heart.hidden = !goods.is_like || Boolean(label);
    time.set(goods);
    setText(title, goods.title);
    const hasPrice = goods.high_price > 0;
    setText(price, money(hasPrice ? goods.high_price : goods.start_price));
    setText(note, hasPrice ? "" : say("startPrice"));
    setText(bids, goods.status === null ? say("startsAt", dayAndTime(goods.starts_at)) : say("bids", goods.bid_seq));
    setText(others, goods.status === true ? (goods.watchers ? say("watching", goods.watchers) : "") : goods.like_count ? say("liked", goods.like_count) : "");
  };
  update(first);
  return { node, update };
}

/** The shape of a card that is still to come. */
export const bones = (count) =>
  Array.from({ length: count }, () =>
    h("div.card", { "aria-hidden": "true" }, h("div.pic.bone"), h("div.body", null, h("h3.bone", null, "\u00a0"), h("div.price.bone", null, "\u00a0"), h("div.meta.bone", null, "\u00a0"))),
  );

/** Cards by goods, so that a list that is read again keeps its nodes. */
export function cards() {
  const known = new Map();
  return (goods) => {
    const view = known.get(goods.id) ?? card(goods);
    known.set(goods.id, view);
    view.update(goods);
    return view.node;
  };
}
