import { useState } from "react";
import type { Client } from "handsup-client";
import { useCountdown, useRoom } from "./hands-up.js";

export function Auction({ client, goodsId }: { client: Client; goodsId: number }) {
  const { room, state } = useRoom(client, goodsId);
  const seconds = useCountdown(room);
  const [refusal, setRefusal] = useState("");
  if (!room || !state) return <p>…</p>;
  const { goods, phase, high_price, leader, minimum } = state;
  const isLeader = leader !== null && leader.id === client.user_id;
  const raise = async () => {
    if (minimum === null) return;
    try {
      await room.bid(minimum);
      setRefusal("");
    } catch (error) {
      setRefusal(error instanceof Error ? error.message : "");
    }
  };
  return (
    <article>
      <h1>{goods.title}</h1>
      <p aria-live="polite">
        {high_price.toLocaleString()}, ends in {seconds} s
      </p>
      <p role="status">{isLeader ? "You lead." : leader ? `${leader.name} leads.` : "Nobody has bid yet."}</p>
      {phase === "live" && minimum !== null && (
        <button disabled={isLeader} onClick={raise}>
          Bid {minimum.toLocaleString()}
        </button>
      )}
      <p role="alert">{refusal}</p>
    </article>
  );
}
