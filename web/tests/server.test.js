// The client library against a real server, in Node.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../client/handsup.js";
import { Proxy, Recorder, Server, eventually, memoryStorage, randomNumbers, token } from "./support.js";

/** A client of a user, whose events are recorded. */
function open(t, options) {
  const client = connect({ token: () => token(2), ...options });
  t.after(() => client.close());
  return Object.assign(new Recorder(client, "alarm", "unread", "status", "alert"), { client });
}

const texts = (recorder) => recorder.of("alarm").map(({ message }) => message);
const received = (recorder, count) => recorder.until(() => texts(recorder).length >= count);

async function isReceived(server, event) {
  const { results } = await server.call("GET", `/admin/alarms/${event}/deliveries`);
  return results.every(({ received }) => received) && results.length > 0;
}

test("alarms survive a cut connection, once each and in order, and a reload goes on after the last one", async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  const storage = memoryStorage();
  const first = open(t, { url: proxy.url, storage });
  await first.status("online", { via: "websocket", user_id: 2 });
  await server.notify(2, "a", "b");
  await received(first, 2);
  proxy.isDown = true;
  proxy.cut();
  await first.status("waiting");
  await server.notify(2, "c", "d");
  proxy.isDown = false;
  await received(first, 4);
  assert.deepEqual(texts(first), ["a", "b", "c", "d"]);
  assert.equal(first.client.unread, 4);
  first.client.close();

  await server.notify(2, "e");
  const reloaded = open(t, { url: proxy.url, storage });
  await received(reloaded, 1);
  const [event] = await server.notify(2, "f");
  await received(reloaded, 2);
  assert.deepEqual(texts(reloaded), ["e", "f"]);
  assert.equal(reloaded.client.unread, 6);
  // The library acknowledges what it has delivered.
  await eventually(() => isReceived(server, event));
});

/** How often the connection is cut at a random byte. */
const CUTS = Number(process.env.HANDSUP_TEST_CUTS ?? 10);

test(`nothing is lost or doubled over ${CUTS} cuts within frames, and reloads`, async (t) => {
  const random = randomNumbers(t);
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  const storage = memoryStorage();
  const sent = [];
  const delivered = [];
  let recorder;
  for (let cut = 0; cut < CUTS; cut++) {
    const isReload = recorder && random() < 0.3;
    if (isReload) {
      recorder.client.close();
      delivered.push(...texts(recorder));
    }
    if (!recorder || isReload) recorder = open(t, { url: proxy.url, storage });
    // A frame of an alarm has some 200 bytes, the answer to a handshake as many.
    proxy.cutsAfter = Math.floor(random() * 1_200);
    const alarms = Array.from({ length: 1 + Math.floor(random() * 5) }, (_, index) => `${cut} ${index}`);
    sent.push(...alarms);
    await server.notify(2, ...alarms);
    // Otherwise it comes back by itself, as a connection that has failed once does.
    recorder.client.reconnect();
  }
  proxy.cutsAfter = undefined;
  await received(recorder, sent.length - delivered.length);
  assert.deepEqual([...delivered, ...texts(recorder)], sent);
});

test("nothing is lost or doubled when the server is killed", async (t) => {
  const server = await Server.start(t);
  const recorder = open(t, { url: server.url, storage: memoryStorage() });
  await recorder.status("online");
  const expected = [];
  for (let round = 0; round < 5; round++) {
    const live = [`live ${round} a`, `live ${round} b`];
    const away = `away ${round}`;
    await server.notify(2, ...live);
    // Not awaited: the kill comes at any moment of their delivery.
    await server.kill();
    await server.start();
    await server.notify(2, away);
    expected.push(...live, away);
    recorder.client.reconnect();
  }
  await received(recorder, expected.length);
  assert.deepEqual(texts(recorder), expected);
});

