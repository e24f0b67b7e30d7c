// The client library by itself: sockets, answers, chance and time are the test's.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { HandsUpError, ServerClock, connect } from "../client/handsup.js";
import { Recorder, memoryStorage, token } from "./support.js";

test("the library stays under 12 kB gzipped", () => {
  const size = gzipSync(readFileSync(new URL("../client/handsup.js", import.meta.url)), { level: 9 }).length;
  assert.ok(size < 12_000, `${size} bytes`);
});

const settle = async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
};

/** A world whose time only `pass` moves, and the sockets that the library opens in it. */
function world(t, { random = 1 } = {}) {
  const base = performance.now();
  const world = { time: 0, sockets: [], requests: [], answer: () => ({}) };
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  t.mock.method(performance, "now", () => base + world.time);
  t.mock.method(Math, "random", () => random);
  world.pass = async (ms) => {
    await settle();
    for (let left = ms; left > 0; ) {
      const step = Math.min(left, 250);
      world.time += step;
      left -= step;
      t.mock.timers.tick(step);
      await settle();
    }
  };
  world.WebSocket = class {
    readyState = 0;
    sent = [];

    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      world.sockets.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close() {
      this.readyState = 3;
    }

    async open() {
      this.readyState = 1;
      this.onopen({});
      await settle();
    }

    async frame(frame) {
      this.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
      await settle();
    }

    async hello(more = {}) {
      await this.open();
      await this.frame({ response_type: "hello", user_id: 2, last_id: 0, unread: 0, server_time, heartbeat_s: 20, ...more });
    }

    async end(code, reason = "") {
      this.readyState = 3;
      this.onclose?.({ code, reason });
      await settle();
    }
  };
  world.fetch = async (url, { method, headers, body, signal }) => {
    const { pathname, search } = new URL(url);
    const request = { method, path: pathname + search, headers, body: body && JSON.parse(body), signal };
    world.requests.push(request);
    const { status = 200, headers: answered = {}, body: text, stream } = await world.answer(request);
    const streamed = stream?.pipeThrough(new TransformStream(), { signal });
    return new Response(status === 204 ? null : (streamed ?? JSON.stringify(text ?? {})), { status, headers: answered });
  };
  world.connect = async (options) => {
    const { WebSocket, fetch } = world;
    const client = connect({ url: "http://service.test/", token: () => TOKEN, WebSocket, fetch, ...options });
    t.after(() => client.close());
    const recorder = Object.assign(new Recorder(client, "alarm", "unread", "status", "alert"), { client });
    await settle();
    return recorder;
  };
  Object.defineProperty(world, "socket", { get: () => world.sockets.at(-1) });
  return world;
}

/** One for all: tokens differ from second to second. */
const TOKEN = token(2);
const server_time = "2026-11-22T08:30:00.000Z";
const alarm = (id, more) => ({ response_type: "alram", id, kind: "notice", message: `alarm ${id}`, ...more });
const ids = (recorder) => recorder.of("alarm").map(({ id }) => id);

test("the token goes into a subprotocol, and never into an address", async (t) => {
  const w = world(t);
  await w.connect();
  const [protocol, bearer] = w.socket.protocols;
  assert.deepEqual([w.socket.url, protocol], ["ws://service.test/ws/alarms/", "handsup.v1"]);
  assert.equal(bearer, `bearer.${TOKEN}`);
});

