// Read by tsc alone: what a user of the types may write, and what not.

import { connect, HandsUpError, type Alarm, type Bid } from "../client/handsup.js";

const client = connect({ url: "https://auction.example", token: async (old) => old ?? null });
const off: () => void = client.on("alarm", (alarm: Alarm) => alarm.kind === "outbid" && alarm.high_price);
off();
client.on("unread", (count) => count.toFixed());
client.on("status", ({ state, via, code }) => [state, via, code]);
// @ts-expect-error there is no such event
client.on("alarms", () => {});
// @ts-expect-error an alarm has no such field
client.on("alarm", (alarm) => alarm.price);
// @ts-expect-error a price is a number
client.bid(1, "1000");

const room = client.room(1);
room.on("bid", ({ seq, missed }) => (missed ? seq : 0));
room.on("ended", ({ buyer_id }) => buyer_id);
// @ts-expect-error the state is null at first
room.state.high_price;
// @ts-expect-error nobody but the library changes the state
if (room.state) room.state.high_price = 1;

export async function play(): Promise<number> {
  try {
    const bid: Bid = await room.bid(room.state?.minimum ?? 1000, { key: "one" });
    const { results } = await client.inbox({ limit: 10, unread: true });
    await client.read(results.map(({ id }) => id));
    return bid.seq;
  } catch (error) {
    if (error instanceof HandsUpError && error.outcome === "unknown") return play();
    throw error;
  }
}
