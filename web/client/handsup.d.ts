/** Client of a Hands-Up service. The wire format is the service's `docs/protocol.md`. */

export interface Options {
  /** Where the service is; without it, the root of the page's own origin. Needed outside browsers. */
  url?: string | URL;
  /**
   * A token of the user, or null for a visitor. `old` is one that has expired, is about to, or was refused: return
   * another one. Called whenever the client needs one, so it may ask the network; the client keeps the token meanwhile.
   */
  token?: (old?: string) => string | null | undefined | Promise<string | null | undefined>;
  /** Who the user is, if their tokens have neither `user_id` nor `sub`. Cursor and connection are per user. */
  user?: string | number;
  /** False: this page has a connection of its own. Otherwise all tabs of a user share one, where browsers can. */
  tabs?: boolean;
  /** Where `handsup.js` is on the page's own origin, to run as SharedWorker; only needed if a bundle contains it. */
  worker?: string | URL;
  /** Where the cursor is kept; without it `localStorage` in browsers, and the memory elsewhere. */
  storage?: { getItem(key: string): string | null; setItem(key: string, value: string): unknown };
  /** Instead of the global ones. Without a `WebSocket`, alarms come as server-sent events. */
  WebSocket?: typeof WebSocket | undefined;
  fetch?: typeof fetch;
}

export function connect(options?: Options): Client;

/** State of a connection. `waiting` goes on by itself; `stopped` only by `reconnect()`. */
export interface Status {
  state: "connecting" | "online" | "waiting" | "stopped" | "closed";
  /** How alarms come, while online. */
  via?: "websocket" | "sse";
  /** The close code that ended the last connection: 4401 no valid token, 4409 too many sockets of the user, … */
  code?: number;
  reason?: string;
  retry_in_ms?: number;
  /** The user, once the service has said it. */
  user_id?: number;
}

export type AlarmKind =
  | "outbid"
  | "auction_started"
  | "ending_soon"
  | "auction_won"
  | "auction_lost"
  | "auction_sold"
  | "auction_unsold"
  | "auction_cancelled"
  | "bid_voided"
  | "leading_again"
  | "notice"
  | "chat";

export interface Alarm {
  response_type: "alram" | "chat_alram";
  id: number;
  kind: AlarmKind;
  /** The text, in the user's language. */
  message: string;
  goods_id: number | null;
  goods_title: string | null;
  created_at: string;
  high_price?: number;
  minimum?: number;
  ends_at?: string;
  start_price?: number;
  trade_room_id?: number;
  reason?: string;
  /** The user's maximum was reached. */
  max_reached?: boolean;
  /** Of a trade message. */
  sender?: number;
  sender_name?: string;
  /** It no longer holds: an `outbid` whose user leads again, or a notice with a newer one. */
  superseded?: true;
}

export interface InboxQuery {
  after?: number;
  before?: number;
  unread?: true;
  limit?: number;
}

export interface Inbox {
  results: (Alarm & { read: boolean })[];
  unread: number;
  last_id: number;
}

/** The refusal of what the user sent in a room. */
export interface Alert {
  response_type: "alert";
  message: string;
  code: string;
  high_price?: number;
}

/** The answer to an accepted bid: it is on disk. */
export interface Bid {
  bid_id: number;
  goods_id: number;
  user_id: number;
  price: number;
  high_price: number;
  seq: number;
  created_at: string;
  ends_at: string;
  minimum?: number | null;
  leading?: boolean;
  hash?: string;
}

export interface BidOptions {
  /** The `Idempotency-Key`; without it a random one. Repeat a bid whose outcome is unknown with the error's `key`. */
  key?: string;
  signal?: AbortSignal;
}

