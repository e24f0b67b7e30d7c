// The inbox: all alarms, newest first.

import { details, headline, mark, target } from "./alarms.js";
import { fill, h } from "./dom.js";
import { ago } from "./format.js";
import { icon } from "./icons.js";
import { client, user } from "./session.js";
import { askWho } from "./signin.js";
import { complain } from "./toasts.js";
import { say } from "./words.js";

const PAGE = 30;

export function inbox(root) {
  document.title = `${say("inbox")} · Hands-Up`;
  const list = h("ol.box.rows", { "aria-label": say("inbox") });
  const readAll = h("button.quiet", { type: "button", hidden: true, onclick: readEverything }, say("readAll"));
  const older = h("button.second.more", { type: "button", hidden: true, onclick: showOlder }, say("older"));
  const empty = h("div.empty", { hidden: true }, h("span.mark", null, icon("bell")), h("h2", null, say("inboxEmpty")), h("p", null, say("inboxEmptyHint")));
  fill(root, h("div.wrap.narrow", null, h("div.bar", null, h("h1", null, say("inbox")), h("span.grow"), readAll), permission(), list, empty, older));
  if (!user) {
    fill(empty, h("span.mark", null, icon("bell")), h("h2", null, say("inboxVisitor")), h("button.main", { type: "button", onclick: askWho }, say("signIn")));
    empty.hidden = false;
    list.hidden = true;
    return { end() {} };
  }
  fill(list, Array.from({ length: 6 }, () => h("li.row", { "aria-hidden": "true" }, h("span.mark.bone"), h("div", null, h("b.bone", null, "\u00a0".repeat(24))))));

  let alarms = [];
  let timer;
  let isOver = false;

  async function read() {
    try {
      const { results } = await client.inbox({ limit: Math.max(PAGE, alarms.length) });
      alarms = results;
      older.hidden = results.length < PAGE;
      draw();
    } catch (error) {
      if (!isOver) complain(say("noAnswer"));
    }
  }

  async function showOlder() {
    const { results } = await client.inbox({ limit: PAGE, before: alarms.at(-1).id });
    alarms.push(...results);
    older.hidden = results.length < PAGE;
    draw();
  }

  async function readEverything() {
    await client.read(alarms[0].id).catch(() => complain(say("noAnswer")));
    soon();
  }

  function draw() {
    if (isOver) return;
    empty.hidden = alarms.length > 0;
    list.hidden = alarms.length === 0;
    readAll.hidden = !alarms.some((alarm) => !alarm.read);
    fill(list, alarms.map(row));
  }

  function row(alarm) {
    const isOld = alarm.read || alarm.superseded;
    const link = h("a", { href: target(alarm), onclick: () => client.read([alarm.id]).catch(() => {}) }, headline(alarm));
    return h(
      `li.row${isOld ? "" : ".unread"}`,
      null,
      mark(alarm.superseded ? { ...alarm, kind: "settled" } : alarm),
      h("div", null, h("b", null, link, !isOld && h("span.unseen", null, ` (${say("unreadMark")})`)), h("p.soft.small", null, details(alarm))),
      h("div.when", null, h("time.faint.small", { datetime: alarm.created_at }, ago(alarm.created_at, client.now())), alarm.superseded && h("small.faint", null, say("over"))),
    );
  }

  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(read, 150);
  };
  const offs = [client.on("alarm", soon), client.on("unread", soon)];
  read();
  return {
    end() {
      isOver = true;
      clearTimeout(timer);
      for (const off of offs) off();
    },
  };
}

/** Asks for the browser's permission, once somebody wants it. */
function permission() {
  if (!user || !globalThis.Notification || Notification.permission !== "default") return null;
  const button = h("button.second", { type: "button", onclick: ask }, icon("bell"), say("notify"));
  const node = h("p.permission", null, button);
  async function ask() {
    const answer = await Notification.requestPermission();
    if (answer === "granted") fill(node, h("span.soft", null, say("notifyOn")));
    else node.remove();
  }
  return node;
}
