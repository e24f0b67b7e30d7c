// Bids and lines of a room in one list, newest first, and the field to say something.

import { arrange, fill, h } from "./dom.js";
import { money, timeOfDay } from "./format.js";
import { face } from "./picture.js";
import { user } from "./session.js";
import { say } from "./words.js";

const MOST = 150;
const LINE_LENGTH = 100;

/** `onSay(text)` returns whether it was sent. */
export function feed({ onSay, onSignIn }) {
  const input = h("input.input", { "aria-label": say("saySomething"), placeholder: say("saySomething"), maxlength: LINE_LENGTH, autocomplete: "off", enterkeyhint: "send" });
  const form = user
    ? h("form.say", { onsubmit: send }, input, h("button.second", null, say("send")))
    : h("div.say", null, h("button.second", { type: "button", onclick: onSignIn }, say("signIn")));
  const list = h("ol.feed", { tabindex: "0", "aria-label": say("feed") });
  const empty = h("p.soft.small.feed-empty", null, say("feedEmpty"));
  const here = h("div.here");
  const node = h("section.box.talk", { "aria-label": say("feed") }, h("div.bar", null, h("h2", null, say("feed")), h("span.grow"), here), form, list, empty);
  const rows = new Map();

  function send(event) {
    event.preventDefault();
    const text = input.value.trim();
    if (text && onSay(text)) input.value = "";
  }

  return {
    node,
    /** Entries with `key`, `at`, `user_id`, `name`, and `price` (with `kind`, `voided`) or `text`. */
    set(entries) {
      const newest = entries.slice(0, MOST);
      for (const key of rows.keys()) if (!newest.some((entry) => entry.key === key)) rows.delete(key);
      arrange(list, newest.map((entry) => {
        const shown = `${entry.voided}${entry.name}`;
        if (rows.get(entry.key)?.shown !== shown) rows.set(entry.key, { shown, node: row(entry) });
        return rows.get(entry.key).node;
      }));
      empty.hidden = newest.length > 0;
      list.hidden = newest.length === 0;
    },
    setPeople(participants, count) {
      fill(here, participants.slice(0, 4).map(({ id, user: name }) => face(name, id)), h("span.faint.small", null, say("hereNow", count)));
    },
    restore(text) {
      if (!input.value) input.value = text;
    },
  };
}

const WORDS = { auto: "autoBidsWord", buy_now: "buysWord" };

function row({ user_id, name, price, kind, voided, text, at, isNote }) {
  const time = h("time.faint", { datetime: new Date(at).toISOString() }, timeOfDay(at, price !== undefined));
  if (isNote) return h("li.row.note", null, h("span.soft", null, text), time);
  const isMine = user_id === user?.id;
  const words = price === undefined ? text : say(WORDS[kind] ?? "bidsWord");
  return h(
    `li.row${isMine ? ".mine" : ""}${price === undefined ? "" : ".bid"}${voided ? ".voided" : ""}`,
    null,
    face(name, user_id),
    h("p", null, h("b", null, name), " ", words, voided && ` · ${say("voidedWord")}`),
    h("div.what", null, price !== undefined && h("b.num", null, money(price)), time),
  );
}