export interface RequestOptions {
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

export interface Problem {
  code: string;
  status?: number;
  title?: string;
  detail?: string;
  field?: string;
  high_price?: number;
  minimum?: number | null;
  outcome?: "not_stored" | "unknown";
}

export class HandsUpError extends Error {
  /** As the service names it, or `network`: there was no answer. */
  readonly code: string;
  /** The HTTP status, 0 without an answer. */
  readonly status: number;
  readonly problem: Problem;
  readonly retryAfterMs?: number;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** Of a bid: its key, and whether it may be stored all the same. */
  key?: string;
  outcome?: "not_stored" | "unknown";
}

/** The service's clock, corrected with every `server_time` that arrives. */
export class ServerClock {
  /** `askedAt`, `arrivedAt`: milliseconds since 1970 by this machine. */
  observe(serverTime: string | undefined, askedAt?: number, arrivedAt?: number): void;
  /** Milliseconds that the service's clock is ahead of this machine's; 0 until a time is known. */
  readonly offset: number;
  now(): number;
}

interface Emitter<Events> {
  /** Calls `listener` with each event of a type. Returns a function that ends it. */
  on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void;
}

export interface ClientEvents {
  /** Each alarm once, in order, on every open tab. */
  alarm: Alarm;
  /** The number of unread alarms has changed. */
  unread: number;
  status: Status;
  alert: Alert;
}

export interface Client extends Emitter<ClientEvents> {
  readonly status: Status;
  readonly unread: number;
  readonly user_id: number | undefined;
  readonly clock: ServerClock;
  /** The service's time, in milliseconds since 1970. */
  now(): number;
  /** One HTTP request with the user's token. Throws a `HandsUpError`, also for each status that is no success. */
  request<Answer = unknown>(method: string, path: string, body?: unknown, options?: RequestOptions): Promise<Answer>;
  /**
   * Bids. Repeats the request for up to 30 s while nobody knows whether the bid is stored, which is safe by its key. A
   * `HandsUpError` with `outcome` `unknown` means that it still is not known.
   */
  bid(goodsId: number, price: number, options?: BidOptions): Promise<Bid>;
  /** A page of the inbox. */
  inbox(query?: InboxQuery): Promise<Inbox>;
  /** Marks alarms as read, on all devices: all up to an id, or a list of ids. Returns how many are unread. */
  read(upToOrIds: number | number[]): Promise<number>;
  /** The room of goods; the same object until it is closed. */
  room(goodsId: number): Room;
  /** Opens the alarm connection anew, also after `stopped`. */
  reconnect(): void;
  /** Ends everything on this page. Other tabs go on. */
  close(): void;
}

export type Phase = "scheduled" | "live" | "ended";

export interface User {
  id: number;
  username: string;
  profile_image: string;
  rating_score: number;
  is_active: boolean;
}

/** `GET /goods/{id}/`. */
export interface Goods {
  id: number;
  title: string;
  content: string;
  category: string;
  status: null | true | false;
  seller: User;
  buyer: User | null;
  images: { image: string }[];
  start_price: number;
  predict_price: number;
  high_price: number;
  min_increment: number;
  minimum?: number | null;
  starts_at: string;
  ends_at: string;
  server_time: string;
  bid_seq: number;
  bids: { id: number; user: string; price: number; goods: number }[];
  is_like: boolean;
  like: number[];
  like_count: number;
  trade_room: number | null;
  participants: Participant[];
  participants_count: number;
}

export interface Participant {
  id: number;
  user: string;
}

/** A new object after each change. */
export interface RoomState {
  /** The goods, as they were read last. */
  readonly goods: Goods;
  readonly phase: Phase;
  /** 0 while nobody leads. */
  readonly high_price: number;
  readonly leader: { id: number; name: string } | null;
  /** The least price of the next bid; null if there can be none. */
  readonly minimum: number | null;
  /** Null if the goods have no reserve. */
  readonly reserve_met: boolean | null;
  readonly ends_at: string;
  /** The number of the last entry in the goods' book. */
  readonly seq: number;
  readonly participants: readonly Participant[];
  readonly participants_count: number;
  readonly watchers: number | undefined;
  /** How the auction ended, if the room was open then. */
  readonly result: Ended | null;
}

export interface BidFrame {
  response_type: "bid";
  sender: number;
  sender_name: string;
  sender_image?: string;
  goods_id: number;
  high_price: number;
  seq: number;
  bid_id: number;
  kind?: "bid" | "auto" | "buy_now";
  minimum?: number | null;
  ends_at?: string;
  server_time?: string;
  /** The socket missed it, and it was read over HTTP. */
  missed?: true;
}

export interface Voided {
  response_type: "voided";
  seq: number;
  voids: number[];
  reason: string;
  high_price: number;
  buyer_id: number | null;
  missed?: true;
}

export interface Ended {
  response_type: "ended";
  buyer_id: number | null;
  buyer_name: string | null;
  high_price: number;
  reason: "sold" | "bought" | "no_bids" | "reserve_not_met" | "cancelled";
  server_time: string;
}

export interface Line {
  response_type: "message";
  id: number;
  message: string;
  sender: number;
  sender_name: string;
  goods_id: number;
  /** The local time of day, as it is shown. */
  time: string;
}

export interface RoomEvents {
  status: Status;
  /** The state is another one. */
  change: RoomState;
  /** The state was read anew: lines may have been missed. */
  sync: RoomState;
  /** Each accepted bid once, in the order of `seq`. */
  bid: BidFrame;
  message: Line;
  removed: { response_type: "removed"; id: number; server_time: string };
  started: { response_type: "started"; server_time: string };
  extended: { response_type: "extended"; ends_at: string; server_time: string };
  ended: Ended;
  voided: Voided;
  watchers: { response_type: "watchers"; watchers: number; server_time: string };
  enter: { response_type: "enter"; sender: number; sender_name: string; participants_count: number; user_id: number };
  out: { response_type: "out"; participants_count: number; user_id: number };
  /** The refusal of what this socket sent. Refused bids reject the promise of `bid`. */
  alert: Alert;
}

export interface Room extends Emitter<RoomEvents> {
  readonly id: number;
  readonly status: Status;
  /** Null until it is read. */
  readonly state: RoomState | null;
  bid(price: number, options?: BidOptions): Promise<Bid>;
  /** Says a line. Throws while the room is not connected; refusals come as `alert`. */
  say(message: string): void;
  /** Milliseconds until the end, by the service's clock. */
  remaining(): number;
  close(): void;
}