test("waits double up to 30 s, with full jitter, and a stable connection begins anew", async (t) => {
  const w = world(t);
  const recorder = await w.connect();
  const waits = [];
  for (let failure = 0; failure < 7; failure++) {
    await w.socket.hello();
    await w.socket.end(1006);
    waits.push(recorder.client.status.retry_in_ms);
    await w.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  await w.socket.hello();
  await w.pass(5_000);
  await w.socket.frame({ response_type: "pong", server_time });
  await w.pass(5_000);
  await w.socket.end(1006);
  assert.equal(recorder.client.status.retry_in_ms, 1000);
  Math.random.mock.mockImplementation(() => 0.25);
  await w.pass(1000);
  await w.socket.end(1006);
  assert.equal(recorder.client.status.retry_in_ms, 500);
});

test("close codes say whether to come back", async (t) => {
  for (const code of [1001, 1002, 1003, 1006, 1007, 1009, 1011, 1012, 1013, 4408, 4413, 4429]) {
    await t.test(`${code}`, async (t) => {
      const w = world(t);
      const recorder = await w.connect();
      await w.socket.hello();
      await w.socket.end(code, "a reason");
      assert.deepEqual([recorder.client.status.state, recorder.client.status.code], ["waiting", code]);
      await w.pass(1_000);
      assert.equal(w.sockets.length, 2);
    });
  }
  for (const code of [4403, 4404, 4409]) {
    await t.test(`${code}`, async (t) => {
      const w = world(t);
      const recorder = await w.connect();
      await w.socket.hello();
      await w.socket.end(code);
      await w.pass(300_000);
      assert.deepEqual([recorder.client.status.state, recorder.client.status.code, w.sockets.length], ["stopped", code, 1]);
      recorder.client.reconnect();
      await settle();
      assert.equal(w.sockets.length, 2);
    });
  }
});

/** Gives Node what pages have: events of the network and of visibility. */
function page(t) {
  const target = new EventTarget();
  globalThis.addEventListener = target.addEventListener.bind(target);
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.document;
  });
  const see = (state) => {
    document.visibilityState = state;
    document.dispatchEvent(new Event("visibilitychange"));
    return settle();
  };
  const online = () => {
    target.dispatchEvent(new Event("online"));
    return settle();
  };
  return { see, online };
}

test("the network and the eye of the user wake a client at once", async (t) => {
  const { see, online } = page(t);
  const w = world(t);
  await w.connect({ storage: memoryStorage() });
  for (const wake of [online, () => see("visible"), online, () => see("visible")]) {
    await w.socket.hello();
    await w.socket.end(1006);
    const before = w.sockets.length;
    await see("hidden");
    await w.pass(250);
    assert.equal(w.sockets.length, before, "it waits");
    await wake();
    await w.pass(1);
    assert.equal(w.sockets.length, before + 1);
  }
});

test("a page that is seen again pings its connection, and leaves it if no answer comes", async (t) => {
  const { see } = page(t);
  const w = world(t);
  const recorder = await w.connect({ storage: memoryStorage() });
  await w.socket.hello();
  await w.socket.frame({ response_type: "pong", server_time });
  const pings = () => w.socket.sent.filter(({ type }) => type === "ping").length;
  assert.equal(pings(), 1);
  await see("visible");
  assert.equal(pings(), 2);
  await w.pass(9_000);
  await w.socket.frame(alarm(1));
  await w.pass(10_500);
  assert.equal(w.sockets.length, 1, "an alarm is an answer, too");
  await w.pass(12_000);
  assert.equal(recorder.of("status").filter(({ reason }) => reason === "no sign of life").length, 1);
  assert.equal(w.sockets.length, 2);
});

test("the service's own times are waited for, whatever wakes the client", async (t) => {
  const { online } = page(t);
  const w = world(t);
  const recorder = await w.connect({ storage: memoryStorage() });
  await w.socket.hello();
  await w.socket.end(1012, '{"retry_ms":4000}');
  assert.equal(recorder.client.status.retry_in_ms, 4000);
  await w.pass(2_000);
  await online();
  await w.pass(1_750);
  assert.equal(w.sockets.length, 1);
  await w.pass(250);
  assert.equal(w.sockets.length, 2);

  w.answer = () => ({ status: 503, headers: { "Retry-After": "7" }, body: { code: "unavailable" } });
  await w.socket.end(1006);
  const wait = recorder.client.status.retry_in_ms;
  assert.ok(wait >= 7_000 && wait <= 9_000, `${wait}`);
  await online();
  await w.pass(6_750);
  assert.equal(w.sockets.length, 2);
  await w.pass(250);
  assert.equal(w.sockets.length, 3);
});

test("a socket that sends nothing, or never opens, is given up", async (t) => {
  const w = world(t);
  await w.connect();
  w.answer = () => Promise.reject(new TypeError("no network"));
  await w.pass(9_750);
  assert.equal(w.sockets.length, 1);
  await w.pass(1_250);
  assert.equal(w.sockets.length, 2);
  await w.socket.open();
  await w.pass(12_000);
  assert.equal(w.sockets.length, 3);
});

