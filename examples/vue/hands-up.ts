// Composables for Vue. A page makes one client:
//   export const client = connect({ token: fetchToken });

import { onScopeDispose, readonly, ref, shallowRef, type Ref, type ShallowRef } from "vue";
import type { Alarm, Client, Room, RoomState, Status } from "handsup-client";

/** Calls `show` with each alarm. */
export function useAlarms(client: Client, show: (alarm: Alarm) => void): { unread: Readonly<Ref<number>>; status: Readonly<ShallowRef<Status>> } {
  const unread = ref(client.unread);
  const status = shallowRef(client.status);
  const ends = [
    client.on("alarm", show),
    client.on("unread", (count) => (unread.value = count)),
    client.on("status", (now) => (status.value = now)),
  ];
  onScopeDispose(() => ends.forEach((end) => end()));
  return { unread: readonly(unread), status };
}

/** The room of goods as long as the component is there; its state is null until it is read. */
export function useRoom(client: Client, goodsId: number): { room: Room; state: Readonly<ShallowRef<RoomState | null>> } {
  const room = client.room(goodsId);
  const state = shallowRef(room.state);
  room.on("change", (now) => (state.value = now));
  onScopeDispose(() => room.close());
  return { room, state };
}

/** Seconds until the end, by the service's clock. */
export function useCountdown(room: Room): Readonly<Ref<number>> {
  const seconds = ref(0);
  const timer = setInterval(() => (seconds.value = Math.ceil(room.remaining() / 1000)), 200);
  onScopeDispose(() => clearInterval(timer));
  return readonly(seconds);
}
