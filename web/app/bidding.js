// Places bids for a room: one at a time, with a question before a very high one, and with what came of it in a sentence.

import { h } from "./dom.js";
import { money } from "./format.js";
import { client } from "./session.js";
import { leads } from "./standings.js";
import { say } from "./words.js";

/** From this many times the least price on, the user is asked. */
const ASK_FROM = 10;

const REFUSALS = {
  auction_ended: "errorEnded",
  auction_not_started: "errorNotStarted",
  seller_cannot_bid: "errorSeller",
  bidder_blocked: "errorBlocked",
  too_many_requests: "tooFast",
};

export const needsQuestion = (price, minimum) => minimum > 0 && price >= minimum * ASK_FROM;

/** `report(state)`: `{ isBusy, text?, retry? }`. */
export function bidder(goodsId, report) {
  let isBusy = false;
  async function send(price, key) {
    if (isBusy) return false;
    isBusy = true;
    report({ isBusy });
    let result = { isBusy: false };
    try {
      const answer = await client.bid(goodsId, price, key ? { key } : {});
      if (answer.leading !== false) leads(goodsId);
      result.isAccepted = true;
    } catch (error) {
      result = { isBusy: false, ...explain(error, () => send(price, error.key)) };
    }
    isBusy = false;
    report(result);
    return Boolean(result.isAccepted);
  }
  return {
    async bid(price, minimum) {
      return (!needsQuestion(price, minimum) || (await isSure(price, minimum))) && send(price);
    },
  };
}

function explain(error, retry) {
  if (error.outcome === "unknown") return { text: say("bidUnknown"), retry };
  if (error.code === "bid_too_low") {
    const { minimum } = error.problem;
    return { text: minimum ? say("tooLow", money(minimum)) : say("noMoreBids") };
  }
  const known = REFUSALS[error.code];
  return { text: say(known ?? (error.status === 0 || error.status >= 500 ? "noAnswer" : "failed")) };
}

function isSure(price, minimum) {
  return new Promise((resolve) => {
    const answer = (isYes) => () => {
      resolve(isYes);
      dialog.close();
    };
    const actions = h("div.actions", null, h("button.second", { type: "button", onclick: answer(false), autofocus: true }, say("cancel")), h("button.main", { type: "button", onclick: answer(true) }, say("sureYes", money(price))));
    const form = h("form", { method: "dialog" }, h("h2", null, say("sureTitle")), h("p", null, say("sureText", money(price), Math.floor(price / minimum))), actions);
    const dialog = h("dialog.sure", { "aria-label": say("sureTitle"), onclose: () => (resolve(false), dialog.remove()) }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}