test("the times of a restart are kept", async (t) => {
  const server = await Server.start(t);
  const recorder = open(t, { url: server.url });
  await recorder.status("online");
  await server.kill("SIGTERM");
  const { retry_in_ms } = await recorder.status("waiting", { code: 1012 });
  assert.ok(retry_in_ms >= 1000, `${retry_in_ms}`);
  await server.start();
  await server.notify(2, "after the restart");
  await received(recorder, 1);
});

/** A WebSocket that shows the frames that come, and the addresses that are asked for. */
function spy() {
  const seen = { frames: [], opened: 0 };
  let changed = () => {};
  seen.until = async (isTrue) => {
    while (!isTrue(seen)) await new Promise((resolve) => (changed = resolve));
  };
  seen.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      seen.opened++;
      this.addEventListener("message", ({ data }) => {
        seen.frames.push(JSON.parse(data));
        changed();
      });
    }
  };
  return seen;
}

test("a token is renewed in band before it expires", async (t) => {
  const server = await Server.start(t);
  const sockets = spy();
  const asked = [];
  const issue = (old) => {
    asked.push(old);
    return token(2, { ttl: asked.length === 1 ? 12 : 3600 });
  };
  const recorder = open(t, { url: server.url, token: issue, WebSocket: sockets.WebSocket });
  await sockets.until(({ frames }) => frames.some(({ response_type }) => response_type === "auth"));
  const { exp } = sockets.frames.find(({ response_type }) => response_type === "auth");
  assert.ok(exp * 1000 > Date.now() + 3_000_000, "the connection has the fresh token");
  assert.equal(asked.length, 2);
  assert.ok(asked[1].split(".").length === 3, "the callback hears which token is used up");
  await server.notify(2, "still here");
  await received(recorder, 1);
  assert.equal(sockets.opened, 1);
});

test("a refused token is asked for once more, then the client stops until it is told to go on", async (t) => {
  const server = await Server.start(t);
  let isSignedIn = false;
  let asked = 0;
  const issue = () => {
    asked++;
    return isSignedIn ? token(2) : token(2, { ttl: -10 });
  };
  const recorder = open(t, { url: server.url, token: issue });
  await recorder.status("stopped", { code: 4401 });
  assert.ok(asked <= 3, `${asked}`);
  isSignedIn = true;
  recorder.client.reconnect();
  await recorder.status("online");
});

test("a deactivated user's client stops", async (t) => {
  const server = await Server.start(t);
  const recorder = open(t, { url: server.url });
  await recorder.status("online");
  await server.call("PUT", "/admin/users/2", { is_active: false });
  await recorder.status("stopped", { code: 4401 });
});

test("a client that a newer one has evicted stays away", async (t) => {
  const server = await Server.start(t, { HANDSUP__SESSION__MAX_PER_USER: "1" });
  const sockets = spy();
  const first = open(t, { url: server.url, WebSocket: sockets.WebSocket });
  await first.status("online");
  const second = open(t, { url: server.url });
  await second.status("online");
  await first.status("stopped", { code: 4409 });
  await server.notify(2, "for the newer one");
  await received(second, 1);
  assert.equal(sockets.opened, 1);
  assert.deepEqual(texts(first), []);
  first.client.reconnect();
  await second.status("stopped", { code: 4409 });
});

test("where WebSockets are blocked, alarms come as server-sent events, with proof of receipt", async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  proxy.blocksWebSockets = true;
  const storage = memoryStorage();
  await server.notify(2, "before");
  const recorder = open(t, { url: proxy.url, storage });
  await recorder.status("online", { via: "sse" });
  const [event] = await server.notify(2, "live");
  await received(recorder, 2);
  assert.equal(recorder.client.unread, 2);
  await eventually(() => isReceived(server, event));
  proxy.isDown = true;
  proxy.cut();
  await recorder.status("waiting");
  await server.notify(2, "meanwhile");
  proxy.isDown = false;
  await received(recorder, 3);
  assert.deepEqual(texts(recorder), ["before", "live", "meanwhile"]);
  proxy.blocksWebSockets = false;
  proxy.cut();
  await recorder.status("online", { via: "websocket" });
  await server.notify(2, "by WebSocket again");
  await received(recorder, 4);
  assert.deepEqual(texts(recorder).slice(3), ["by WebSocket again"]);
});

