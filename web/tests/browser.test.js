// The client library in Chromium: tabs that share a connection, reloads, other origins.

import assert from "node:assert/strict";
import http from "node:http";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { browser } from "./chromium.js";
import { Proxy, Server, eventually, token } from "./support.js";

/** Runs in every page: a client that keeps what it delivers. */
async function start(service) {
  if (location.protocol === "about:") return;
  const { connect } = await import(`${service}/client/handsup.js`);
  window.alarms = [];
  window.client = connect({ url: service, token: () => window.issue() });
  window.statuses = [];
  client.on("alarm", ({ message }) => alarms.push(message));
  client.on("status", (status) => statuses.push(status));
}

/** Tabs of one browser profile. */
class Profile {
  tabs = [];
  errors = [];

  /** Pages of the service's own origin, under its policy, or of `origin`. */
  static async open(t, service, { origin, init, issue = () => token(2) } = {}) {
    const profile = new Profile();
    profile.context = await browser.newContext();
    t.after(() => profile.context.close());
    profile.address = origin ?? `${service}/docs`;
    await profile.context.exposeFunction("issue", issue);
    if (init) await profile.context.addInitScript(init);
    await profile.context.addInitScript(start, service);
    return profile;
  }

  async tab() {
    const page = await this.context.newPage();
    page.on("pageerror", ({ message }) => this.errors.push(message));
    // What the policy forbids is logged. That a server is away is, too, and is no error here.
    page.on("console", (message) => /policy/i.test(message.text()) && this.errors.push(message.text()));
    await page.goto(this.address);
    await page.waitForFunction(() => window.client?.status.state === "online");
    this.tabs.push(page);
    return page;
  }

  async open(count) {
    const tabs = [];
    for (let tab = 0; tab < count; tab++) tabs.push(await this.tab());
    return tabs;
  }
}

const alarms = (page) => page.evaluate(() => window.alarms);
const has = (page, count) => page.waitForFunction((count) => window.alarms.length >= count, count);
const unread = (page, count) => page.waitForFunction((count) => window.client.unread === count, count);

/** Calls `use(session, ids)` with the SharedWorkers that run. */
async function withWorkers(use) {
  const session = await browser.newBrowserCDPSession();
  const { targetInfos } = await session.send("Target.getTargets");
  const ids = targetInfos.filter(({ type }) => type === "shared_worker").map(({ targetId }) => targetId);
  const result = await use(session, ids);
  await session.detach();
  return result;
}

const sockets = async (server, user = 2) => (await server.call("GET", `/admin/users/${user}`)).sockets;

const noWorker = () => delete window.SharedWorker;