test("alarms come once and in order over connections, from the cursor, and are acknowledged", async (t) => {
  const w = world(t);
  const storage = memoryStorage();
  const recorder = await w.connect({ storage });
  await w.socket.hello({ last_id: 7, unread: 2 });
  for (const id of [3, 7, 8]) await w.socket.frame(alarm(id));
  await w.pass(250);
  assert.deepEqual(w.socket.sent.filter(({ type }) => type === "ack"), [{ type: "ack", up_to: 8 }]);
  assert.equal(recorder.client.unread, 3, "the greeting has counted up to 7");
  await w.socket.end(1006);
  await w.pass(1_000);
  assert.equal(w.socket.url, "ws://service.test/ws/alarms/?since=8");
  await w.socket.hello({ last_id: 9, unread: 4 });
  for (const id of [7, 8, 9]) await w.socket.frame(alarm(id));
  assert.deepEqual(ids(recorder), [3, 7, 8, 9]);
  assert.equal(recorder.client.unread, 4);
  recorder.client.close();

  const again = await w.connect({ storage });
  assert.equal(w.socket.url, "ws://service.test/ws/alarms/?since=9");
  await w.socket.hello({ last_id: 9, unread: 4 });
  await w.socket.frame({ response_type: "chat_alram", id: 10, kind: "chat" });
  assert.deepEqual(ids(again), [10]);
  const other = await w.connect({ storage, token: () => token(3) });
  assert.equal(w.socket.url, "ws://service.test/ws/alarms/", "the cursor is a user's own");
  other.client.close();
});

test("a service that has begun anew is followed from its beginning", async (t) => {
  const w = world(t);
  const storage = memoryStorage();
  const recorder = await w.connect({ storage });
  await w.socket.hello();
  await w.socket.frame(alarm(50));
  await w.socket.end(1006);
  await w.pass(1_000);
  await w.socket.hello({ last_id: 0 });
  await w.socket.frame(alarm(1));
  assert.deepEqual(ids(recorder), [50, 1]);
  assert.deepEqual([...storage.kept.values()], ["1"]);
});

test("a count that an alarm has overtaken is asked for again", async (t) => {
  const w = world(t);
  const recorder = await w.connect();
  await w.socket.hello();
  const answers = [];
  w.answer = ({ path }) => (path === "/alarms/unread" ? new Promise((resolve) => answers.push(resolve)) : {});
  await w.socket.frame({ ...alarm(1), kind: "auction_won" });
  await w.pass(3_000);
  await w.socket.frame(alarm(2));
  answers[0]({ body: { unread: 1, last_id: 1 } });
  await w.pass(250);
  assert.equal(recorder.client.unread, 2);
  answers[1]({ body: { unread: 2, last_id: 2 } });
  await w.pass(250);
  assert.deepEqual([recorder.client.unread, answers.length], [2, 2]);
});

test("a listener that fails stops neither the others nor the cursor", async (t) => {
  const w = world(t);
  const storage = memoryStorage();
  const recorder = await w.connect({ storage });
  recorder.client.on("alarm", () => {
    throw new Error("of the page");
  });
  const after = new Recorder(recorder.client, "alarm");
  await w.socket.hello();
  await w.socket.frame(alarm(1));
  assert.throws(() => t.mock.timers.tick(1), /of the page/);
  await w.socket.frame("no JSON");
  await w.socket.frame("null");
  await w.socket.frame('{"response_type":"constructor"}');
  assert.deepEqual([ids(after), [...storage.kept.values()]], [[1], ["1"]]);
  const off = recorder.client.on("unread", assert.fail);
  off();
  await w.socket.frame({ response_type: "unread", unread: 5, last_id: 1 });
});

test("a full storage costs the cursor, not the alarm", async (t) => {
  const w = world(t);
  const setItem = () => {
    throw new Error("full");
  };
  const recorder = await w.connect({ storage: { getItem: () => null, setItem } });
  await w.socket.hello();
  await w.socket.frame(alarm(1));
  await w.socket.frame(alarm(2));
  assert.deepEqual(ids(recorder), [1, 2]);
});