test("a stream over the user's number of sockets stays away", async (t) => {
  const server = await Server.start(t, { HANDSUP__SESSION__MAX_PER_USER: "1" });
  const first = open(t, { url: server.url });
  await first.status("online");
  const stream = open(t, { url: server.url, WebSocket: undefined });
  await stream.status("stopped", { code: 4409 });
});

test("a stream ends with its token, and the next one has a fresh one", async (t) => {
  const server = await Server.start(t);
  let asked = 0;
  const issue = () => token(2, { ttl: asked++ === 0 ? 5 : 3600 });
  const recorder = open(t, { url: server.url, token: issue, WebSocket: undefined });
  await recorder.until((recorder) => recorder.of("status").filter(({ state }) => state === "online").length === 2);
  await server.notify(2, "over the second stream");
  await received(recorder, 1);
  assert.equal(asked, 2);
});

test("what one client reads is read for all", async (t) => {
  const server = await Server.start(t);
  const [one, other] = [open(t, { url: server.url }), open(t, { url: server.url })];
  await Promise.all([one.status("online"), other.status("online")]);
  await server.notify(2, "a", "b", "c");
  await Promise.all([received(one, 3), received(other, 3)]);
  const { results, unread, last_id } = await one.client.inbox({ limit: 2 });
  assert.deepEqual([results.map(({ message }) => message), unread], [["c", "b"], 3]);
  assert.equal(await one.client.read([last_id]), 2);
  await other.until(() => other.client.unread === 2);
  assert.equal(await one.client.read(last_id), 0);
  await other.until(() => other.client.unread === 0);
  assert.equal(one.client.unread, 0);
});

test("an alarm that no longer holds leaves the unread count", async (t) => {
  const server = await Server.start(t);
  const goods = await server.goods();
  const recorder = open(t, { url: server.url });
  await recorder.status("online");
  await recorder.client.bid(goods, 1000);
  await server.call("POST", `/goods/${goods}/bids`, { price: 2000 }, token(3));
  await recorder.until(() => recorder.client.unread === 1);
  await recorder.client.bid(goods, 3000);
  await recorder.until(() => recorder.client.unread === 0);
});

test("a bid whose answer is lost is made once", async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  const goods = await server.goods();
  const { client } = open(t, { url: proxy.url });
  proxy.swallowsAnswerTo = '{"price":1500}';
  const bid = await client.bid(goods, 1500);
  assert.deepEqual([bid.price, bid.seq, bid.user_id], [1500, 1, 2]);
  const { results } = await server.call("GET", `/goods/${goods}/bids`);
  assert.equal(results.length, 1);
  await assert.rejects(client.bid(goods, 1500), { code: "bid_too_low", status: 409, outcome: "not_stored" });
  await assert.rejects(client.bid(goods + 1, 1500), { code: "not_found", status: 404 });
});

test("a bid waits for a server that is being started", async (t) => {
  const server = await Server.start(t);
  const goods = await server.goods();
  const { client } = open(t, { url: server.url });
  await server.kill();
  const bid = client.bid(goods, 1500);
  await server.start();
  assert.equal((await bid).seq, 1);
});

function watch(t, client, goods) {
  const room = client.room(goods);
  return Object.assign(new Recorder(room, "status", "sync", "change", "bid", "alert", "message", "ended", "enter", "out"), { room });
}