for (const [name, init] of [["a worker", undefined], ["a tab, without SharedWorker,", noWorker]]) {
  test(`${name} keeps one connection for five tabs`, async (t) => {
    const server = await Server.start(t);
    const profile = await Profile.open(t, server.url, { init });
    const tabs = await profile.open(5);
    assert.equal(await sockets(server), 1);
    for (const tab of tabs) assert.equal(await tab.evaluate(() => client.status.via), "websocket");
    await server.notify(2, "a", "b", "c");
    for (const tab of tabs) {
      await has(tab, 3);
      await unread(tab, 3);
    }
    await tabs[3].evaluate(() => client.read([1]));
    for (const tab of tabs) await unread(tab, 2);
    await tabs[1].evaluate(() => client.read(3));
    for (const tab of tabs) await unread(tab, 0);
    const [event] = await server.notify(2, "d");
    await eventually(async () => (await server.call("GET", `/admin/alarms/${event}/deliveries`)).results[0].received);
    for (const tab of tabs) {
      await has(tab, 4);
      assert.deepEqual(await alarms(tab), ["a", "b", "c", "d"]);
    }
    assert.equal(await withWorkers((_, ids) => ids.length), init ? 0 : 1);
    assert.deepEqual(profile.errors, []);
  });

  test(`${name} loses and doubles nothing while tabs come and go`, async (t) => {
    const server = await Server.start(t);
    const profile = await Profile.open(t, server.url, { init });
    const [oldest, ...others] = await profile.open(3);
    await server.notify(2, "a");
    for (const tab of [oldest, ...others]) await has(tab, 1);
    // Without a worker the oldest tab has the connection.
    const closing = oldest.close();
    await server.notify(2, "b", "c");
    await closing;
    await server.notify(2, "d");
    for (const tab of others) {
      await has(tab, 4);
      assert.deepEqual(await alarms(tab), ["a", "b", "c", "d"]);
    }
    await eventually(async () => (await sockets(server)) === 1);
    await Promise.all(others.map((tab) => tab.close()));
    await eventually(async () => (await sockets(server)) === 0);
    await server.notify(2, "e");
    const reopened = await profile.tab();
    await has(reopened, 1);
    assert.deepEqual(await alarms(reopened), ["e"], "what came meanwhile, and nothing from before");
    await reopened.reload();
    await reopened.waitForFunction(() => window.client?.status.state === "online");
    await server.notify(2, "f");
    await has(reopened, 1);
    assert.deepEqual(await alarms(reopened), ["f"]);
    await eventually(async () => (await sockets(server)) === 1);
    assert.deepEqual(profile.errors, []);
  });

  test(`${name} loses and doubles nothing when the server is killed`, async (t) => {
    const server = await Server.start(t);
    const profile = await Profile.open(t, server.url, { init });
    const tabs = await profile.open(5);
    const expected = [];
    for (const round of [1, 2]) {
      await server.notify(2, `live ${round}`);
      await server.kill();
      await server.start();
      await server.notify(2, `away ${round}`);
      expected.push(`live ${round}`, `away ${round}`);
    }
    for (const tab of tabs) {
      await has(tab, expected.length);
      assert.deepEqual(await alarms(tab), expected);
    }
    await eventually(async () => (await sockets(server)) === 1);
    assert.deepEqual(profile.errors, []);
  });

  test(`${name} ends its connection when the last client is closed`, async (t) => {
    const server = await Server.start(t);
    const profile = await Profile.open(t, server.url, { init });
    const tabs = await profile.open(2);
    await tabs[0].evaluate(() => client.close());
    await server.notify(2, "for the other");
    await has(tabs[1], 1);
    await eventually(async () => (await sockets(server)) === 1);
    await tabs[1].evaluate(() => client.close());
    await eventually(async () => (await sockets(server)) === 0);
    assert.deepEqual(await alarms(tabs[0]), []);
  });
}

test("five tabs are back at once when the network is", async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  const profile = await Profile.open(t, proxy.url);
  const tabs = await profile.open(5);
  const wait = (state) => Promise.all(tabs.map((tab) => tab.waitForFunction((state) => client.status.state === state, state)));
  await server.notify(2, "a");
  proxy.isDown = true;
  proxy.cut();
  await wait("waiting");
  await server.notify(2, "b");
  proxy.isDown = false;
  await tabs[2].evaluate(() => dispatchEvent(new Event("online")));
  await wait("online");
  for (const tab of tabs) {
    await has(tab, 2);
    assert.deepEqual(await alarms(tab), ["a", "b"]);
  }
  await eventually(async () => (await sockets(server)) === 1);
});

test("a tab goes on when the browser ends the worker", async (t) => {
  const server = await Server.start(t);
  const profile = await Profile.open(t, server.url);
  const tabs = await profile.open(3);
  await server.notify(2, "a");
  for (const tab of tabs) await has(tab, 1);
  await withWorkers((session, ids) => Promise.all(ids.map((targetId) => session.send("Target.closeTarget", { targetId }))));
  await server.notify(2, "b");
  for (const tab of tabs) {
    await has(tab, 2);
    assert.deepEqual(await alarms(tab), ["a", "b"]);
  }
  await eventually(async () => (await sockets(server)) === 1);
});

test("the worker renews its token with those of the tabs", async (t) => {
  const server = await Server.start(t);
  // Short ones until a tab is closed.
  let isShort = true;
  let ends = 0;
  let isRenewed = false;
  const issue = () => {
    const ttl = isShort ? 15 : 3600;
    if (isShort) ends = Date.now() + ttl * 1000;
    else isRenewed = true;
    return token(2, { ttl });
  };
  const profile = await Profile.open(t, server.url, { issue });
  const [first, second] = await profile.open(2);
  isShort = false;
  await first.close();
  await eventually(() => isRenewed && Date.now() > ends);
  await server.notify(2, "a");
  await has(second, 1);
  const states = await second.evaluate(() => statuses.map(({ state }) => state));
  assert.ok(!states.includes("waiting"), `${states}`);
  await eventually(async () => (await sockets(server)) === 1);
});

