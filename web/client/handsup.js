/**
 * Client of a Hands-Up service, for browsers and Node 22. README.md shows how to use it, handsup.d.ts has every name.
 *
 * - `Client` is what a page holds. It delivers alarms, and keeps the cursor: the last one that it delivered.
 * - `Leader` keeps the alarm connection, for all tabs: whoever holds a Web Lock has it. That is a SharedWorker that runs
 *   this file, or else a tab. They talk over a BroadcastChannel.
 * - `Room` is an auction room: a socket, and a state that is read over HTTP when frames may be missing.
 * - `Link` opens a connection again after each end, when and if the end allows it.
 */

const BACKOFF_MS = 1_000;
const BACKOFF_LIMIT_MS = 30_000;
/** A connection that lived for this time was no failure. */
const STABLE_MS = 10_000;
/** For a first frame, and for a sign of life after a ping. */
const ANSWER_TIMEOUT_MS = 10_000;
/** For one request. The service answers within 3 s. */
const REQUEST_TIMEOUT_MS = 8_000;
/** How long what is safe to repeat is repeated. */
const RETRY_WITHIN_MS = 30_000;
const RETRY_BACKOFF_MS = 300;
/** A token is renewed this time before it expires, or when three quarters of its time have passed. */
const RENEW_BEFORE_MS = 60_000;
const ACK_INTERVAL_MS = 100;
/** After this many failed handshakes in a row while HTTP works, WebSockets count as blocked. */
const BLOCKED_AFTER = 2;
/** A room that is silent for this time, or does not end at its end, is read over HTTP. */
const ROOM_SILENCE_MS = 60_000;
const LATE_END_MS = 3_000;
const ROOM_POLL_MS = 4_000;
/** Frames that wait while a room is read. Of more missed bids than this only the newest are delivered. */
const ROOM_BUFFER_LIMIT = 1_000;

const TOKEN_REFUSED = 4401;
const TOO_MANY_SOCKETS = 4409;
/** Without 4401: a fresh token may help. */
const STAY_AWAY = [4403, 4404, TOO_MANY_SOCKETS];
const SUBPROTOCOL = "handsup.v1";
/** How a connection ends that this side ends. */
const ABORTED = { delayMs: 0 };

/** Milliseconds since 1970, by a clock that nobody sets meanwhile. */
const localTime = () => performance.timeOrigin + performance.now();

/** Full jitter. */
const backoff = (failures, base = BACKOFF_MS) => Math.random() * Math.min(BACKOFF_LIMIT_MS, base * 2 ** failures);

const later = (run, ms) => setTimeout(run, Math.min(Math.max(0, ms), 2 ** 31 - 1));

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => (clearTimeout(timer), reject(signal.reason));
    const timer = later(() => (signal?.removeEventListener("abort", abort), resolve()), ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

function claims(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))) ?? {};
  } catch {
    return {};
  }
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

class Emitter {
  #listeners = Object.create(null);

