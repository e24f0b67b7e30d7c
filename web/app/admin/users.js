// One user: sockets, inbox, what they lead, and whether they may come in.

import { fill, h } from "/app/dom.js";
import { money, number } from "/app/format.js";
import { ask } from "./ask.js";
import { Refused, call, get } from "./service.js";
import { say } from "./words.js";

export function users({ onChange, onError }) {
  const input = h("input.input.num", { id: "user", inputmode: "numeric", pattern: "[0-9]+", maxlength: 16, required: true, autocomplete: "off" });
  const result = h("div.result", { "aria-live": "polite" });

  async function show(id) {
    const user = await get(`/admin/users/${id}`);
    const fact = (name, value) => h("div", null, h("dt", null, say(name)), h("dd.num", null, value));
    const leads = user.leads.map(({ goods_id, title, high_price }) => h("li", null, h("a", { href: `/#/room/${goods_id}` }, title), h("span.num", null, money(high_price))));
    const change = user.is_active ? "deactivate" : "activate";
    fill(
      result,
      h("div.person", null, h("h3", null, user.username), h(`span.tag.${user.is_active ? "lead" : "out"}`, null, say(user.is_active ? "active" : "inactive"))),
      h("dl.facts", null, fact("sockets", number(user.sockets)), fact("unread", number(user.unread)), fact("leads", leads.length ? number(leads.length) : say("nothing"))),
      leads.length && h("ul.leads", null, leads),
      h("button.second", { type: "button", onclick: () => set(user, change).catch(onError) }, say(change)),
    );
  }

  async function set({ id, username, is_active }, change) {
    if (is_active && (await ask({ title: say("deactivateTitle", username), text: say("deactivateText"), yes: say(change) })) === null) return;
    await call("PUT", `/admin/users/${id}`, { is_active: !is_active });
    await show(id);
    onChange();
  }

  async function find(submit) {
    submit.preventDefault();
    try {
      await show(input.value.trim());
    } catch (error) {
      if (error instanceof Refused && error.status === 404) fill(result, h("p.none", null, say("noUser")));
      else onError(error);
    }
  }

  const form = h("form.find", { onsubmit: find }, h("div.field", null, h("label", { for: "user" }, say("userId")), input), h("button.second", null, say("find")));
  return { node: h("section.box.users", null, h("h2", null, say("userCard")), form, result) };
}