test("users in one browser have a connection each", async (t) => {
  const server = await Server.start(t);
  const profile = await Profile.open(t, server.url);
  const mina = await profile.tab();
  const joon = await profile.context.newPage();
  await joon.exposeFunction("issueOther", () => token(3));
  await joon.addInitScript(() => (window.issue = () => window.issueOther()));
  await joon.goto(profile.address);
  await joon.waitForFunction(() => window.client?.status.state === "online");
  await server.notify(2, "for mina");
  await server.notify(3, "for joon");
  await has(mina, 1);
  await has(joon, 1);
  assert.deepEqual([await alarms(mina), await alarms(joon)], [["for mina"], ["for joon"]]);
  assert.deepEqual([await sockets(server, 2), await sockets(server, 3)], [1, 1]);
});

test("a page of another origin shares its connection, too", async (t) => {
  const pages = http.createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html>"));
  pages.listen(0, "127.0.0.1");
  await once(pages, "listening");
  t.after(() => pages.close());
  const origin = `http://127.0.0.1:${pages.address().port}`;
  const server = await Server.start(t, { HANDSUP__SERVER__ALLOWED_ORIGINS: origin });
  const profile = await Profile.open(t, server.url, { origin });
  const tabs = await profile.open(3);
  assert.equal(await sockets(server), 1);
  await server.notify(2, "a");
  for (const tab of tabs) await has(tab, 1);
  const goods = await server.goods();
  assert.equal(await tabs[1].evaluate(async (goods) => (await client.bid(goods, 1500)).seq, goods), 1);
  const error = await tabs[2].evaluate((goods) => client.bid(goods, 1500).catch(({ code, problem }) => [code, problem.minimum]), goods);
  assert.deepEqual(error, ["bid_too_low", 1600]);
});

test("five tabs share one event stream where WebSockets are blocked", async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  proxy.blocksWebSockets = true;
  const profile = await Profile.open(t, proxy.url);
  const tabs = await profile.open(5);
  for (const tab of tabs) assert.equal(await tab.evaluate(() => client.status.via), "sse");
  await server.notify(2, "a");
  for (const tab of tabs) await has(tab, 1);
  assert.equal(await sockets(server), 1);
});

test("a room follows an auction", async (t) => {
  const server = await Server.start(t);
  const goods = await server.goods();
  const profile = await Profile.open(t, server.url);
  const tab = await profile.tab();
  await tab.evaluate((goods) => {
    window.room = client.room(goods);
    window.bids = [];
    room.on("bid", ({ seq }) => bids.push(seq));
  }, goods);
  await tab.waitForFunction(() => room.state && room.status.state === "online");
  await server.call("POST", `/goods/${goods}/bids`, { price: 1500 }, token(3));
  await tab.waitForFunction(() => room.state.high_price === 1500);
  await tab.evaluate(() => room.bid(room.state.minimum));
  await tab.waitForFunction(() => bids.length === 2);
  const leads = await tab.evaluate(() => [room.state.leader.id === client.user_id, room.state.high_price, room.remaining() > 3_500_000]);
  assert.deepEqual(leads, [true, 1600, true]);
});

test("examples/page shows an auction, and bids", async (t) => {
  const folder = new URL("../../examples/page/", import.meta.url);
  const pages = http.createServer(({ url }, response) => {
    const name = url.startsWith("/main.js") ? "main.js" : "index.html";
    response.setHeader("Content-Type", name === "main.js" ? "text/javascript" : "text/html");
    response.end(readFileSync(new URL(name, folder)));
  });
  pages.listen(0, "127.0.0.1");
  await once(pages, "listening");
  t.after(() => pages.close());
  const origin = `http://127.0.0.1:${pages.address().port}`;
  const server = await Server.start(t, { HANDSUP__SERVER__ALLOWED_ORIGINS: origin });
  const goods = await server.goods({ title: "<b>camera</b>" });
  const context = await browser.newContext();
  t.after(() => context.close());
  const tab = await context.newPage();
  const errors = [];
  tab.on("pageerror", ({ message }) => errors.push(message));
  await tab.goto(`${origin}/?${new URLSearchParams({ service: server.url, goods, token: token(2) })}`);
  const shows = (id, text) => tab.waitForFunction(([id, text]) => document.getElementById(id).textContent === text, [id, text]);
  await shows("title", "<b>camera</b>");
  await shows("raise", "Bid 1,000");
  await tab.click("#raise");
  await shows("leads", "You lead.");
  await server.call("POST", `/goods/${goods}/bids`, { price: 1500 }, token(3));
  await shows("leads", "user3 leads.");
  await shows("unread", "1");
  await shows("alarm", "<b>camera</b> 다른 핸더가 입찰했어요!");
  await tab.click("#raise");
  await shows("price", "1,600");
  await shows("leads", "You lead.");
  await shows("unread", "0");
  assert.deepEqual(errors, []);
});
