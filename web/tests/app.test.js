// The bidders' page in Chromium: people who bid against each other, and what happens to them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { seriousViolations, visit as open } from "./chromium.js";
import { Proxy, Server, token } from "./support.js";

const PHONE = { width: 390, height: 844 };
const SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>";

const start = (t, settings) => Server.start(t, { HANDSUP__AUTH__DEV_LOGIN: "true", ...settings });

/** A place of the page, for a visitor or for somebody who chooses this name. */
async function visit(t, url, { name, hash = "", ...options } = {}) {
  const page = await open(t, `${url}/${hash}`, options);
  if (name) await enter(page, name);
  return page;
}

/** Signs in with a name. */
async function enter(page, name) {
  const button = page.getByRole("button", { name: /Choose a name to bid|Sign in/ }).filter({ visible: true }).first();
  if (!(await page.getByPlaceholder("Your name").isVisible())) await button.click();
  await page.getByPlaceholder("Your name").fill(name);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: `${name}: settings` }).waitFor();
}

const state = (page, text) => page.locator(".state", { hasText: text }).waitFor();
const price = (page, text) => page.locator(".bid-box .big .unseen").getByText(text, { exact: true }).waitFor({ state: "attached" });
const raise = (page) => page.locator(".bid-box .pad > .big").click();
const unread = (page, count) => page.getByRole("link", { name: count ? `Inbox, ${count} unread` : "Inbox", exact: true }).first().waitFor();

test("two people bid against each other, one wins, and both find it in the inbox after a reload", async (t) => {
  const server = await start(t);
  const goods = await server.goods({ title: "camera", duration_s: 30 });
  // One click from the first visit into a room.
  const mina = await visit(t, server.url, { name: "mina" });
  await mina.waitForURL(`**/#/room/${goods}`);
  const joon = await visit(t, server.url, { name: "joon", hash: `#/room/${goods}` });
  await state(mina, "No bids yet");
  await mina.getByRole("button", { name: "Bid ₩1,000" }).filter({ visible: true }).click();
  await state(mina, "You lead");
  await state(joon, "mina leads");
  await price(joon, "₩1,000");
  await raise(joon);
  await state(joon, "You lead");
  await state(mina, "joon outbid you");
  await price(mina, "₩1,100");
  assert.equal(await mina.locator("[aria-live=assertive]").textContent(), "You were outbid. joon bids ₩1,100");
  await unread(mina, 1);
  // Two steps, and an amount of one's own; an amount ten times too high is asked about.
  await mina.getByRole("button", { name: "+200" }).click();
  await state(joon, "mina outbid you");
  await price(joon, "₩1,300");
  await unread(mina, 0);
  await joon.getByRole("button", { name: "Other…" }).click();
  await joon.keyboard.type("150000");
  assert.equal(await joon.getByLabel("Your amount").inputValue(), "150,000");
  await joon.keyboard.press("Enter");
  await joon.getByRole("dialog").getByText("₩150,000 is 107 times what is needed now. Really bid that much?").waitFor();
  await joon.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await joon.getByLabel("Your amount").fill("2000");
  await joon.getByLabel("Your amount").press("Enter");
  await state(joon, "You lead");
  await price(joon, "₩2,000");
  await joon.getByRole("textbox", { name: "Say something to the room" }).fill("hello");
  await joon.keyboard.press("Enter");
  await mina.getByRole("list", { name: "Bids and talk" }).getByText("hello").waitFor();
  assert.deepEqual(await mina.locator(".feed .bid b.num").allTextContents(), ["₩2,000", "₩1,300", "₩1,100", "₩1,000"]);
  await state(joon, "You won!");
  await state(mina, "joon won it");
  for (const [page, headline] of [[joon, "You won!"], [mina, "This one went to somebody else"]]) {
    await unread(page, 1);
    await page.goto(`${server.url}/#/inbox`);
    await page.reload();
    await page.locator(".row.unread", { hasText: headline }).getByText("camera · ₩2,000").waitFor();
    await page.getByRole("button", { name: "Mark all as read" }).click();
    await unread(page, 0);
    assert.deepEqual(page.errors, []);
  }
});

test("a room that was cut off says so, and catches up by itself", async (t) => {
  const server = await start(t);
  const goods = await server.goods();
  const proxy = await Proxy.before(t, server.url);
  const mina = await visit(t, proxy.url, { name: "mina", hash: `#/room/${goods}` });
  await raise(mina);
  await state(mina, "You lead");
  proxy.isDown = true;
  proxy.cut();
  await mina.getByText("No connection.").waitFor();
  await server.call("POST", `/goods/${goods}/bids`, { price: 3000 }, token(3));
  proxy.isDown = false;
  await mina.evaluate(() => dispatchEvent(new Event("online")));
  await state(mina, "user3 outbid you");
  await price(mina, "₩3,000");
  await unread(mina, 1);
  await mina.getByText("Connected again.").waitFor();
  assert.equal(await mina.locator(".feed .row").count(), 2);
});

test("a server that is killed and comes back costs nobody their bid", async (t) => {
  const server = await start(t);
  const goods = await server.goods();
  const mina = await visit(t, server.url, { name: "mina", hash: `#/room/${goods}` });
  await raise(mina);
  await state(mina, "You lead");
  await server.kill();
  // Bids while nobody answers: the page asks again until it knows.
  await raise(mina);
  await mina.getByRole("button", { name: "Bidding…" }).first().waitFor();
  await server.start();
  await price(mina, "₩1,100");
  await mina.getByRole("button", { name: "Raise your bid to ₩1,200" }).filter({ visible: true }).waitFor();
  const { results } = await server.call("GET", `/goods/${goods}/bids`);
  assert.deepEqual(results.map((bid) => bid.price), [1000, 1100]);
  assert.deepEqual(await mina.locator(".feed .bid b.num").allTextContents(), ["₩1,100", "₩1,000"]);
  await mina.reload();
  await state(mina, "You lead");
  await price(mina, "₩1,100");
});