  on(type, listener) {
    const listeners = (this.#listeners[type] ??= new Set());
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  _emit(type, event) {
    for (const listener of [...(this.#listeners[type] ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        // It stops nothing else.
        setTimeout(() => {
          throw error;
        }, 0);
      }
    }
  }
}

export class HandsUpError extends Error {
  constructor(problem, status = 0, retryAfterMs = undefined) {
    super(problem.detail ?? problem.code);
    Object.assign(this, { name: "HandsUpError", code: problem.code, status, problem, retryAfterMs });
  }

  get retryable() {
    return this.status >= 500 || [0, 408, 429].includes(this.status) || this.code === "idempotency_in_flight";
  }
}

/**
 * The service's time. A `server_time` is a lower bound when it arrives, and an upper bound for the moment of asking. The
 * offset is the middle of what all of them allow.
 */
export class ServerClock {
  #low = -Infinity;
  #high = Infinity;

  observe(serverTime, askedAt = -Infinity, arrivedAt = localTime()) {
    const time = Date.parse(serverTime);
    if (Number.isNaN(time)) return;
    const low = time - arrivedAt;
    const high = time + 1 - askedAt;
    const contradicts = low > this.#high || high < this.#low;
    this.#low = contradicts ? low : Math.max(low, this.#low);
    this.#high = contradicts ? high : Math.min(high, this.#high);
  }

  get offset() {
    if (this.#low === -Infinity) return 0;
    return this.#high === Infinity ? this.#low : (this.#low + this.#high) / 2;
  }

  now() {
    return localTime() + this.offset;
  }
}

class Tokens {
  #source;
  #current = null;
  #asking;

  constructor(source, clock) {
    this.#source = source;
    this.clock = clock;
  }

  /** A token other than `old`, or null. Rejects when the source does. */
  async get(old = undefined) {
    if (this.#current && this.#current !== old && this.lifetime(this.#current) > 2_000) return this.#current;
    this.#asking ??= this.#ask(old ?? this.#current ?? undefined);
    await this.#asking;
    return this.#current === old ? null : this.#current;
  }

  async #ask(old) {
    try {
      this.#current = (await this.#source(old)) || null;
    } finally {
      this.#asking = undefined;
    }
  }

  lifetime(token) {
    const { exp } = claims(token);
    return typeof exp === "number" ? exp * 1_000 - this.clock.now() : Infinity;
  }
}

class Http {
  constructor(base, tokens, fetch) {
    this.base = base;
    this.tokens = tokens;
    this.fetch = fetch;
  }

  async send(method, path, { body, headers, signal } = {}) {
    let token = await this.tokens.get();
    let response = await this.once(token, method, path, { body, headers, signal });
    if (response.status === 401 && token && (token = await this.tokens.get(token))) {
      response = await this.once(token, method, path, { body, headers, signal });
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** One request: a response of any status, or the error `network`. */
  async once(token, method, path, { body, headers, signal, timeout = REQUEST_TIMEOUT_MS } = {}) {
    const ending = new AbortController();
    const abort = () => ending.abort();
    const timer = timeout && setTimeout(abort, timeout);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const response = await this.fetch(this.base + path, {
        method,
        headers: {
          ...(token && { Authorization: `Bearer ${token}` }),
          ...(body !== undefined && { "Content-Type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: ending.signal,
        cache: "no-store",
      });
      if (!timeout) return response;
      const text = await response.text();
      return { ok: response.ok, status: response.status, headers: response.headers, json: () => parseJson(text) };
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new HandsUpError({ code: "network", detail: `no answer from the service: ${error?.message ?? error}` });
    } finally {
      clearTimeout(timer);
      if (timeout) signal?.removeEventListener("abort", abort);
    }
  }
}

function retryAfterMs(response) {
  const seconds = Number(response.headers.get("Retry-After") || NaN);
  return seconds >= 0 ? seconds * 1_000 : undefined;
}

async function refusal(response) {
  const problem = await response.json();
  const isProblem = typeof problem?.code === "string";
  return new HandsUpError(isProblem ? problem : { code: "unavailable" }, response.status, retryAfterMs(response));
}

async function patiently(attempt, signal) {
  const deadline = localTime() + RETRY_WITHIN_MS;
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      const wait = (error.retryAfterMs ?? 0) + backoff(failures, RETRY_BACKOFF_MS);
      if (!error.retryable || localTime() + wait > deadline) throw error;
      await pause(wait, signal);
    }
  }
}

/** `open(token, signal, opened)` runs one connection, and returns its end: `{ code, reason, final, retryMs, delayMs }`. */
class Link {
  #tokens;
  #open;
  #report;
  #needsToken;
  #refused;
  #abort = new AbortController();
  #failures = 0;
  #notBefore = 0;
  #timer;
  #resume = () => {};
  status = { state: "connecting" };

  constructor(tokens, { open, report, needsToken = false }) {
    this.#tokens = tokens;
    this.#open = open;
    this.#report = report;
    this.#needsToken = needsToken;
  }

  async run() {
    while (this.status.state !== "closed") {
      this.#set({ state: "connecting" });
      this.#abort = new AbortController();
      let openedAt = Infinity;
      const end = await this.#once(this.#abort.signal, (more) => {
        openedAt = localTime();
        this.#set({ state: "online", ...more });
      });
      if (localTime() - openedAt >= STABLE_MS) this.#failures = 0;
      if (this.status.state !== "closed") await this.#rest(end, localTime() - openedAt >= STABLE_MS);
    }
  }

  async #once(signal, opened) {
    try {
      const token = await this.#tokens.get(this.#refused);
      if (!token && (this.#needsToken || this.#refused)) return { final: true, code: TOKEN_REFUSED, reason: "no token" };
      const end = await this.#open(token, signal, opened);
      if (end.code !== TOKEN_REFUSED) this.#refused = undefined;
      // A second token in a row: another one would not help.
      else if (this.#refused && this.status.state !== "online") end.final = true;
      else this.#refused = token;
      return end;
    } catch (error) {
      return signal.aborted ? ABORTED : { reason: String(error?.message ?? error), retryMs: error?.retryAfterMs };
    }
  }

  async #rest({ code, reason, final, retryMs, delayMs }, wasStable) {
    const resumed = new Promise((resolve) => (this.#resume = resolve));
    if (final || STAY_AWAY.includes(code)) {
      this.#set({ state: "stopped", code, reason });
      await resumed;
      this.#failures = 0;
      return;
    }
    // An expired token is no reason to wait. Of a restart the service itself spreads the times.
    let wait = delayMs ?? (code === TOKEN_REFUSED && wasStable ? 0 : backoff(this.#failures++));
    if (retryMs !== undefined) wait = code === 1012 ? retryMs : retryMs + wait;
    this.#notBefore = localTime() + (retryMs ?? 0);
    this.#set({ state: "waiting", code, reason, retry_in_ms: Math.round(wait) });
    this.#timer = later(this.#resume, wait);
    await resumed;
    clearTimeout(this.#timer);
  }

  /** Tries at once, but not before the time that the service has named. */
  wake() {
    if (this.status.state !== "waiting") return;
    this.#failures = 0;
    clearTimeout(this.#timer);
    this.#timer = later(this.#resume, this.#notBefore - localTime());
  }

  /** Opens a new connection now, also after `stopped`. */
  restart() {
    this.#abort.abort();
    this.#failures = 0;
    this.#resume();
  }

  close() {
    this.#set({ state: "closed" });
    this.#abort.abort();
    this.#resume();
  }

  #set(status) {
    if (this.status.state === "closed") return;
    this.status = status;
    this.#report(status);
  }
}

/** Runs a socket to its end. It must open and send a frame in time; a room may be silent, so its `onOpen` returns true. */
function runSocket(socket, signal, { onOpen, onFrame, onEnd }) {
  return new Promise((resolve) => {
    const finish = (end) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.close(1000);
      onEnd?.();
      resolve(end);
    };
    const abort = () => finish(ABORTED);
    const timer = setTimeout(() => finish({ reason: "no answer" }), ANSWER_TIMEOUT_MS);
    let isOpen = false;
    socket.onopen = () => {
      isOpen = true;
      if (onOpen(finish)) clearTimeout(timer);
    };
    socket.onmessage = ({ data }) => {
      clearTimeout(timer);
      onFrame(parseJson(data) ?? {});
    };
    socket.onclose = ({ code, reason }) => finish(closed(code, reason));
    // Node says no more than this when a handshake fails.
    socket.onerror = () => isOpen || finish(closed(1006, "the handshake failed"));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}

const closed = (code, reason) => ({ code, reason, retryMs: code === 1012 ? parseJson(reason)?.retry_ms : undefined });

const endOf = (response) => ({
  code: { 204: TOO_MANY_SOCKETS, 401: TOKEN_REFUSED, 403: 4403, 404: 4404 }[response.status],
  retryMs: retryAfterMs(response),
});

/** Keeps the alarm connection of a user: a WebSocket, or server-sent events where those are blocked. */
class Leader {
  #http;
  #WebSocket;
  #cursor;
  #deliver;
  #link;
  #seen = null;
  #blocked = 0;
  #connection = {};
  #acked = 0;
  #ackTimer;
  #unreadTimer;
  #userId;

  /** `cursor()` is what was delivered before, or null. `deliver(message)` goes to every tab. */
  constructor({ http, WebSocket, cursor, deliver }) {
    this.#http = http;
    this.#WebSocket = WebSocket;
    this.#cursor = cursor;
    this.#deliver = deliver;
    this.#link = new Link(http.tokens, {
      open: (...args) => this.#open(...args),
      report: () => this.#tellStatus(),
      needsToken: true,
    });
    this.#link.run();
  }

  #tellStatus() {
    this.#deliver({ type: "status", status: { ...this.#link.status, user_id: this.#userId } });
  }

  hear({ type, up_to }) {
    if (type === "join") this.#tellStatus();
    if (type === "join" || type === "count") {
      this.#refreshUnread(0);
    } else if (type === "wake") {
      this.#link.wake();
      this.#connection.check?.();
    } else if (type === "restart") {
      this.#link.restart();
    } else if (type === "ack" && up_to > this.#acked) {
      this.#acked = up_to;
      this.#ackTimer ??= setTimeout(() => this.#sendAck(), ACK_INTERVAL_MS);
    }
  }

  close() {
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#unreadTimer);
    this.#link.close();
  }

  #sendAck() {
    this.#ackTimer = undefined;
    this.#connection.ack?.(this.#acked);
  }

  /** Alarms also stop to count by themselves: when their user leads again, or the auction ends. */
  #refreshUnread(withinMs) {
    this.#unreadTimer ??= setTimeout(async () => {
      this.#unreadTimer = undefined;
      const seen = this.#seen;
      try {
        const unread = await (await this.#http.send("GET", "/alarms/unread")).json();
        // It may be older.
        if (seen !== this.#seen) this.#refreshUnread(0);
        else this.#frame({ response_type: "unread", ...unread });
      } catch {
        // The next `hello` says it.
      }
    }, Math.random() * withinMs);
  }

  async #open(token, signal, opened) {
    this.#connection = {};
    const open = (via) => {
      opened({ via });
      if (this.#acked) this.#sendAck();
    };
    if (this.#WebSocket) {
      const end = await this.#overSocket(token, signal, open);
      const wasOpen = this.#link.status.state === "online";
      if (wasOpen) this.#blocked = 0;
      if (wasOpen || signal.aborted) return end;
    } else this.#blocked = BLOCKED_AFTER;
    // A browser does not say why a handshake failed. HTTP does.
    const answer = await this.#http.once(token, "GET", "/alarms/unread", { signal });
    if (!answer.ok) return endOf(answer);
    if (++this.#blocked < BLOCKED_AFTER) return { reason: "the handshake failed" };
    return this.#overStream(token, await answer.json(), signal, open);
  }

  #overSocket(token, signal, open) {
    const { base } = this.#http;
    const since = this.#since();
    const url = `${base.replace(/^http/, "ws")}/ws/alarms/${since === null ? "" : `?since=${since}`}`;
    const socket = new this.#WebSocket(url, [SUBPROTOCOL, `bearer.${token}`]);
    const send = (frame) => socket.readyState === 1 && socket.send(JSON.stringify(frame));
    let askedAt = -Infinity;
    let pongTimer, pingTimer, finish;
    const ping = () => {
      if (askedAt === -Infinity) askedAt = localTime();
      send({ type: "ping" });
      pongTimer ??= setTimeout(() => finish({ reason: "no sign of life" }), ANSWER_TIMEOUT_MS);
    };
    const renewal = this.#renewal(token, (fresh) => send({ type: "auth", token: fresh }));
    return runSocket(socket, signal, {
      onOpen: (end) => void (finish = end),
      onFrame: (frame) => {
        // Whatever arrives shows that the connection lives.
        clearTimeout(pongTimer);
        pongTimer = undefined;
        if (frame.response_type === "hello") {
          this.#connection = { ack: (up_to) => send({ type: "ack", up_to }), check: ping };
          this.#hello(frame, since);
          open("websocket");
          renewal.wait();
          pingTimer = setInterval(ping, frame.heartbeat_s * 1_000);
          ping();
        } else if (frame.response_type === "auth") {
          renewal.wait();
        } else if (frame.response_type === "pong") {
          this.#frame(frame, localTime() - askedAt);
          askedAt = -Infinity;
        } else {
          this.#frame(frame);
        }
      },
      onEnd: () => {
        renewal.stop();
        clearTimeout(pongTimer);
        clearInterval(pingTimer);
      },
    });
  }

  /** `fetch`, unlike `EventSource`, keeps the token out of the address and shows why a stream is refused. */
  async #overStream(token, unread, signal, open) {
    const since = this.#since();
    const stop = new AbortController();
    const finish = (end) => stop.abort(end);
    const abort = () => finish(ABORTED);
    signal.addEventListener("abort", abort, { once: true });
    let heartbeatMs = 20_000;
    let heardAt, watchdog;
    const alive = () => {
      heardAt = localTime();
      clearTimeout(watchdog);
      watchdog = setTimeout(() => finish({ reason: "no sign of life" }), 2 * heartbeatMs + ANSWER_TIMEOUT_MS);
    };
    alive();
    const renewal = this.#renewal(token, () => finish({ delayMs: 0 }));
    try {
      const path = `/alarms/stream${since === null ? "" : `?since=${since}`}`;
      const response = await this.#http.once(token, "GET", path, { signal: stop.signal, timeout: 0 });
      if (response.status !== 200) return endOf(response);
      this.#connection = {
        ack: (up_to) => this.#http.send("POST", "/alarms/ack", { body: { up_to } }).catch(() => {}),
        // Nothing can be asked of a stream.
        check: () => localTime() - heardAt > heartbeatMs + 1_000 && finish({ delayMs: 0 }),
      };
      // Without a cursor the stream sends no `hello`.
      if (since === null) this.#hello(unread, since);
      open("sse");
      renewal.wait();
      for await (const { event, data } of serverSentEvents(response.body, alive)) {
        const frame = parseJson(data);
        if (event === "close") return closed(frame?.code, frame?.reason);
        if (frame?.response_type !== "hello") this.#frame(frame ?? {});
        else {
          heartbeatMs = frame.heartbeat_s * 1_000;
          this.#hello(frame, since);
        }
      }
      return { reason: "the stream has ended" };
    } catch (error) {
      if (stop.signal.aborted) return stop.signal.reason;
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
      renewal.stop();
      clearTimeout(watchdog);
      stop.abort();
    }
  }

  #renewal(token, use) {
    const { tokens } = this.#http;
    let timer;
    const wait = () => {
      const lifetime = tokens.lifetime(token);
      if (lifetime === Infinity) return;
      timer = later(renew, Math.max(1_000, lifetime - RENEW_BEFORE_MS, lifetime * 0.75));
    };
    const renew = async () => {
      const fresh = await tokens.get(token).catch(() => null);
      if (timer === undefined) return;
      if (fresh) use((token = fresh));
      // If this goes on until the token expires, the service ends the connection with 4401.
      else timer = later(renew, Math.max(1_000, tokens.lifetime(token) / 4));
    };
    const stop = () => {
      clearTimeout(timer);
      timer = undefined;
    };
    return { stop, wait: () => (stop(), wait()) };
  }

  #since() {
    this.#seen ??= this.#cursor();
    return this.#seen;
  }

  #hello(frame, since) {
    this.#http.tokens.clock.observe(frame.server_time);
    this.#userId = frame.user_id ?? this.#userId;
    // Another database: lower ids will be new ones.
    const reset = since !== null && frame.last_id < since;
    if (reset) this.#seen = frame.last_id;
    this.#deliver({ type: "frame", frame: { ...frame, response_type: "hello" }, roundTripMs: Infinity, reset });
  }

  #frame(frame, roundTripMs = Infinity) {
    if (isAlarm(frame)) {
      if (this.#seen !== null && frame.id <= this.#seen) return;
      this.#seen = frame.id;
      if (frame.kind === "auction_won" || frame.kind === "auction_lost") this.#refreshUnread(3_000);
    }
    this.#deliver({ type: "frame", frame, roundTripMs });
  }
}

const isAlarm = ({ response_type }) => response_type === "alram" || response_type === "chat_alram";

/** `alive` hears of comments, too. */
async function* serverSentEvents(body, alive) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const lines of events) {
      const field = (name) => new RegExp(`^${name}: ?(.*)$`, "m").exec(lines)?.[1];
      const data = field("data");
      if (data !== undefined) yield { event: field("event"), data };
    }
  }
}

