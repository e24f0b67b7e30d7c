// A real server for the tests, tokens for it, and a proxy that breaks connections on purpose.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const SECRET = "a-key-for-the-tests-of-the-client-library";
const PROGRAM = process.env.HANDSUP_PROGRAM ?? new URL("../../target/debug/handsup", import.meta.url).pathname;

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

export function token(user, { ttl = 3600, admin = false } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { user_id: user, username: `user${user}`, iat: now, exp: now + ttl, ...(admin && { admin }) };
  const signed = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url(claims)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** Waits until it is so. It pauses, so that whatever it waits for can happen. */
export async function eventually(isTrue) {
  while (!(await isTrue())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** A server with a fresh database. It can be killed and started again at the same address. */
export class Server {
  #folder = mkdtempSync(join(tmpdir(), "handsup-web-"));
  #settings;
  #child;
  #bind = "127.0.0.1:0";
  url;

  constructor(settings = {}) {
    this.#settings = settings;
  }

  static async start(test, settings) {
    const server = new Server(settings);
    test.after(() => server.remove());
    await server.start();
    return server;
  }

  async start() {
    const env = {
      ...process.env,
      HANDSUP__AUTH__JWT_SECRET: SECRET,
      HANDSUP__DATABASE__URL: `sqlite://${this.#folder}/test.db`,
      HANDSUP__SERVER__BIND: this.#bind,
      HANDSUP__LOG__LEVEL: "warn",
      HANDSUP__LIMITS__REQUESTS_PER_SECOND: "10000",
      HANDSUP__LIMITS__BIDS_PER_SECOND: "10000",
      ...this.#settings,
    };
    this.#child = spawn(PROGRAM, ["serve"], { env, cwd: this.#folder, stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: this.#child.stdout })) {
      const address = /^listening on (http:\/\/(\S+))/.exec(line);
      if (!address) continue;
      [, this.url, this.#bind] = address;
      return;
    }
    throw new Error("the server does not start");
  }

  /** Ends the process: at once with SIGKILL, in order with SIGTERM. */
  async kill(signal = "SIGKILL") {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, "exit");
    this.#child.kill(signal);
    await exit;
  }

  async remove() {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async call(method, path, body, bearer = token(99, { admin: true })) {
    const headers = { Authorization: `Bearer ${bearer}` };
    const response = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    // The disk under the tests may stall for seconds.
    if (response.status === 503 && (method !== "POST" || JSON.parse(text).outcome === "not_stored")) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return this.call(method, path, body, bearer);
    }
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  /** Raises an alarm for each text. */
  async notify(user, ...texts) {
    const events = [];
    for (const message of texts) {
      events.push((await this.call("POST", "/admin/alarms", { to: { user_ids: [user] }, message })).event_id);
    }
    return events;
  }

  /** Live goods of user 1. */
  async goods(more = {}) {
    const starts_at = new Date(Date.now() - 1_000).toISOString();
    const body = { title: "camera", start_price: 1000, min_increment: 100, starts_at, duration_s: 3600, ...more };
    const { id } = await this.call("POST", "/goods/", body, token(1));
    return id;
  }
}

/** Stands between client and server. */
export class Proxy {
  #server;
  #pairs = new Set();
  /** Refuses WebSocket handshakes, as some firewalls do. */
  blocksWebSockets = false;
  /** Ends every new connection. */
  isDown = false;
  /** Ends all connections when so many more bytes have come from the server. */
  cutsAfter = undefined;
  /** Ends a connection whose request has this text, when the server has answered it, without passing on the answer. */
  swallowsAnswerTo = undefined;

  static async before(test, target) {
    const proxy = new Proxy();
    const { port } = new URL(target);
    proxy.#server = net.createServer((client) => proxy.#pair(client, port));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    proxy.url = `http://127.0.0.1:${proxy.#server.address().port}`;
    test.after(() => {
      proxy.cut();
      proxy.#server.close();
    });
    return proxy;
  }

  #pair(client, port) {
    const server = net.connect(port, "127.0.0.1");
    const pair = { client, server };
    this.#pairs.add(pair);
    const end = () => {
      client.destroy();
      server.destroy();
      this.#pairs.delete(pair);
    };
    if (this.isDown) client.destroy();
    let isSwallowing = false;
    client.on("data", (bytes) => {
      const text = bytes.toString("latin1");
      if (this.blocksWebSockets && /upgrade: websocket/i.test(text)) {
        client.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
      }
      if (this.swallowsAnswerTo && text.includes(this.swallowsAnswerTo)) {
        isSwallowing = true;
        this.swallowsAnswerTo = undefined;
      }
      server.write(bytes);
    });
    server.on("data", (bytes) => {
      if (isSwallowing) return end();
      if (this.cutsAfter === undefined || bytes.length <= this.cutsAfter) {
        if (this.cutsAfter !== undefined) this.cutsAfter -= bytes.length;
        client.write(bytes);
        return;
      }
      // Within a frame, as likely as not.
      client.write(bytes.subarray(0, this.cutsAfter), () => this.cut());
      this.cutsAfter = undefined;
    });
    for (const socket of [client, server]) socket.on("close", end).on("error", end);
  }

  /** Ends every connection that is open now. */
  cut() {
    for (const { client } of [...this.#pairs]) client.destroy();
  }
}

/** Gathers events; `until` waits for the first moment at which something is true of them. */
export class Recorder {
  events = [];
  #waiting = new Set();

  constructor(source, ...types) {
    for (const type of types) {
      source.on(type, (event) => {
        this.events.push({ type, event });
        for (const check of [...this.#waiting]) check();
      });
    }
  }

  of(type) {
    return this.events.filter((entry) => entry.type === type).map(({ event }) => event);
  }

  /** Resolves with what `found` returns, once that is truthy. */
  until(found) {
    return new Promise((resolve) => {
      const check = () => {
        const result = found(this);
        if (!result) return;
        this.#waiting.delete(check);
        resolve(result);
      };
      this.#waiting.add(check);
      check();
    });
  }

  status(state, more = {}) {
    const matches = (status) => status.state === state && Object.entries(more).every(([key, value]) => status[key] === value);
    return this.until(() => this.of("status").findLast(matches));
  }
}

/** Random numbers from 0 to 1 that `HANDSUP_TEST_SEED` repeats (mulberry32). */
export function randomNumbers(test) {
  let state = Number(process.env.HANDSUP_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  test.diagnostic(`HANDSUP_TEST_SEED=${state}`);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A storage like `localStorage`. */
export function memoryStorage() {
  const kept = new Map();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), kept };
}
