// "Did they get it?": what became of an event's alarms.

import { fill, h } from "/app/dom.js";
import { dayAndTime, number, timeOfDay } from "/app/format.js";
import { Refused, get } from "./service.js";
import { say } from "./words.js";

const PAGE = 50;

const step = (isDone, text, time = "") => h(isDone ? "li" : "li.open", null, h("span", null, text), h("span.t", null, time));

function trail({ alarm_id, stored_at, received, read, superseded }) {
  return h(
    "ol.trail",
    null,
    step(true, say("stored", alarm_id), `${dayAndTime(stored_at).replace(/ ?\d\d:\d\d$/, "")} ${timeOfDay(stored_at)}`.trim()),
    step(received, say(received ? "received" : "notReceived")),
    step(read, say(read ? "read" : "notRead")),
    superseded && step(true, say("superseded")),
  );
}

function list(results) {
  const row = ({ user_id, alarm_id, received, read }) =>
    h("tr", null, h("td.num", null, String(user_id)), h("td.num", null, String(alarm_id)), h("td", null, say(read ? "read" : received ? "received" : "notReceived")));
  return results.map(row);
}

export function deliveries({ onError }) {
  const event = h("input.input.num", { id: "event", inputmode: "numeric", pattern: "[0-9]+", maxlength: 16, required: true, autocomplete: "off" });
  const user = h("input.input.num", { id: "event-user", inputmode: "numeric", pattern: "[0-9]*", maxlength: 16, autocomplete: "off", placeholder: say("everyone") });
  const result = h("div.result", { "aria-live": "polite" });

  async function one(id, of) {
    const { results } = await get(`/admin/alarms/${id}/deliveries?user_id=${of}`);
    fill(result, results.length ? results.map(trail) : h("p.none", null, say("notFor", of)));
  }

  async function all(id) {
    const body = h("tbody");
    const summary = h("p.soft.small");
    const counts = { shown: 0, received: 0, read: 0 };
    const more = h("button.second", { type: "button", hidden: true, onclick: () => page().catch(onError) }, say("more"));
    let after = 0;
    async function page() {
      const { results } = await get(`/admin/alarms/${id}/deliveries?after=${after}&limit=${PAGE}`);
      body.append(...list(results));
      after = results.at(-1)?.user_id ?? after;
      counts.shown += results.length;
      counts.received += results.filter(({ received }) => received).length;
      counts.read += results.filter(({ read }) => read).length;
      summary.textContent = counts.shown ? say("deliveries", number(counts.shown), number(counts.received), number(counts.read)) : say("nobody");
      more.hidden = results.length < PAGE;
    }
    await page();
    fill(result, summary, counts.shown && h("table", null, h("thead", null, h("tr", null, h("th", { scope: "col" }, say("user")), h("th", { scope: "col" }, say("event")), h("th", null, h("span.unseen", null, say("gotIt"))))), body), more);
  }

  async function find(submit) {
    submit.preventDefault();
    const [id, of] = [event.value.trim(), user.value.trim()];
    try {
      await (of ? one(id, of) : all(id));
    } catch (error) {
      if (error instanceof Refused && error.status === 404) fill(result, h("p.none", null, say("noEvent")));
      else onError(error);
    }
  }

  const form = h(
    "form.find",
    { onsubmit: find },
    h("div.field", null, h("label", { for: "event" }, say("event")), event),
    h("div.field", null, h("label", { for: "event-user" }, say("user")), user),
    h("button.second", null, say("find")),
  );
  return { node: h("section.box.deliveries", null, h("h2", null, say("gotIt")), form, h("p.hint", null, say("gotItHint")), result) };
}
