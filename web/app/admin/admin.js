// The operator's page: whether all is well, and if not what to do.

import { fill, h, setText } from "/app/dom.js";
import { timeOfDay } from "/app/format.js";
import { hand } from "/app/icons.js";
import { choose, language } from "/app/words.js";
import { audit } from "./audit.js";
import { auctions } from "./auctions.js";
import { deliveries } from "./deliveries.js";
import { Window, parse } from "./figures.js";
import { Refused, get, isSignedIn, metrics, signIn, signInForDevelopment, signOut } from "./service.js";
import { tiles } from "./tiles.js";
import { users } from "./users.js";
import { verdict } from "./verdict.js";
import { say } from "./words.js";

const HEALTH_MS = 2_000;
const LISTS_MS = 5_000;
const WINDOW_MS = 60_000;

const node = h("span.soft.place");
const theme = localStorage.getItem("handsup.theme");
if (theme) document.documentElement.dataset.theme = theme;
document.title = say("title");

function frame(...children) {
  const languages = [
    ["ko", "한국어"],
    ["en", "English"],
  ];
  const other = languages.find(([name]) => name !== language);
  const leave = isSignedIn() && h("button.quiet", { type: "button", onclick: () => (signOut(), location.reload()) }, say("leave"));
  const head = h("header.top", null, h("div.wrap", null, h("a.brand", { href: "/" }, hand(), h("span", null, "Hands-Up")), h("span.soft.place", null, say("operator")), node, h("span.grow"), h("button.quiet", { type: "button", lang: other[0], onclick: () => choose(other[0]) }, other[1]), leave));
  fill(document.body, head, h("main.wrap", { id: "main" }, children));
}

function uptime(seconds) {
  if (seconds >= 172_800) return say("days", Math.floor(seconds / 86_400));
  if (seconds >= 7_200) return say("hours", Math.floor(seconds / 3_600));
  return say("minutes", Math.ceil(seconds / 60));
}

/** Repeats it as long as the page lives, one at a time; a hidden page asks for nothing. */
function every(ms, run) {
  const again = async () => {
    if (!document.hidden) await run();
    setTimeout(again, ms);
  };
  again();
}

function watch() {
  const lamp = h("span.lamp");
  const text = h("h1");
  const about = h("p.soft.small");
  const line = h("div.verdict", { role: "status" }, lamp, h("div", null, text, about));
  const wrong = h("p.wrong", { role: "alert", hidden: true });
  const onError = (error) => {
    if (error instanceof Refused && error.status === 401) return leave();
    setText(wrong, say("failed", error.message));
    wrong.hidden = false;
  };
  const figures = tiles();
  const trail = audit();
  const onChange = () => (wrong.hidden = true, trail.refresh().catch(onError));
  const live = auctions({ onChange, onError });
  const minute = new Window(WINDOW_MS);
  let last;
  let hasMetrics = true;

  function show(health) {
    const { level, says } = verdict(health);
    line.dataset.level = level;
    setText(text, says.map((one) => say(...one)).join(" "));
    const of = health ?? last;
    const facts = of ? [say("up", uptime(of.uptime_s)), of.version, of.checks.database.engine === "sqlite" ? "SQLite" : "PostgreSQL"] : [];
    if (!health && last) facts.push(say("lastSeen", timeOfDay(last.time)));
    if (!hasMetrics) facts.push(say("noMetrics"));
    setText(about, facts.join(" · "));
    if (!health) return;
    last = health;
    setText(node, say("node", health.node));
    figures.show(health, minute);
  }

  every(HEALTH_MS, async () => {
    try {
      const [health, text] = await Promise.all([get("/admin/health"), hasMetrics ? metrics() : null]);
      hasMetrics = text !== null;
      if (hasMetrics) minute.add(performance.now(), parse(text));
      show(health);
    } catch (error) {
      if (error instanceof Refused && [401, 403].includes(error.status)) leave();
      else show(null);
    }
  });
  // What the lists can't say while nobody answers is in the one line at the top.
  every(LISTS_MS, () => Promise.allSettled([live.refresh(), trail.refresh()]));
  every(500, async () => live.tick());

  const left = h("div.column", null, live.node, trail.node);
  const right = h("div.column", null, deliveries({ onError }).node, users({ onChange, onError }).node);
  frame(line, wrong, figures.node, h("div.two", null, left, right));
}

function leave() {
  signOut();
  location.reload();
}

function askForToken() {
  const wrong = h("p.wrong", { role: "alert", hidden: true });
  const input = h("input.input", { id: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false", "aria-describedby": "token-hint" });
  const enter = async (submit) => {
    submit.preventDefault();
    wrong.hidden = true;
    try {
      await signIn(input.value.trim());
      watch();
    } catch (error) {
      setText(wrong, say(error instanceof Refused ? "notAdmin" : "unreachable"));
      wrong.hidden = false;
    }
  };
  const field = h("div.field", null, h("label", { for: "token" }, say("token")), input, h("p.hint", { id: "token-hint" }, say("signInText")), wrong);
  frame(h("form.box.sign-in", { onsubmit: enter }, h("h1", null, say("signIn")), field, h("button.main", null, say("enter"))));
  input.focus();
}

if (isSignedIn() || (await signInForDevelopment().catch(() => false))) watch();
else askForToken();
