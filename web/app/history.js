// What has happened in a room: bids with their times and lines, read over HTTP and then followed.

import { client } from "./session.js";

/** Of longer auctions only so many newest bids are read. */
const MOST_BIDS = 600;

export function history(goodsId) {
  const bids = new Map();
  const lines = new Map();
  const notes = [];
  let zoneOffset;

  return {
    async readBids(state) {
      let after = Math.max(0, state.seq - MOST_BIDS);
      while (after !== null) {
        const page = await client.request("GET", `/goods/${goodsId}/bids?after_seq=${after}&limit=200`);
        for (const entry of page.results) this.add(entry);
        after = page.next_after_seq;
      }
    },
    async readLines(goods) {
      zoneOffset ??= offsetOf(goods);
      const results = await client.request("GET", `/goods/${goodsId}/chat/`);
      let latest = client.now() + 60_000;
      for (const line of results) {
        latest = momentOf(line.created_at, zoneOffset, latest);
        const known = lines.get(line.id);
        lines.set(line.id, { key: `line ${line.id}`, at: known?.at ?? latest, order: line.id, name: line.author, user_id: known?.user_id, text: line.content });
      }
    },
    /** An entry of the book. */
    add({ seq, kind, user_id, username, price, created_at, voided, voids }) {
      if (kind === "void") return this.void(voids);
      bids.set(seq, { key: `bid ${seq}`, at: Date.parse(created_at), order: seq, user_id, name: username, price, kind, voided });
    },
    /** A frame `bid`. */
    addFrame({ seq, kind, sender, sender_name, high_price, server_time }) {
      const at = server_time ? Date.parse(server_time) : client.now();
      if (!bids.has(seq)) bids.set(seq, { key: `bid ${seq}`, at, order: seq, user_id: sender, name: sender_name, price: high_price, kind });
    },
    addLine({ id, message, sender, sender_name }) {
      lines.set(id, { key: `line ${id}`, at: client.now(), order: id, user_id: sender, name: sender_name, text: message });
    },
    note(text) {
      notes.push({ key: `note ${notes.length}`, at: client.now(), order: notes.length, text, isNote: true });
    },
    void(seqs) {
      for (const seq of seqs) if (bids.has(seq)) bids.set(seq, { ...bids.get(seq), voided: true });
    },
    remove: (lineId) => lines.delete(lineId),
    hasBidOf: (userId) => [...bids.values()].some((bid) => bid.user_id === userId && !bid.voided),
    get standing() {
      return [...bids.values()].filter(({ voided }) => !voided).sort((a, b) => a.order - b.order);
    },
    get newestFirst() {
      return [...bids.values(), ...lines.values(), ...notes].sort((a, b) => b.at - a.at || b.order - a.order);
    },
  };
}

/** Lines say the time of day in the auction's time zone: its distance from UTC, from a time that goods give in both. */
function offsetOf({ starts_at, start_date, start_time }) {
  return Date.parse(`${start_date}T${start_time}:00Z`) - Math.floor(Date.parse(starts_at) / 60_000) * 60_000;
}

/** `오후 05:25` → the last such moment that is not after `latest`. */
function momentOf(text, offset, latest) {
  const found = /(오전|오후)?\s*(\d+):(\d+)/.exec(text);
  if (!found) return latest;
  const [, half, hour, minute] = found;
  const hours = (Number(hour) % 12) + (half === "오후" ? 12 : 0);
  const day = 86_400_000;
  const timeOfDay = (((hours * 60 + Number(minute)) * 60_000 - offset) % day + day) % day;
  const moment = Math.floor(latest / day) * day + timeOfDay;
  return moment > latest ? moment - day : moment;
}