test("a bid that was too slow says what is needed now", async (t) => {
  const server = await start(t);
  const goods = await server.goods();
  const mina = await visit(t, server.url, { name: "mina", hash: `#/room/${goods}` });
  await state(mina, "No bids yet");
  // The request waits until somebody else was faster.
  await mina.route("**/bids", async (route) => {
    if (route.request().method() === "POST") await server.call("POST", `/goods/${goods}/bids`, { price: 5000 }, token(3));
    await route.continue();
  });
  await raise(mina);
  await mina.getByText("Somebody was faster. The least is now ₩5,100.").waitFor();
  await price(mina, "₩5,000");
  await mina.getByRole("button", { name: "Raise to ₩5,100" }).filter({ visible: true }).waitFor();
});

test("scripts in titles, texts, names and lines stay text", async (t) => {
  const server = await start(t);
  const goods = await server.goods({ title: SCRIPT, content: SCRIPT, category: SCRIPT.slice(0, 60) });
  await server.goods({ title: "another", category: "other" });
  const mina = await visit(t, server.url, { hash: `#/room/${goods}`, name: "<b>mina</b>" });
  await raise(mina);
  await state(mina, "You lead");
  await mina.getByRole("textbox", { name: "Say something to the room" }).fill(SCRIPT);
  await mina.keyboard.press("Enter");
  await mina.locator(".feed").getByText(SCRIPT).waitFor();
  assert.equal(await mina.locator("h1").textContent(), SCRIPT);
  const joon = await visit(t, server.url, { hash: `#/room/${goods}`, name: SCRIPT.slice(0, 20) });
  await joon.locator(".feed").getByText(SCRIPT).waitFor();
  await raise(joon);
  await state(mina, `${SCRIPT.slice(0, 20).trim()} outbid you`);
  await mina.goto(`${server.url}/#/inbox`);
  await mina.getByText(`${SCRIPT} · ₩1,100`).first().waitFor();
  await mina.goto(`${server.url}/#/`);
  await mina.locator(".card", { hasText: SCRIPT }).first().waitFor();
  for (const page of [mina, joon]) {
    assert.equal(await page.locator("img[src=x], body script, main b b").count(), 0);
    assert.deepEqual(page.errors, []);
  }
});

test("on a telephone nothing is wider than the screen, and state, price and button are in sight", async (t) => {
  const server = await start(t);
  const goods = await server.goods({ start_price: 1_000_000_000_000 - 100, title: "한정판 ".repeat(12) });
  await server.call("POST", `/goods/${goods}/bids`, { price: 999_999_999_900 }, token(3));
  for (const locale of ["en-US", "ko-KR"]) {
    const page = await visit(t, server.url, { locale, viewport: PHONE, hasTouch: true, hash: `#/room/${goods}` });
    await page.locator(".state").waitFor();
    const seen = await page.evaluate(() =>
      [".state", ".now .big", ".now .ring", ".bottom .big"].map((name) => {
        const { top, bottom, left, right } = document.querySelector(name).getBoundingClientRect();
        return top >= 0 && bottom <= innerHeight && left >= 0 && right <= innerWidth;
      }),
    );
    assert.deepEqual(seen, [true, true, true, true], locale);
    for (const hash of [`#/room/${goods}`, "#/", "#/inbox"]) {
      await page.goto(`${server.url}/${hash}`);
      await page.locator(".card, .state, .empty").filter({ visible: true }).first().waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), PHONE.width, `${locale} ${hash}`);
    }
    assert.deepEqual(page.errors, []);
  }
});

test("axe finds nothing serious, light and dark, in both languages", async (t) => {
  const server = await start(t);
  const goods = await server.goods({ category: "cameras" });
  await server.goods({ title: "later", category: "others", starts_at: new Date(Date.now() + 600_000).toISOString() });
  const found = [];
  for (const [colorScheme, locale] of [["light", "en-US"], ["dark", "ko-KR"]]) {
    const page = await visit(t, server.url, { colorScheme, locale, reducedMotion: "reduce" });
    const check = async (what) => {
      found.push(...(await seriousViolations(page)).map((violation) => `${what} ${colorScheme}: ${violation}`));
    };
    await page.locator(".card[data-goods]").first().waitFor();
    await check("home");
    await page.evaluate(() => localStorage.setItem("handsup.user", JSON.stringify({ id: 2, name: "mina" })));
    await page.goto(`${server.url}/?again#/room/${goods}`);
    await page.locator(".state").waitFor();
    await raise(page);
    await page.locator(".state.lead").waitFor();
    await check("leading");
    const { minimum } = (await server.call("GET", `/goods/${goods}/bids`)).results.map((bid) => ({ minimum: bid.price + 100 })).at(-1);
    await server.call("POST", `/goods/${goods}/bids`, { price: minimum }, token(3));
    await page.locator(".state.out").waitFor();
    await check("outbid");
    await page.goto(`${server.url}/#/inbox`);
    await page.locator(".row.unread").first().waitFor();
    await check("inbox");
    assert.deepEqual(page.errors, []);
  }
  assert.deepEqual(found, []);
});