test("a source of tokens that fails is asked again, later and later", async (t) => {
  const w = world(t);
  let asked = 0;
  const source = async () => {
    if (++asked < 4) throw new Error("the login is away");
    return token(2);
  };
  const recorder = await w.connect({ token: source });
  assert.match(recorder.client.status.reason, /login is away/);
  await w.pass(6_900);
  assert.equal(asked, 3);
  await w.pass(100);
  assert.deepEqual([asked, w.sockets.length], [4, 1]);
});

test("tokens that are refused one after another end in a stop, not in a storm", async (t) => {
  const w = world(t);
  let asked = 0;
  const recorder = await w.connect({ token: () => token(2, { ttl: 3600 + asked++ }) });
  await w.socket.hello();
  await w.socket.end(4401);
  await w.pass(1_000);
  w.answer = () => ({ status: 401, body: { code: "unauthorized" } });
  await w.socket.end(1006);
  await w.pass(60_000);
  assert.deepEqual([recorder.client.status.state, recorder.client.status.code], ["stopped", 4401]);
  assert.deepEqual([asked, w.sockets.length], [2, 2]);
});

test("who has no token is a visitor, until there is one", async (t) => {
  const w = world(t);
  let current = null;
  const recorder = await w.connect({ token: () => current });
  assert.deepEqual([recorder.client.status.state, w.sockets.length], ["stopped", 0]);
  current = token(2);
  recorder.client.reconnect();
  await settle();
  assert.equal(w.sockets.length, 1);
});

test("events of a stream come in any pieces", async (t) => {
  const w = world(t);
  let controller;
  w.answer = ({ path }) => {
    if (!path.startsWith("/alarms/stream")) return { body: { unread: 3, last_id: 0 } };
    return { stream: new ReadableStream({ start: (c) => (controller = c) }) };
  };
  const recorder = await w.connect({ WebSocket: undefined });
  await recorder.status("online", { via: "sse" });
  assert.equal(recorder.client.unread, 3);
  const text = `: \n\nid: 1\ndata: ${JSON.stringify(alarm(1, { message: "멸치" }))}\n\nid: 2\ndata: ${JSON.stringify(alarm(2))}\n\n`;
  for (const byte of new TextEncoder().encode(text)) controller.enqueue(Uint8Array.of(byte));
  await settle();
  assert.deepEqual(recorder.of("alarm").map(({ message }) => message), ["멸치", "alarm 2"]);
  controller.enqueue(new TextEncoder().encode('retry: 5000\nevent: close\ndata: {"code":1012,"reason":"{\\"retry_ms\\":5000}"}\n\n'));
  await settle();
  assert.deepEqual([recorder.client.status.state, recorder.client.status.retry_in_ms], ["waiting", 5000]);
  const { path, headers } = w.requests.findLast(({ path }) => path.startsWith("/alarms/stream"));
  assert.deepEqual([path, headers.Authorization], ["/alarms/stream", `Bearer ${TOKEN}`]);
});

test("a stream that falls silent is left", async (t) => {
  const w = world(t);
  w.answer = ({ path }) => (path.startsWith("/alarms/stream") ? { stream: new ReadableStream({}) } : { body: { unread: 0 } });
  const recorder = await w.connect({ WebSocket: undefined });
  await recorder.status("online", { via: "sse" });
  await w.pass(50_000);
  assert.equal(recorder.of("status").filter(({ reason }) => reason === "no sign of life").length, 1);
});

