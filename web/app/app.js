// The bidders' page: which page an address shows, and what alarms do everywhere.

import { h } from "./dom.js";
import { home } from "./home.js";
import { inbox } from "./inbox.js";
import { room } from "./room.js";
import { client, leave, user } from "./session.js";
import { main, shell, showConnection, showPlace, showUnread, showUser } from "./shell.js";
import { followStandings } from "./standings.js";
import { complain, notify, showAlarm } from "./toasts.js";
import { say } from "./words.js";

const PAGES = { "": home, inbox, room };

/** What is shown: `end()`, and where it matters `changed()`, `goods`. */
let page;
let path;

/** `#/room/12?x=y` → the path, its parts, and the query. */
function address() {
  const [path, query] = (location.hash.slice(1) || "/").split("?");
  const [, name = "", id] = path.split("/");
  return { path, name, id: Number(id), query: Object.fromEntries(new URLSearchParams(query)) };
}

function show() {
  const { path: next, name, id, query } = address();
  const isOther = path !== undefined && next !== path;
  path = next;
  page?.end();
  showPlace(path, query);
  page = (PAGES[name] ?? home)(main, { ...query, id });
  if (isOther) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  showTitle();
}

function showTitle() {
  const title = document.title.replace(/^\(\d+\+?\) /, "");
  const unread = user ? client.unread : 0;
  document.title = unread ? `(${unread > 99 ? "99+" : unread}) ${title}` : title;
}

/** For the user of now, after each sign-in and -out. */
function begin() {
  const of = client;
  showUser();
  showUnread(0);
  of.on("unread", (count) => {
    showUnread(count);
    showTitle();
  });
  of.on("alarm", (alarm) => {
    if (alarm.superseded) return;
    notify(alarm);
    // Who is in the room, or in the trade, sees it there.
    if (page?.goods !== alarm.goods_id || !alarm.goods_id) showAlarm(alarm);
  });
  of.on("status", (status) => {
    if (of !== client) return;
    if (status.state === "stopped" && status.code === 4401 && user) {
      leave();
      complain(say("sessionOver"));
    } else showConnection("alarms", user ? status : undefined);
  });
  followStandings(() => page?.changed?.());
  show();
}

shell();
addEventListener("hashchange", show);
addEventListener("handsup:user", begin);
begin();
