// A price that rolls when it changes: only the digits that are others move.

import { fill, h, movesLittle } from "./dom.js";
import { money, number } from "./format.js";
import { say } from "./words.js";

export function rollingPrice() {
  const heard = h("span.unseen");
  const seen = h("span.roll", { "aria-hidden": "true" });
  const node = h("div.big.num", null, heard, seen);
  let shown = "";
  return {
    node,
    set(value) {
      const text = value ? number(value) : "–";
      if (text === shown) return;
      const rises = shown !== "" && !movesLittle();
      const before = shown.padStart(text.length);
      const digits = [...text].map((digit) => h("span", null, digit));
      heard.textContent = value ? money(value) : "";
      const sign = value && say("moneySign");
      const unit = value && say("moneyUnit");
      fill(seen, sign && h("small", null, sign), digits, unit && h("small", null, unit));
      digits.forEach((digit, index) => {
        if (!rises || text[index] === before.at(index - text.length)) return;
        const from = { transform: "translateY(.45em)", opacity: 0 };
        digit.animate([from, { transform: "none", opacity: 1 }], { duration: 260, easing: "cubic-bezier(.2,.8,.3,1)" });
      });
      shown = text;
    },
  };
}