test("the clock keeps to what the times allow", () => {
  const clock = new ServerClock();
  const at = (ms) => new Date(ms).toISOString();
  assert.equal(clock.offset, 0);
  // The service is 5000 ms ahead. A frame that took 300 ms, then one that took 20 ms.
  clock.observe(at(15_000), undefined, 10_300);
  assert.equal(clock.offset, 4_700);
  clock.observe(at(16_000), undefined, 11_020);
  assert.equal(clock.offset, 4_980);
  clock.observe(at(17_000), undefined, 12_800);
  assert.equal(clock.offset, 4_980, "a late frame says nothing new");
  // A question of 60 ms that was answered after 30.
  clock.observe(at(18_030), 13_000, 13_060);
  assert.ok(Math.abs(clock.offset - 5_000) <= 16, `${clock.offset}`);
  // This machine slept: its clock stands an hour behind.
  clock.observe(at(3_620_000), 15_000, 15_010);
  assert.ok(Math.abs(clock.offset - 3_605_000) <= 10, `${clock.offset}`);
  clock.observe("no time");
  clock.observe(undefined);
  const [before, now, after] = [performance.now(), clock.now(), performance.now()];
  const server = (at) => performance.timeOrigin + at + clock.offset;
  assert.ok(server(before) <= now + 1 && now <= server(after) + 1, `${before} ${now} ${after}`);
});

const accepted = { status: 201, body: { bid_id: 1, seq: 1, price: 1000 } };
const problem = (status, code, more = {}, headers = {}) => ({ status, headers, body: { code, status, ...more } });
const away = () => Promise.reject(new TypeError("no network"));

/** Bids, with one answer after another; the last one stays. */
async function bid(t, ...answers) {
  const w = world(t);
  const { client } = await w.connect();
  w.answer = (request) => {
    if (!request.path.endsWith("/bids")) return {};
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    return typeof answer === "function" ? answer() : answer;
  };
  const result = client.bid(1, 1000).then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  await w.pass(40_000);
  const { value, error } = await result;
  const requests = w.requests.filter(({ path }) => path.endsWith("/bids"));
  const keys = new Set(requests.map(({ headers }) => headers["Idempotency-Key"]));
  assert.equal(keys.size, 1, "one key");
  assert.match([...keys][0], /^[0-9a-f]{32}$/);
  return { value, error, tries: requests.length, key: [...keys][0] };
}

test("a bid is tried again as long as its outcome may change, with one key", async (t) => {
  const cases = {
    "no answer": [away, accepted],
    "unknown": [problem(503, "unavailable", { outcome: "unknown" }, { "Retry-After": "1" }), accepted],
    "not stored": [problem(503, "unavailable", { outcome: "not_stored" }, { "Retry-After": "1" }), accepted],
    "in flight": [problem(409, "idempotency_in_flight"), accepted],
    "too fast": [problem(429, "too_many_requests", {}, { "Retry-After": "2" }), accepted],
    "a proxy's page": [{ status: 502 }, accepted],
  };
  for (const [name, answers] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      const { value, tries } = await bid(t, ...answers);
      assert.deepEqual([value?.seq, tries], [1, 2]);
    });
  }
});

test("a refused bid is told at once", async (t) => {
  for (const [status, code] of [[409, "bid_too_low"], [409, "auction_ended"], [403, "seller_cannot_bid"], [422, "invalid_value"]]) {
    await t.test(code, async (t) => {
      const { error, tries } = await bid(t, problem(status, code, { minimum: 1100 }));
      assert.ok(error instanceof HandsUpError);
      assert.deepEqual([error.code, error.status, error.outcome, tries], [code, status, "not_stored", 1]);
      assert.equal(error.problem.minimum, 1100);
    });
  }
});

test("a bid that can't be settled in time says what is known", async (t) => {
  await t.test("nothing", async (t) => {
    const { error, tries, key } = await bid(t, away);
    assert.deepEqual([error.code, error.outcome, error.key], ["network", "unknown", key]);
    assert.ok(tries > 5 && tries < 20, `${tries}`);
  });
  await t.test("not stored", async (t) => {
    const { error } = await bid(t, problem(503, "unavailable", { outcome: "not_stored" }));
    assert.equal(error.outcome, "not_stored");
  });
  await t.test("a refusal after an unknown outcome is the outcome", async (t) => {
    const { error } = await bid(t, away, problem(409, "bid_too_low"));
    assert.equal(error.outcome, "not_stored");
  });
  await t.test("an expired token after an unknown outcome is none", async (t) => {
    const { error } = await bid(t, away, problem(401, "unauthorized"));
    assert.equal(error.outcome, "unknown");
  });
});

