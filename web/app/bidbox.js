// What money hangs on: who leads, the price, the time left, and the buttons that bid. On telephones a bar at the bottom
// shows the same.

import { bidder } from "./bidding.js";
import { fill, h, setAttribute, setText } from "./dom.js";
import { left, money, number, priceOf } from "./format.js";
import { icon } from "./icons.js";
import { rollingPrice } from "./price.js";
import { ring, urgency, whileShown } from "./ring.js";
import { client, user } from "./session.js";
import { askWho } from "./signin.js";
import { verdict } from "./verdict.js";
import { say } from "./words.js";

const STEPS = [2, 5];

export function bidBox(goodsId) {
  const stateLine = h("div.state");
  const caption = h("div.faint");
  const price = rollingPrice();
  const time = ring();
  const message = h("p.message", { role: "alert", hidden: true });
  const buttons = h("div.pad");
  const node = h("section.box.bid-box", { "aria-label": say("price") }, stateLine, h("div.now", null, h("div.now-price", null, caption, price.node), time.node), buttons);
  const bar = h("div.bottom");
  const barTime = h("span.small");
  const barPrice = h("b.num");

  let state;
  let isBusy = false;
  let isOpen = false;
  let drawn = "";

  const { bid } = bidder(goodsId, (report) => {
    isBusy = report.isBusy;
    message.hidden = !report.text;
    fill(message, report.text, report.retry && h("button.link", { type: "button", onclick: report.retry }, say("bidCheck")));
    if (report.isAccepted) isOpen = false;
    drawButtons();
  });

  /** Bids what stood on the button when it was pressed, even if the price rises under the finger. */
  function bidButton(className, amount, ...content) {
    let pressed;
    return h(
      `button.${className}`,
      { type: "button", disabled: isBusy, "data-price": amount, onpointerdown: () => (pressed = amount), onclick: () => bid(pressed ?? amount, state.minimum) },
      content,
    );
  }

  const mainButton = () => {
    const { minimum, leader } = state;
    if (!user) return h("button.main.big", { type: "button", onclick: askWho }, say("signInToBid"));
    if (isBusy) return h("button.main.big", { type: "button", disabled: true }, say("bidding"));
    const leads = leader?.id === user.id;
    const label = say(leads ? "raiseOwn" : leader ? "raiseTo" : "bid", money(minimum));
    return bidButton(leads ? "second.big" : "main.big", minimum, label);
  };

  function drawButtons() {
    if (!state) return;
    const isBiddable = state.phase === "live" && state.goods.seller.id !== user?.id && state.minimum !== null;
    const now = verdict(state, state.hasBid);
    const key = [isBiddable, isBusy, isOpen, state.minimum, state.leader?.id, state.phase, now.name, user?.id].join();
    if (key === drawn) return;
    const hadFocus = buttons.contains(document.activeElement) && document.activeElement.tagName === "BUTTON";
    const isTyping = isOpen && drawn && buttons.querySelector("form.own");
    drawn = key;
    if (!isBiddable) {
      fill(buttons, ending(now));
      buttons.hidden = !buttons.firstChild;
    } else {
      buttons.hidden = false;
      fill(buttons, mainButton(), message, user && !isBusy && (isTyping || (isOpen ? ownAmount() : steps())));
      if (isTyping) isTyping.dispatchEvent(new Event("minimum"));
      if (hadFocus && !isTyping) buttons.querySelector("button")?.focus({ preventScroll: true });
    }
    drawBar(isBiddable, now);
  }

  function steps() {
    const { high_price, minimum, goods } = state;
    const base = high_price || minimum - goods.min_increment;
    const step = (times) => {
      const amount = base + goods.min_increment * times;
      return amount > minimum && bidButton("second.step.num", amount, h("b", null, `+${number(goods.min_increment * times)}`), h("small.faint", null, money(amount)));
    };
    const open = () => {
      isOpen = true;
      drawButtons();
      buttons.querySelector("input").focus();
    };
    return h("div.steps", null, STEPS.map(step), h("button.second.step", { type: "button", onclick: open }, say("other")));
  }

  function ownAmount() {
    const hint = h("p.hint", { id: "own-hint" });
    const input = h("input.input.num", { inputmode: "numeric", autocomplete: "off", "aria-label": say("ownAmount"), "aria-describedby": "own-hint", oninput: check });
    const send = h("button.main", null, say("placeBid"));
    const close = h("button.icon", { type: "button", "aria-label": say("back"), onclick: () => ((isOpen = false), drawButtons()) }, icon("close"));
    function check() {
      const amount = priceOf(input.value);
      const after = input.value.slice(input.selectionEnd ?? input.value.length).replace(/\D/g, "").length;
      input.value = amount ? number(amount) : "";
      moveCaret(input, after);
      const isLow = amount > 0 && amount < state.minimum;
      setAttribute(input, "aria-invalid", isLow);
      setText(hint, say("atLeast", money(state.minimum)));
      setAttribute(hint, "class", isLow ? "wrong" : "hint");
      send.disabled = amount < state.minimum;
    }
    const submit = (event) => {
      event.preventDefault();
      const amount = priceOf(input.value);
      if (amount >= state.minimum) bid(amount, state.minimum);
    };
    const node = h("form.own.field", { onsubmit: submit, onminimum: check, novalidate: true }, h("div.own-row", null, input, send, close), hint);
    check();
    return node;
  }

  function ending({ name }) {
    if (!["won", "sold"].includes(name)) return null;
    return h("a.main.big", { href: `#/trade/${goodsId}` }, icon("chat"), say(name === "won" ? "toTrade" : "toTradeSeller"));
  }

  function drawBar(isBiddable, now) {
    setAttribute(bar, "class", `bottom ${now.look}`);
    bar.hidden = !isBiddable && !ending(now);
    const words = { lead: "tagLead", out: "tagOut" }[now.name];
    fill(bar, h("div.bar-what", null, h("div.bar-top", null, words && h("b", null, say(words)), barTime), barPrice), isBiddable ? mainButton() : ending(now));
  }

  whileShown(node, () => {
    if (!state || state.phase !== "live") return setText(barTime, "");
    const ms = Date.parse(state.ends_at) - client.now();
    setText(barTime, left(ms));
    setAttribute(barTime, "class", `small num ${urgency(ms)}`);
  });

  return {
    node,
    bar,
    /** The room's state, with `hasBid`. */
    set(next) {
      state = next;
      const { goods, phase, leader, high_price } = state;
      const now = verdict(state, state.hasBid);
      const mine = leader && leader.id === user?.id;
      setAttribute(node, "class", `box bid-box is-${now.name} ${now.look}`);
      setAttribute(stateLine, "class", `state ${now.look}`);
      const words = `${now.text} ${now.hint}`;
      if (stateLine.dataset.text !== words) {
        stateLine.dataset.text = words;
        fill(stateLine, icon(now.icon), h("div", null, h("b", null, now.text), now.hint && h("div.state-hint", null, now.hint)));
      }
      const isOver = phase === "ended";
      setText(caption, !high_price ? say("startPrice") : isOver ? say("finalPrice") : mine ? say("yourHighestBid") : say("highestBid", leader?.name));
      const shown = high_price || goods.start_price;
      price.set(shown);
      setText(barPrice, money(shown));
      time.set({ status: { scheduled: null, live: true, ended: false }[phase], starts_at: goods.starts_at, ends_at: state.ends_at });
      if (isOver) message.hidden = true;
      drawButtons();
    },
  };
}

function moveCaret(input, digitsAfter) {
  let index = input.value.length;
  for (let left = digitsAfter; left > 0 && index > 0; index--) if (/\d/.test(input.value[index - 1])) left--;
  if (document.activeElement === input) input.setSelectionRange(index, index);
}