class Client extends Emitter {
  #options;
  #http;
  #WebSocket;
  #storage;
  #starting;
  #key;
  #seen = null;
  #counted = 0;
  #leader;
  #channel;
  #worker;
  #closing = new AbortController();
  #rooms = new Map();

  clock = new ServerClock();
  status = { state: "connecting" };
  unread = 0;
  user_id = undefined;

  constructor(options) {
    super();
    this.#options = options;
    const page = globalThis.location?.href;
    const base = new URL(options.url ?? "/", page).href.replace(/\/+$/, "");
    const tokens = new Tokens(options.token ?? (() => null), this.clock);
    const fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
    this.#http = new Http(base, tokens, fetch);
    this.#WebSocket = "WebSocket" in options ? options.WebSocket : globalThis.WebSocket;
    this.#storage = options.storage ?? pageStorage();
    const { signal } = this.#closing;
    globalThis.addEventListener?.("online", () => this.#wake(), { signal });
    const seen = () => document.visibilityState === "visible" && this.#wake();
    globalThis.document?.addEventListener("visibilitychange", seen, { signal });
    this.#start();
  }

  async #start() {
    const own = (this.#starting = {});
    let token;
    for (let failures = 0; token === undefined; failures++) {
      try {
        token = await this.#http.tokens.get();
      } catch (error) {
        const wait = backoff(failures);
        this.#setStatus({ state: "waiting", reason: String(error?.message ?? error), retry_in_ms: Math.round(wait) });
        await pause(wait);
      }
      if (this.#starting !== own) return;
    }
    if (!token) return this.#setStatus({ state: "stopped", code: TOKEN_REFUSED, reason: "no token" });
    const { user_id, sub } = claims(token);
    const user = this.#options.user ?? user_id ?? sub;
    // Nobody knows whose token it is: nothing is shared or kept.
    if (user === undefined) this.#storage = NO_STORAGE;
    this.#key = `handsup ${this.#http.base} ${user}`;
    this.#seen = this.#storedCursor();
    const canShare = globalThis.document && globalThis.BroadcastChannel && globalThis.navigator?.locks;
    if (this.#options.tabs === false || !canShare || user === undefined) this.#lead();
    else this.#share();
  }

  #lead() {
    this.#leader = new Leader({
      http: this.#http,
      WebSocket: this.#WebSocket,
      cursor: () => this.#seen ?? this.#storedCursor(),
      deliver: (message) => {
        if (this.#closing.signal.aborted) return;
        this.#channel?.postMessage(message);
        this.#receive(message);
      },
    });
  }

  /** A worker leads if there can be one, since tabs come and go. */
  async #share() {
    const { signal } = this.#closing;
    this.#channel = new BroadcastChannel(this.#key);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    await this.#startWorker();
    if (signal.aborted) return;
    this.#channel.postMessage({ type: "join" });
    const leading = async () => {
      if (signal.aborted) return;
      this.#lead();
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    };
    navigator.locks.request(this.#key, { signal }, leading).catch(() => {});
  }

  /** Resolves when the worker waits for the lock, or when there is none. */
  #startWorker() {
    // Not if this is part of a bundle.
    const own = import.meta.url.split("?")[0].endsWith("/handsup.js") ? import.meta.url : undefined;
    const script = this.#options.worker ?? own;
    if (!script || !globalThis.SharedWorker) return Promise.resolve();
    return new Promise((resolve) => {
      setTimeout(resolve, 3_000);
      try {
        const worker = new SharedWorker(script, { type: "module", name: this.#key });
        worker.onerror = resolve;
        worker.port.onmessage = resolve;
        worker.port.postMessage({ base: this.#http.base, key: this.#key });
        this.#worker = worker;
      } catch {
        // It is of another origin, or the page forbids workers.
        resolve();
      }
    });
  }

  async #hear(message) {
    if (message.type === "ask") {
      try {
        const token = await this.#http.tokens.get(message.old);
        this.#channel?.postMessage({ type: "answer", id: message.id, token, cursor: this.#seen });
      } catch {
        // Another tab may answer.
      }
    } else if (message.type === "frame" || message.type === "status") {
      this.#receive(message);
    } else {
      this.#leader?.hear(message);
    }
  }

  #tellLeader(message) {
    if (this.#leader) this.#leader.hear(message);
    else this.#channel?.postMessage(message);
  }

  #receive({ type, status, frame, roundTripMs, reset }) {
    if (this.#closing.signal.aborted) return;
    if (type === "status") {
      this.user_id = status.user_id ?? this.user_id;
      return this.#setStatus(status);
    }
    const arrivedAt = localTime();
    this.clock.observe(frame.server_time, arrivedAt - roundTripMs, arrivedAt);
    if (isAlarm(frame)) this.#alarm(frame);
    else if (frame.response_type === "hello") {
      if (reset) this.#moveCursor(frame.last_id, true);
      this.#setUnread(frame);
    } else if (frame.response_type === "unread") this.#setUnread(frame);
    else if (frame.response_type === "alert") this._emit("alert", frame);
  }

  #alarm(alarm) {
    if (this.#seen !== null && alarm.id <= this.#seen) return;
    this.#seen = alarm.id;
    this._emit("alarm", alarm);
    // Only now: what was not delivered comes again.
    this.#moveCursor(alarm.id, false);
    this.#tellLeader({ type: "ack", up_to: alarm.id });
    if (alarm.id > this.#counted && !alarm.superseded) this.#setUnread({ unread: this.unread + 1, last_id: alarm.id });
  }

  /** `last_id` is the newest alarm that the number includes. */
  #setUnread({ unread, last_id = 0 }) {
    this.#counted = Math.max(this.#counted, last_id);
    if (unread === this.unread) return;
    this.unread = unread;
    this._emit("unread", unread);
  }

  #storedCursor() {
    const stored = Number.parseInt(this.#storage.getItem(this.#key) ?? "", 10);
    return stored >= 0 ? stored : null;
  }

  #moveCursor(id, isReset) {
    if (isReset) this.#seen = this.#counted = id;
    // Another tab may be further.
    else if (id <= (this.#storedCursor() ?? -1)) return;
    try {
      this.#storage.setItem(this.#key, String(id));
    } catch {
      // The storage is full: the cursor holds as long as the page.
    }
  }

  #setStatus(status) {
    this.status = status;
    this._emit("status", status);
  }

  #wake() {
    if (this.#key) this.#tellLeader({ type: "wake" });
    else this.#start();
    for (const room of this.#rooms.values()) room._wake();
  }

  async request(method, path, body, { headers, signal } = {}) {
    const askedAt = localTime();
    const response = await this.#http.send(method, path, { body, headers, signal });
    const answer = await response.json();
    this.clock.observe(answer?.server_time, askedAt);
    return answer;
  }

  /** For one key the service stores one bid, however often it is asked. */
  async bid(goodsId, price, { key = randomKey(), signal } = {}) {
    let isUnknown = false;
    try {
      const headers = { "Idempotency-Key": key };
      const answer = await patiently(async () => {
        try {
          return await this.request("POST", `/goods/${goodsId}/bids`, { price }, { headers, signal });
        } catch (error) {
          // Only these two retryable ones say that the bid is not stored.
          isUnknown ||= error.retryable && error.status !== 429 && error.problem.outcome !== "not_stored";
          throw error;
        }
      }, signal);
      // An `outbid` of before counts as read now.
      this.#tellLeader({ type: "count" });
      return answer;
    } catch (error) {
      if (error instanceof HandsUpError) {
        error.key = key;
        error.outcome = isUnknown && (error.retryable || error.status === 401) ? "unknown" : "not_stored";
      }
      throw error;
    }
  }

  inbox(query = {}) {
    return patiently(() => this.request("GET", `/alarms?${new URLSearchParams(JSON.parse(JSON.stringify(query)))}`));
  }

  async read(upToOrIds) {
    const body = Array.isArray(upToOrIds) ? { ids: upToOrIds } : { up_to: upToOrIds };
    const { unread } = await patiently(() => this.request("POST", "/alarms/read", body));
    const message = { type: "frame", frame: { response_type: "unread", unread } };
    this.#receive(message);
    this.#channel?.postMessage(message);
    return unread;
  }

  room(goodsId) {
    const left = () => this.#rooms.delete(goodsId);
    if (!this.#rooms.has(goodsId)) this.#rooms.set(goodsId, new Room(this, this.#http, this.#WebSocket, goodsId, left));
    return this.#rooms.get(goodsId);
  }

  now() {
    return this.clock.now();
  }

  reconnect() {
    if (this.#key) this.#tellLeader({ type: "restart" });
    else this.#start();
  }

  close() {
    for (const room of [...this.#rooms.values()]) room.close();
    this.#starting = undefined;
    this.#closing.abort();
    this.#leader?.close();
    this.#worker?.port.postMessage({ bye: true });
    this.#channel?.close();
    this.#channel = undefined;
    this.#setStatus({ state: "closed" });
  }
}

class Room extends Emitter {
  #client;
  #http;
  #WebSocket;
  #link;
  #left;
  #socket;
  /** Frames that wait until the state is read; null while there is nothing to wait for. */
  #waiting = [];
  #frames = 0;
  #check;
  #signal;

  constructor(client, http, WebSocket, id, left) {
    super();
    this.id = id;
    this.state = null;
    this.status = { state: "connecting" };
    this.#client = client;
    this.#http = http;
    this.#WebSocket = WebSocket;
    this.#left = left;
    this.#link = new Link(http.tokens, {
      open: (...args) => this.#open(...args),
      report: (status) => {
        this.status = status;
        this._emit("status", status);
      },
    });
    this.#link.run();
  }

  async #open(token, signal, opened) {
    if (this.#WebSocket) {
      const end = await this.#overSocket(token, signal, opened);
      if (this.status.state === "online" || signal.aborted) return end;
    }
    // Why the handshake failed; and where WebSockets are blocked, the state of now.
    const answer = await this.#http.once(token, "GET", `/goods/${this.id}/`, { signal });
    if (!answer.ok) return endOf(answer);
    await this.#sync(signal);
    return { reason: "the handshake failed", delayMs: ROOM_POLL_MS * (0.75 + Math.random() / 2) };
  }

  #overSocket(token, signal, opened) {
    const url = `${this.#http.base.replace(/^http/, "ws")}/ws/auction/${this.id}/`;
    const socket = new this.#WebSocket(url, token ? [SUBPROTOCOL, `bearer.${token}`] : [SUBPROTOCOL]);
    const ending = new AbortController();
    this.#waiting = [];
    this.#signal = ending.signal;
    return runSocket(socket, signal, {
      // The socket first, then the state: nothing is missed in between.
      onOpen: () => {
        this.#socket = socket;
        opened();
        this.#resync();
        return true;
      },
      onFrame: (frame) => this.#frame(frame),
      onEnd: () => {
        ending.abort();
        clearTimeout(this.#check);
        this.#socket = undefined;
      },
    });
  }

  #frame(frame) {
    this.#frames++;
    this.#client.clock.observe(frame.server_time);
    if (!this.#waiting) {
      this.#apply(frame);
      this.#checkLater();
    } else if (this.#waiting.push(frame) > ROOM_BUFFER_LIMIT) this.#link.restart();
  }

  /** Reads the state, then applies what came meanwhile. */
  async #resync() {
    const signal = this.#signal;
    const before = this.state?.seq;
    this.#waiting ??= [];
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#sync(signal);
        break;
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 404) return this.#link.restart();
        await pause((error.retryAfterMs ?? 0) + backoff(failures)).catch(() => {});
      }
    }
    if (signal.aborted) return;
    const waiting = this.#waiting;
    this.#waiting = null;
    // What can't be read even now is left out.
    let isFilled = this.state.seq === before;
    while (waiting.length) {
      this.#apply(waiting.shift(), isFilled);
      isFilled = false;
      if (this.#waiting) {
        this.#waiting.push(...waiting);
        return;
      }
    }
    this.#checkLater();
  }

  async #sync(signal) {
    const get = (path) => this.#client.request("GET", path, undefined, { signal });
    const goods = await get(`/goods/${this.id}/`);
    const missed = [];
    const known = this.state?.seq ?? Infinity;
    let after = Math.max(known, goods.bid_seq - ROOM_BUFFER_LIMIT);
    while (after !== null && goods.bid_seq > known) {
      const page = await get(`/goods/${this.id}/bids?after_seq=${after}&limit=200`);
      missed.push(...page.results);
      after = page.next_after_seq;
    }
    if (signal.aborted) return;
    this.state = stateOf(goods, this.state);
    for (const entry of missed) {
      const frame = missedFrame(entry, this.id);
      if (entry.seq > this.state.seq) this.#change(frame);
      this._emit(frame.response_type, frame);
    }
    this._emit("sync", this.state);
    this._emit("change", this.state);
  }

