// What surrounds every page: the head, the bar of tabs on telephones, the line about the connection.

import { fill, h, setAttribute, setText } from "./dom.js";
import { hand, icon } from "./icons.js";
import { regions } from "./live.js";
import { face } from "./picture.js";
import { leave, user } from "./session.js";
import { askWho } from "./signin.js";
import { toasts } from "./toasts.js";
import { choose, language, say } from "./words.js";

const THEME = "handsup.theme";
/** A short cut is nobody's business. */
const OFFLINE_AFTER_MS = 1_500;
const ONLINE_SHOWN_MS = 2_500;
const SEARCH_AFTER_MS = 250;

/** The first and the last are for telephones alone; on wide screens the brand and the bell lead there. */
const links = [
  ["home", "#/", "home"],
  ["inbox", "#/inbox", "bell"],
];

export const main = h("main", { id: "main", tabindex: "-1" });
const account = h("div.account");
const connection = h("div.connection", { role: "status", hidden: true });
const badge = h("span.badge", { hidden: true, "aria-hidden": "true" });
const bellText = h("span.unseen");
const bell = h("a.icon", { href: "#/inbox" }, icon("bell"), badge, bellText);
const input = h("input", { type: "search", "aria-label": say("search"), placeholder: say("search"), oninput: search, enterkeyhint: "search", maxlength: 100 });
const toLink = ([name, href, picture]) => h("a", { href }, picture && icon(picture), h("span", null, say(name)));
const nav = h("nav", { "aria-label": "Hands-Up" }, links.slice(1, -1).map(([name, href]) => toLink([name, href])));
const tabs = h("nav.tabs", { "aria-label": say("menu", "Hands-Up") }, links.map(toLink));
let timer;

function search() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const text = input.value.trim();
    location.hash = text ? `#/?search=${encodeURIComponent(text)}` : "#/";
  }, SEARCH_AFTER_MS);
}

export function shell() {
  showTheme(localStorage.getItem(THEME));
  const head = h("header.top", null, h("div.wrap", null, h("a.brand", { href: "#/" }, hand(), h("span", null, "Hands-Up")), h("form.search", { role: "search", onsubmit: (event) => event.preventDefault() }, icon("find"), input), h("span.grow"), nav, bell, account));
  const skip = h("a.skip", { href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, say("skip"));
  fill(document.body, skip, head, connection, main, tabs, toasts, ...regions);
}

/** After a change of the user. */
export function showUser() {
  fill(account, user ? menu() : h("button.main.small-button", { type: "button", onclick: askWho }, say("signIn")));
  bell.hidden = !user;
}

/** Marks where we are. */
export function showPlace(path, query) {
  for (const link of [...nav.children, ...tabs.children]) {
    setAttribute(link, "aria-current", link.hash === `#${path}` || (link.hash === "#/" && path === "/") ? "page" : null);
  }
  setAttribute(document.body, "data-page", path.split("/")[1] || "home");
  if (document.activeElement !== input) input.value = query.search ?? "";
}

export function showUnread(count) {
  badge.hidden = !count;
  setText(badge, count > 99 ? "99+" : String(count));
  setText(bellText, say("inboxUnread", count));
}

function menu() {
  const panel = h("div.menu", { id: "menu", popover: "auto" });
  const option = (text, isOn, onclick) => h("button.chip", { type: "button", "aria-pressed": String(isOn), onclick }, text);
  const theme = localStorage.getItem(THEME) ?? "";
  const chooseTheme = (name) => () => {
    if (name) localStorage.setItem(THEME, name);
    else localStorage.removeItem(THEME);
    showTheme(name);
    showUser();
  };
  fill(
    panel,
    h("div.menu-who", null, face(user.name, user.id), h("b", null, user.name)),
    h("p.label", null, say("language")),
    h("div.chips", null, option("한국어", language === "ko", () => choose("ko")), option("English", language === "en", () => choose("en"))),
    h("p.label", null, say("colours")),
    h("div.chips", null, [["", "system"], ["light", "light"], ["dark", "dark"]].map(([name, text]) => option(say(text), theme === name, chooseTheme(name)))),
    h("button.second", { type: "button", onclick: leave }, say("signOut")),
  );
  const button = h("button.icon", { type: "button", popovertarget: "menu" }, face(user.name, user.id), h("span.unseen", null, say("menu", user.name)));
  return h("div", null, button, panel);
}

function showTheme(name) {
  setAttribute(document.documentElement, "data-theme", name || null);
}

let wasOffline = false;
let offlineTimer;
let trouble = new Map();

/** Notes whether a connection (of the alarms, of a room) holds. The line shows when one has not for a while. */
export function showConnection(name, { state, code } = {}) {
  if (code === 4409 && state === "stopped") return showLine("out", say("tooManyTabs"));
  if (state === "waiting" || (state === "connecting" && trouble.has(name))) trouble.set(name, true);
  else trouble.delete(name);
  if (trouble.size && !wasOffline) {
    offlineTimer ??= setTimeout(() => {
      offlineTimer = undefined;
      if (!trouble.size) return;
      wasOffline = true;
      showLine("out", say("offline"));
    }, OFFLINE_AFTER_MS);
  } else if (!trouble.size && wasOffline) {
    wasOffline = false;
    showLine("lead", say("online"));
    setTimeout(() => !wasOffline && showLine(), ONLINE_SHOWN_MS);
  }
}

export function forgetConnection(name) {
  showConnection(name);
}

function showLine(look, text) {
  connection.hidden = !text;
  setAttribute(connection, "class", `connection ${look ?? ""}`);
  fill(connection, text && h("div.wrap", null, look === "out" && icon("cut"), h("span", null, text)));
}