test("a request that gets no answer ends after 8 s, and one that is aborted at once", async (t) => {
  const w = world(t);
  const { client } = await w.connect();
  w.answer = ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const request = assert.rejects(client.request("GET", "/goods/"), { code: "network", status: 0 });
  await w.pass(8_000);
  await request;
  const ending = new AbortController();
  const aborted = assert.rejects(client.bid(1, 1000, { signal: ending.signal }), { message: "enough" });
  await settle();
  ending.abort(new Error("enough"));
  await aborted;
});

const goods = (more = {}) => ({
  id: 1, status: true, buyer: null, high_price: 0, start_price: 1000, min_increment: 100, bid_seq: 0,
  ends_at: "2026-11-22T08:40:00.000Z", server_time, participants: [], participants_count: 0, ...more,
});
const bidFrame = (seq, more = {}) => ({
  response_type: "bid", sender: 3, sender_name: "joon", goods_id: 1, high_price: 900 + 100 * seq, seq, bid_id: seq,
  ends_at: "2026-11-22T08:40:00.000Z", server_time, ...more,
});
const entry = (seq, more = {}) => ({ seq, bid_id: seq, user_id: 3, username: "joon", price: 900 + 100 * seq, ...more });

/** A room whose goods and bids are `book`. */
async function room(t, book) {
  const w = world(t);
  w.answer = ({ path }) => {
    if (path.startsWith("/goods/1/bids")) {
      const after = Number(/after_seq=(\d+)/.exec(path)[1]);
      const left = book.entries.filter(({ seq }) => seq > after);
      const results = left.slice(0, 200);
      return { body: { results, next_after_seq: left.length > 200 ? results.at(-1).seq : null } };
    }
    return { body: path.startsWith("/goods/1") ? book.goods : {} };
  };
  const { client } = await w.connect({ token: undefined });
  const watched = new Recorder(client.room(1), "status", "change", "bid", "voided", "sync", "extended", "ended", "alert");
  await settle();
  await w.socket.open();
  return Object.assign(watched, { w, client, room: client.room(1) });
}

test("a gap in seq is read, and what comes meanwhile waits", async (t) => {
  const book = { goods: goods({ bid_seq: 1, high_price: 1000 }), entries: [] };
  const watched = await room(t, book);
  assert.deepEqual([watched.room.state.seq, watched.room.state.minimum], [1, 1100]);
  book.goods = goods({ bid_seq: 250, high_price: 900 + 25_000 });
  book.entries = Array.from({ length: 250 }, (_, index) => entry(index + 1));
  watched.w.socket.onmessage({ data: JSON.stringify(bidFrame(250)) });
  watched.w.socket.onmessage({ data: JSON.stringify(bidFrame(251)) });
  await settle();
  const seqs = watched.of("bid").map(({ seq }) => seq);
  assert.deepEqual(seqs, Array.from({ length: 250 }, (_, index) => index + 2));
  assert.deepEqual([watched.room.state.seq, watched.room.state.high_price], [251, 26_000]);
  await watched.w.socket.frame(bidFrame(251));
  assert.equal(watched.of("bid").length, 250, "a double is dropped");
});

test("a gap that can't be filled costs one question, not a storm", async (t) => {
  const watched = await room(t, { goods: goods(), entries: [] });
  const before = watched.w.requests.length;
  await watched.w.socket.frame(bidFrame(5));
  assert.equal(watched.room.state.seq, 5);
  assert.equal(watched.w.requests.length - before, 1);
});

test("voided bids, a moved end and the end are in the state", async (t) => {
  const watched = await room(t, { goods: goods(), entries: [] });
  const { socket } = watched.w;
  await socket.frame(bidFrame(1, { minimum: 1150, reserve_met: false }));
  assert.deepEqual([watched.room.state.minimum, watched.room.state.reserve_met], [1150, false]);
  await socket.frame({ response_type: "voided", seq: 2, voids: [1], reason: "a mistake", high_price: 0, buyer_id: null, server_time });
  assert.deepEqual([watched.room.state.leader, watched.room.state.high_price, watched.room.state.minimum], [null, 0, 1000]);
  await socket.frame({ response_type: "extended", ends_at: "2026-11-22T08:41:00.000Z", server_time });
  assert.equal(watched.room.state.ends_at, "2026-11-22T08:41:00.000Z");
  await socket.frame({ response_type: "alert", code: "bid_too_low", message: "too low" });
  await socket.frame({ response_type: "something new", seq: 3 });
  await socket.frame({ response_type: "ended", buyer_id: 3, buyer_name: "joon", high_price: 1000, reason: "sold", server_time });
  assert.deepEqual([watched.room.state.phase, watched.room.state.leader.id, watched.room.state.minimum], ["ended", 3, null]);
  assert.equal(watched.of("alert").length, 1);
});

