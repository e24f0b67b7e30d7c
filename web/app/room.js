// An auction room.

import { bidBox } from "./bidbox.js";
import { fill, h, setAttribute, setText } from "./dom.js";
import { dayAndTime, money, timeOfDay } from "./format.js";
import { feed } from "./feed.js";
import { history } from "./history.js";
import { icon } from "./icons.js";
import { announce } from "./live.js";
import { picture } from "./picture.js";
import { priceChart } from "./chart.js";
import { client, user } from "./session.js";
import { forgetConnection, showConnection } from "./shell.js";
import { askWho } from "./signin.js";
import { complain } from "./toasts.js";
import { say } from "./words.js";

export function room(root, { id }) {
  if (!Number.isSafeInteger(id) || id < 1) return missing(root);
  const room = client.room(id);
  const book = history(id);
  const box = bidBox(id);
  const chart = priceChart();
  const talk = feed({ onSay, onSignIn: askWho });
  const facts = h("div.facts");
  const title = h("h1.bone", null, "\u00a0".repeat(28));
  const like = h("button.second.like", { type: "button", hidden: true, onclick: toggleLike });
  const pic = h("div.pic-place", null, h("div.pic.hero.bone"));
  const about = h("section.about", { hidden: true });
  const node = h("div.wrap.room.is-loading", { "aria-busy": "true" }, pic, h("div.head", null, h("div.head-row", null, title, like), facts), h("aside.side", null, box.node, talk.node), chart.node, about);
  fill(root, node, box.bar);
  box.bar.hidden = true;

  let isOver = false;
  let hasHistory = false;
  let said;

  function onSay(text) {
    try {
      room.say(text);
      said = text;
      return true;
    } catch {
      complain(say("lineRefused"));
      return false;
    }
  }

  async function readHistory(state) {
    try {
      const reads = [book.readLines(state.goods)];
      if (!hasHistory) reads.push(book.readBids(state));
      await Promise.all(reads);
      hasHistory = true;
      draw();
    } catch {
      // With the next connection.
    }
  }

  function draw() {
    const { state } = room;
    if (!state || isOver) return;
    const { goods } = state;
    const isFirst = node.hasAttribute("aria-busy");
    if (isFirst) drawGoods(goods);
    box.set({ ...state, hasBid: Boolean(user) && book.hasBidOf(user.id) });
    drawFacts(state);
    drawLike(goods);
    talk.setPeople(state.participants, state.participants_count);
    talk.set(book.newestFirst);
    const end = Date.parse(state.ends_at);
    chart.set({ bids: book.standing, from: Date.parse(goods.starts_at), until: Math.min(client.now(), end), startPrice: goods.start_price });
  }

  function drawGoods(goods) {
    node.removeAttribute("aria-busy");
    node.classList.remove("is-loading");
    setAttribute(title, "class", null);
    setText(title, goods.title);
    document.title = `${goods.title} · Hands-Up`;
    const hero = picture(goods, { alt: goods.title, eager: true });
    hero.classList.add("hero");
    fill(pic, hero);
    fill(about, h("h2", null, say("about")), h(`p.text${goods.content ? "" : ".faint"}`, null, goods.content || say("noText")));
    about.hidden = false;
  }

  function drawFacts({ goods, phase, watchers }) {
    const parts = [
      h("span", null, `${say("by")} `, h("b", null, goods.seller.username)),
      phase === "scheduled" && h("span", null, say("startsAt", dayAndTime(goods.starts_at))),
      watchers > 0 && phase !== "ended" && h("span", null, say("watching", watchers)),
      phase !== "ended" && h("span.num", null, say("minimumRaise", money(goods.min_increment))),
      goods.category && h("span", null, goods.category),
    ];
    const text = parts.map((part) => part && part.textContent).join();
    if (facts.dataset.text === text) return;
    facts.dataset.text = text;
    fill(facts, parts);
  }

  let isLiked;
  function drawLike(goods) {
    isLiked ??= goods.is_like;
    like.hidden = !user || goods.seller.id === user.id;
    setAttribute(like, "aria-pressed", String(isLiked));
    if (like.dataset.liked !== String(isLiked)) fill(like, icon("heart"), h("span", null, say(isLiked ? "liking" : "like")));
    like.dataset.liked = String(isLiked);
  }

  async function toggleLike() {
    isLiked = !isLiked;
    draw();
    try {
      await client.request(isLiked ? "PUT" : "DELETE", `/goods/${id}/like`);
    } catch {
      isLiked = !isLiked;
      draw();
      complain(say("noAnswer"));
    }
  }

  let lead;
  function hearBid(frame) {
    book.addFrame(frame);
    const price = money(frame.high_price);
    const isMine = frame.sender === user?.id;
    if (isMine) announce(say("announceMine", price));
    else if (lead === user?.id && user) announce(say("announceOut", frame.sender_name, price), true);
    else announce(say("announceBid", frame.sender_name, price));
    lead = frame.sender;
  }

  const noted = (text) => {
    book.note(text);
    announce(text);
    draw();
  };
  room.on("sync", (state) => {
    lead = state.leader?.id;
    readHistory(state);
  });
  room.on("bid", hearBid);
  room.on("change", draw);
  room.on("message", (line) => (book.addLine(line), draw()));
  room.on("removed", ({ id: line }) => (book.remove(line), draw()));
  room.on("voided", ({ voids }) => (book.void(voids), draw()));
  room.on("started", () => noted(say("started")));
  room.on("extended", ({ ends_at }) => noted(say("extended", timeOfDay(ends_at))));
  room.on("alert", (alert) => {
    complain(alert.code === "too_many_requests" ? say("tooFast") : say("lineRefused"));
    if (said) talk.restore(said);
  });
  room.on("status", (status) => {
    if (isOver) return;
    if (status.state === "stopped" && status.code === 4404) missing(root);
    else showConnection("room", status);
  });
  draw();

  return {
    goods: id,
    end() {
      isOver = true;
      room.close();
      forgetConnection("room");
    },
  };
}

function missing(root) {
  document.title = "Hands-Up";
  fill(root, h("div.wrap", null, h("div.empty", null, h("span.mark", null, icon("gavel")), h("h1", null, say("noSuchGoods")), h("p", null, say("noSuchGoodsHint")), h("a.main", { href: "#/" }, say("toHome")))));
  return { end() {} };
}
