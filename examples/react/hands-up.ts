// Hooks for React. A page makes one client, outside of its components:
//   export const client = connect({ token: fetchToken });

import { useEffect, useState } from "react";
import type { Alarm, Client, Room, RoomState, Status } from "handsup-client";

/** Calls `show` with each alarm. Give it a function that stays the same, as of `useCallback`. */
export function useAlarms(client: Client, show: (alarm: Alarm) => void): { unread: number; status: Status } {
  const [unread, setUnread] = useState(client.unread);
  const [status, setStatus] = useState(client.status);
  useEffect(() => {
    const ends = [client.on("alarm", show), client.on("unread", setUnread), client.on("status", setStatus)];
    // What has changed between rendering and listening.
    setUnread(client.unread);
    setStatus(client.status);
    return () => ends.forEach((end) => end());
  }, [client, show]);
  return { unread, status };
}

/** The room of goods as long as the component is there; its state is null until it is read. */
export function useRoom(client: Client, goodsId: number): { room: Room | null; state: RoomState | null } {
  const [room, setRoom] = useState<Room | null>(null);
  const [state, setState] = useState<RoomState | null>(null);
  useEffect(() => {
    const opened = client.room(goodsId);
    setRoom(opened);
    setState(opened.state);
    const end = opened.on("change", setState);
    return () => {
      end();
      opened.close();
    };
  }, [client, goodsId]);
  return { room, state };
}

/** Seconds until the end, by the service's clock. */
export function useCountdown(room: Room | null): number {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    if (!room) return;
    const timer = setInterval(() => setSeconds(Math.ceil(room.remaining() / 1000)), 200);
    return () => clearInterval(timer);
  }, [room]);
  return seconds;
}