test("a missed void is read like a missed bid", async (t) => {
  const book = { goods: goods({ bid_seq: 1, high_price: 1000 }), entries: [] };
  const watched = await room(t, book);
  await watched.w.socket.end(1013);
  book.goods = goods({ bid_seq: 2 });
  book.entries = [entry(1, { voided: true }), { seq: 2, kind: "void", voids: [1], reason: "a mistake", high_price: 0, user_id: null }];
  await watched.w.pass(1_000);
  await watched.w.socket.open();
  const [voided] = watched.of("voided");
  assert.deepEqual([voided.seq, voided.voids, voided.buyer_id, voided.missed], [2, [1], null, true]);
  assert.deepEqual([watched.room.state.seq, watched.room.state.high_price, watched.room.state.leader], [2, 0, null]);
});

test("a room whose end does not come is read, and its dead socket replaced", async (t) => {
  const book = { goods: goods({ ends_at: "2026-11-22T08:30:10.000Z" }), entries: [] };
  const watched = await room(t, book);
  // The state was read without delay, so its time is true to half a millisecond.
  assert.equal(Math.ceil(watched.room.remaining()), 10_000);
  book.goods = goods({ ends_at: "2026-11-22T08:30:10.000Z", status: false });
  await watched.w.pass(12_750);
  assert.deepEqual([watched.room.remaining(), watched.room.state.phase], [0, "live"]);
  await watched.w.pass(500);
  assert.deepEqual([watched.room.state.phase, watched.w.sockets.length], ["ended", 2]);
});

test("a room that is only silent keeps its socket", async (t) => {
  const watched = await room(t, { goods: goods({ ends_at: "2026-11-22T09:30:00.000Z" }), entries: [] });
  await watched.w.pass(200_000);
  assert.equal(watched.w.sockets.length, 1);
  assert.equal(watched.w.requests.length, 4, "read at the start, then once a minute");
});

test("a room is read again and again while the service is away", async (t) => {
  const book = { goods: goods(), entries: [] };
  const watched = await room(t, book);
  await watched.w.socket.end(1006);
  await watched.w.pass(1_000);
  const { answer } = watched.w;
  watched.w.answer = () => problem(503, "unavailable", {}, { "Retry-After": "1" });
  await watched.w.socket.open();
  await watched.w.socket.frame(bidFrame(1));
  await watched.w.pass(5_000);
  assert.equal(watched.of("bid").length, 0);
  watched.w.answer = answer;
  await watched.w.pass(10_000);
  assert.deepEqual([watched.of("bid").length, watched.room.state.high_price], [1, 1000]);
});

test("what waits for a room's state is bounded", async (t) => {
  const watched = await room(t, { goods: goods(), entries: [] });
  await watched.w.socket.end(1006);
  await watched.w.pass(1_000);
  watched.w.answer = () => new Promise(() => {});
  await watched.w.socket.open();
  const sockets = watched.w.sockets.length;
  const { onmessage } = watched.w.socket;
  for (let seq = 1; seq <= 1_001; seq++) onmessage({ data: JSON.stringify(bidFrame(seq)) });
  await watched.w.pass(1);
  assert.equal(watched.w.sockets.length, sockets + 1);
});

test("a closed client does nothing more", async (t) => {
  const w = world(t);
  const recorder = await w.connect();
  const socket = w.socket;
  await socket.hello();
  const opened = recorder.client.room(1);
  await settle();
  recorder.client.close();
  await w.pass(120_000);
  assert.deepEqual([recorder.client.status.state, opened.status.state, socket.readyState], ["closed", "closed", 3]);
  assert.equal(w.sockets.length, 2);
  assert.throws(() => opened.say("hello"), { code: "network" });
});