  #apply(frame, isFilled) {
    const { seq } = frame;
    if (seq <= this.state.seq) return;
    if (seq > this.state.seq + 1 && !isFilled) {
      this.#waiting = [frame];
      this.#resync();
      return;
    }
    const changes = this.#change(frame);
    this._emit(frame.response_type, frame);
    if (changes) this._emit("change", this.state);
  }

  /** Returns whether a frame changes the state. */
  #change(frame) {
    const state = { ...this.state };
    const minimum = (price) => frame.minimum ?? (price ? price + state.goods.min_increment : state.goods.start_price);
    switch (frame.response_type) {
      case "bid":
        state.seq = frame.seq;
        state.high_price = frame.high_price;
        state.leader = leaderOf(frame.sender, frame.sender_name);
        state.minimum = frame.minimum === null ? null : minimum(frame.high_price);
        state.ends_at = frame.ends_at ?? state.ends_at;
        state.reserve_met = frame.reserve_met ?? state.reserve_met;
        break;
      case "voided":
        state.seq = frame.seq;
        state.high_price = frame.high_price;
        state.leader = leaderOf(frame.buyer_id, frame.buyer_name);
        state.minimum = minimum(frame.high_price);
        break;
      case "started":
        state.phase = "live";
        break;
      case "extended":
        state.ends_at = frame.ends_at;
        break;
      case "ended":
        state.phase = "ended";
        state.result = frame;
        state.high_price = frame.high_price;
        state.leader = leaderOf(frame.buyer_id, frame.buyer_name);
        state.minimum = null;
        break;
      case "watchers":
        state.watchers = frame.watchers;
        break;
      case "enter":
      case "out":
        state.participants_count = frame.participants_count;
        state.participants = state.participants.filter(({ id }) => id !== frame.user_id);
        if (frame.response_type === "enter") state.participants.push({ id: frame.user_id, user: frame.sender_name });
        break;
      default:
        return false;
    }
    this.state = state;
    return true;
  }

  /** A room that is silent, or should have ended, may have a dead socket. */
  #checkLater() {
    clearTimeout(this.#check);
    const { phase, ends_at } = this.state;
    const untilEnd = phase === "live" ? Date.parse(ends_at) + LATE_END_MS - this.#client.now() : Infinity;
    this.#check = later(() => this.#examine(), Math.min(ROOM_SILENCE_MS, Math.max(LATE_END_MS, untilEnd)));
  }

  async #examine() {
    if (this.#waiting) return;
    const signal = this.#signal;
    const { seq, phase } = this.state;
    const frames = this.#frames;
    await this.#resync();
    const isNew = this.state.seq !== seq || this.state.phase !== phase;
    // What was read did not come: the socket is dead.
    if (isNew && frames === this.#frames && !signal.aborted) this.#link.restart();
  }

  _wake() {
    this.#link.wake();
    if (this.#socket) this.#examine();
  }

  say(message) {
    if (!this.#socket) throw new HandsUpError({ code: "network", detail: "the room is not connected" });
    this.#socket.send(JSON.stringify({ is_money: false, message }));
  }

  bid(price, options) {
    return this.#client.bid(this.id, price, options);
  }

  remaining() {
    return this.state ? Math.max(0, Date.parse(this.state.ends_at) - this.#client.now()) : 0;
  }

  close() {
    this.#left();
    this.#link.close();
  }
}

const leaderOf = (id, name) => (id ? { id, name } : null);

const PHASES = new Map([[null, "scheduled"], [true, "live"], [false, "ended"]]);

function stateOf(goods, before) {
  const { status, buyer, high_price, start_price, min_increment } = goods;
  const phase = PHASES.get(status);
  const computed = high_price ? high_price + min_increment : start_price;
  return {
    goods,
    phase,
    high_price,
    leader: leaderOf(buyer?.id, buyer?.username),
    minimum: phase === "ended" ? null : goods.minimum === undefined ? computed : goods.minimum,
    reserve_met: goods.reserve_met ?? null,
    ends_at: goods.ends_at,
    seq: goods.bid_seq,
    participants: goods.participants,
    participants_count: goods.participants_count,
    watchers: goods.watchers ?? before?.watchers,
    result: before?.result ?? null,
  };
}

function missedFrame(entry, goods_id) {
  const { seq, bid_id, kind, user_id, username, price, high_price, voids, reason } = entry;
  if (kind === "void") return { response_type: "voided", seq, voids, reason, high_price, buyer_id: user_id, missed: true };
  const bidder = { sender: user_id, sender_name: username };
  return { response_type: "bid", ...bidder, goods_id, high_price: price, seq, bid_id, kind, missed: true };
}

/** `crypto.randomUUID` is missing on pages without TLS. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const NO_STORAGE = { getItem: () => null, setItem() {} };

function pageStorage() {
  try {
    return (globalThis.document && globalThis.localStorage) ?? NO_STORAGE;
  } catch {
    return NO_STORAGE;
  }
}

export function connect(options = {}) {
  return new Client(options);
}

/** In a SharedWorker: leads as long as a tab answers. Tokens and the cursor come from the tabs. */
function lead(base, key) {
  const channel = new BroadcastChannel(key);
  let asked = 0;
  let cursor = null;
  let leader;
  const answers = new Map();
  const ask = (old, timeout) =>
    new Promise((resolve, reject) => {
      const id = `${localTime()} ${++asked}`;
      answers.set(id, resolve);
      setTimeout(() => answers.delete(id) && reject(new Error("no tab answers")), timeout);
      channel.postMessage({ type: "ask", id, old });
    });
  const source = async (old) => {
    const answer = await ask(old, ANSWER_TIMEOUT_MS);
    cursor = Math.max(cursor ?? -1, answer.cursor ?? -1);
    if (cursor < 0) cursor = null;
    return answer.token;
  };
  channel.onmessage = ({ data }) => {
    const answered = data.type === "answer" && answers.get(data.id);
    if (answered) {
      answers.delete(data.id);
      answered(data);
    } else leader?.hear(data);
  };
  const http = new Http(base, new Tokens(source, new ServerClock()), globalThis.fetch.bind(globalThis));
  navigator.locks.request(key, () => {
    const deliver = (message) => channel.postMessage(message);
    leader = new Leader({ http, WebSocket: globalThis.WebSocket, cursor: () => cursor, deliver });
    return new Promise(() => {});
  });
  // The lock goes with the worker.
  return async () => ask(undefined, 2_000).catch(() => globalThis.close());
}

if (globalThis.SharedWorkerGlobalScope && globalThis instanceof globalThis.SharedWorkerGlobalScope) {
  let leave;
  globalThis.onconnect = ({ ports: [port] }) => {
    port.onmessage = ({ data }) => {
      if (data.bye) return leave?.();
      leave ??= lead(data.base, data.key);
      port.postMessage("ready");
    };
  };
}