test("a room has the state of the auction, and delivers the bids that its socket has missed", async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  const goods = await server.goods();
  const bid = (price, user = 3) => server.call("POST", `/goods/${goods}/bids`, { price }, token(user));
  await bid(1000);
  const { client } = open(t, { url: proxy.url });
  const watched = watch(t, client, goods);
  await watched.until(() => watched.of("sync").length);
  const { room } = watched;
  assert.deepEqual(
    [room.state.phase, room.state.high_price, room.state.minimum, room.state.leader, room.state.seq],
    ["live", 1000, 1100, { id: 3, name: "user3" }, 1],
  );
  assert.ok(room.remaining() > 3_000_000 && room.remaining() <= 3_600_000);
  await room.bid(1100);
  await watched.until(() => room.state.seq === 2);
  proxy.isDown = true;
  proxy.cut();
  await watched.status("waiting");
  for (let price = 1200; price <= 2000; price += 100) await bid(price);
  proxy.isDown = false;
  await watched.until(() => room.state.seq === 11);
  await bid(2100);
  await watched.until(() => room.state.seq === 12);
  const bids = watched.of("bid").map(({ seq, high_price }) => [seq, high_price]);
  assert.deepEqual(bids, Array.from({ length: 11 }, (_, index) => [index + 2, 1100 + 100 * index]));
  assert.equal(watched.of("bid").filter(({ missed }) => missed).length, 9);
  assert.deepEqual([room.state.high_price, room.state.minimum], [2100, 2200]);
  assert.equal(client.room(goods), room, "one room for all who ask");
});

test("a visitor watches, a user speaks and hears refusals alone", async (t) => {
  const server = await Server.start(t);
  const goods = await server.goods();
  const visitor = watch(t, open(t, { url: server.url, token: undefined }).client, goods);
  await visitor.until(() => visitor.of("sync").length);
  const user = open(t, { url: server.url });
  await user.status("online");
  const watched = watch(t, user.client, goods);
  await watched.until(() => watched.of("sync").length);
  await visitor.until(() => visitor.room.state.participants.some(({ id }) => id === 2));
  watched.room.say("hello");
  await visitor.until(() => visitor.of("message").some(({ message }) => message === "hello"));
  watched.room.say("x".repeat(101));
  const alert = await watched.until(() => watched.of("alert")[0]);
  assert.equal(typeof alert.code, "string");
  await user.until(() => user.of("alert").length);
  visitor.room.say("I am nobody");
  await visitor.until(() => visitor.of("alert")[0]?.code === "unauthorized");
  assert.equal(watched.of("alert").length, 1);
  user.client.close();
  await visitor.until(() => visitor.room.state.participants_count === 0);
});

test("the end of an auction is in the state, also when its frame was missed", async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  const goods = await server.goods();
  const { client } = open(t, { url: proxy.url });
  const watched = watch(t, client, goods);
  await watched.until(() => watched.of("sync").length);
  proxy.isDown = true;
  proxy.cut();
  await watched.status("waiting");
  await server.call("POST", `/admin/goods/${goods}/cancel`, {});
  proxy.isDown = false;
  await watched.until(() => watched.room.state.phase === "ended");
  assert.deepEqual([watched.room.state.leader, watched.room.state.minimum, watched.room.remaining()], [null, null, 0]);
});

test("a room that does not exist is not asked for again", async (t) => {
  const server = await Server.start(t);
  const watched = watch(t, open(t, { url: server.url }).client, 4711);
  await watched.status("stopped", { code: 4404 });
});

test("a room is read over HTTP where WebSockets are blocked", async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.before(t, server.url);
  proxy.blocksWebSockets = true;
  const goods = await server.goods();
  const watched = watch(t, open(t, { url: proxy.url }).client, goods);
  await watched.until(() => watched.of("sync").length);
  await server.call("POST", `/goods/${goods}/bids`, { price: 1500 }, token(3));
  await watched.until(() => watched.of("bid").length);
  assert.deepEqual([watched.room.state.high_price, watched.of("bid")[0].missed], [1500, true]);
});

test("a room goes on with a fresh token when its own expires", async (t) => {
  const server = await Server.start(t);
  const goods = await server.goods();
  let asked = 0;
  const issue = () => token(2, { ttl: asked++ === 0 ? 5 : 3600 });
  const watched = watch(t, open(t, { url: server.url, token: issue }).client, goods);
  await watched.status("waiting", { code: 4401 });
  await watched.until(() => watched.of("sync").length === 2);
});
