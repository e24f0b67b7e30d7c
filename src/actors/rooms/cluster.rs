//! Room events, in order and complete, when the service has several nodes. For each room with sockets here,
//! [`RoomsCluster`] starts an [`EventSequencer`] from the store before the sockets are admitted, and reads from the
//! store what the sequencer misses.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{
    node_presence::NodePresence,
    sequencer::EventSequencer,
    table::{Orders, RoomTable},
};
use crate::actors::room_id::RoomId;
use crate::{
    bus::{Bus, Channel},
    domain::{GoodsId, Phase},
    metrics::Counter,
    store::{ROOM_EVENTS_LIMIT, RoomCursor, RoomEvent, Store, StoreError},
};

/// How long a bid waits for the bids before it, until those are read from the store.
const BID_GAP_TIMEOUT: Duration = Duration::from_millis(250);
/// Rooms that may read missed events at the same time.
const CATCH_UP_READS_LIMIT: usize = 4;
/// Events of one room that may wait until its sequencer starts. The room reads the rest from the store.
const EARLY_EVENTS_LIMIT: usize = 1000;

/// Something that [`RoomsCluster`] has waited for. The actor of the rooms passes it to [`RoomsCluster::resume`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Awaited {
    /// Where the store stands with a room that has subscribed to its channel.
    Cursor(RoomId, u64, Result<Vec<RoomCursor>, StoreError>),
    /// Events that a room has missed.
    Events(RoomId, u64, Result<Vec<RoomEvent>, StoreError>),
    /// [`BID_GAP_TIMEOUT`] has passed.
    GapTimeout(RoomId),
}

/// How far a room has come in receiving the events of all nodes.
struct RoomSync {
    /// Unique to this start of a sequencer. The result of a read that belongs to an earlier start is dropped.
    generation: u64,
    /// The store is being read to start the sequencer.
    is_starting: bool,
    /// `None` until it has started.
    sequencer: Option<EventSequencer>,
    /// Events that came before the sequencer started.
    early_events: Vec<RoomEvent>,
    /// Sockets that wait for the start. They are sent whether the room receives all its events from now on.
    waiting: Vec<oneshot::Sender<bool>>,
    /// The store is being read for missed events, or this read is queued.
    is_catching_up: bool,
}

/// The part of the rooms that exists only in a cluster.
pub(crate) struct RoomsCluster {
    pub presence: NodePresence,
    bus: Bus,
    store: Store,
    actor: Recipient<Awaited>,
    /// For each room with sockets here.
    syncs: HashMap<RoomId, RoomSync>,
    /// The newest [`RoomSync::generation`] of any room.
    last_generation: u64,
    /// Rooms that wait to read the events that they have missed.
    catch_up_queue: VecDeque<RoomId>,
    /// Rooms that are reading them now.
    active_reads: usize,
    /// Times that a room had to read what it has missed.
    gaps: Counter,
}

/// The bus channel that carries the events of this room.
fn channel(id: RoomId) -> Channel {
    match id {
        RoomId::Auction(goods) => Channel::Auction(goods),
        RoomId::Trade(goods) => Channel::Trade(goods),
    }
}

impl RoomsCluster {
    pub(crate) fn new(bus: Bus, store: Store, actor: Recipient<Awaited>, gaps: Counter) -> Self {
        Self {
            presence: NodePresence::new(bus.clone()),
            bus,
            store,
            actor,
            syncs: HashMap::new(),
            last_generation: 0,
            catch_up_queue: VecDeque::new(),
            active_reads: 0,
            gaps,
        }
    }

    /// Sends the actor what the future gives.
    fn wait_for<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
        awaited: impl FnOnce(T) -> Awaited + 'static,
    ) {
        let actor = self.actor.clone();
        actix::spawn(async move { actor.do_send(awaited(future.await)) });
    }

    /// Continues with something awaited.
    pub(crate) fn resume(&mut self, awaited: Awaited, table: &mut RoomTable) {
        match awaited {
            Awaited::Cursor(id, generation, cursors) => self.sync_started(id, generation, cursors, table),
            Awaited::Events(id, generation, events) => {
                self.active_reads -= 1;
                self.caught_up(id, generation, events, table);
                self.start_reads();
            }
            Awaited::GapTimeout(id) => {
                let sequencer = self.syncs.get(&id).and_then(|sync| sync.sequencer.as_ref());
                if sequencer.is_some_and(EventSequencer::is_waiting) {
                    self.catch_up(id);
                }
            }
        }
    }

    /// Makes sure that the room's sequencer runs. `None`: it does. Otherwise gets true when the room receives all its
    /// events, false if the store can't be read.
    pub(crate) fn start_sync(&mut self, id: RoomId) -> Option<oneshot::Receiver<bool>> {
        let mut subscribed = None;
        let sync = self.syncs.entry(id).or_insert_with(|| {
            subscribed = Some(self.bus.subscribe(channel(id)));
            RoomSync {
                generation: 0,
                is_starting: false,
                sequencer: None,
                early_events: Vec::new(),
                waiting: Vec::new(),
                is_catching_up: false,
            }
        });
        if sync.sequencer.is_some() {
            return None;
        }
        let (ready, is_ready) = oneshot::channel();
        sync.waiting.push(ready);
        if !std::mem::replace(&mut sync.is_starting, true) {
            self.last_generation += 1;
            sync.generation = self.last_generation;
            let (store, generation) = (self.store.clone(), sync.generation);
            // Subscribe first, then read: what is committed from here on comes over the bus or is in what is read.
            let read = async move {
                if let Some(subscribed) = subscribed {
                    subscribed.await;
                }
                store.room_cursors(vec![id.goods()]).await
            };
            self.wait_for(read, move |cursors| Awaited::Cursor(id, generation, cursors));
        }
        Some(is_ready)
    }

    /// The last socket of a room has closed: it stops following its events.
    pub(crate) fn stop_sync(&mut self, id: RoomId) {
        if self.syncs.remove(&id).is_some() {
            self.bus.unsubscribe(channel(id));
        }
    }

    fn sync_started(
        &mut self,
        id: RoomId,
        generation: u64,
        cursors: Result<Vec<RoomCursor>, StoreError>,
        table: &mut RoomTable,
    ) {
        let Some(sync) = self.syncs.get_mut(&id).filter(|sync| sync.generation == generation) else { return };
        sync.is_starting = false;
        let waiting = std::mem::take(&mut sync.waiting);
        let early = std::mem::take(&mut sync.early_events);
        let is_ready = match cursors {
            Ok(cursors) => {
                // No cursor: the goods were deleted meanwhile. The session that opens the socket checks that itself.
                sync.sequencer = cursors.into_iter().next().map(|cursor| EventSequencer::start(id, cursor, &early));
                true
            }
            Err(error) => {
                log::debug!(goods = id.goods().get(), error:%; "refusing a socket: its room can't be read");
                false
            }
        };
        let mut orders = Orders::new();
        for event in early {
            self.sequence_event(event, table, &mut orders);
        }
        table.push(orders);
        for ready in waiting {
            let _ = ready.send(is_ready);
        }
    }

    /// Takes an event of any node. Adds orders for what the room's sockets may now be sent: each event once, bids in
    /// the order of their numbers.
    pub(crate) fn sequence_event(&mut self, event: RoomEvent, table: &mut RoomTable, orders: &mut Orders) {
        let id = RoomId::of(&event);
        if let RoomEvent::Ended { .. } | RoomEvent::Cancelled { .. } = event
            && let Some(room) = table.rooms.get_mut(&id)
        {
            room.is_over = true;
        }
        let Some(sync) = self.syncs.get_mut(&id) else { return };
        let ready = match (&mut sync.sequencer, event) {
            (_, event @ RoomEvent::Deleted(_)) => vec![event],
            (Some(sequencer), event) => {
                let ready = sequencer.take(event);
                if sequencer.is_waiting() && !sync.is_catching_up {
                    if self.bus.is_receiving() {
                        self.wait_for(tokio::time::sleep(BID_GAP_TIMEOUT), move |()| Awaited::GapTimeout(id));
                    } else {
                        self.catch_up(id);
                    }
                }
                ready
            }
            (None, event) => {
                if sync.early_events.len() < EARLY_EVENTS_LIMIT {
                    sync.early_events.push(event);
                }
                return;
            }
        };
        for event in &ready {
            table.add_orders(event, orders);
        }
    }

    /// Queues a read of the events that the room has missed. Rooms with a gap in their bids go first.
    pub(crate) fn catch_up(&mut self, id: RoomId) {
        if let Some(sync) = self.syncs.get_mut(&id)
            && let Some(sequencer) = &sync.sequencer
            && !std::mem::replace(&mut sync.is_catching_up, true)
        {
            self.gaps.inc();
            if sequencer.is_waiting() {
                self.catch_up_queue.push_front(id);
            } else {
                self.catch_up_queue.push_back(id);
            }
            self.start_reads();
        }
    }

    fn start_reads(&mut self) {
        while self.active_reads < CATCH_UP_READS_LIMIT {
            let Some(id) = self.catch_up_queue.pop_front() else { return };
            let Some(sync) = self.syncs.get(&id) else { continue };
            let Some(sequencer) = &sync.sequencer else { continue };
            let (store, cursor, generation) = (self.store.clone(), sequencer.cursor(), sync.generation);
            let read = async move { store.events_since(cursor).await };
            self.wait_for(read, move |events| Awaited::Events(id, generation, events));
            self.active_reads += 1;
        }
    }

    fn caught_up(
        &mut self,
        id: RoomId,
        generation: u64,
        events: Result<Vec<RoomEvent>, StoreError>,
        table: &mut RoomTable,
    ) {
        let Some(sync) = self.syncs.get_mut(&id).filter(|sync| sync.generation == generation) else { return };
        sync.is_catching_up = false;
        match (events, &mut sync.sequencer) {
            (Ok(events), Some(sequencer)) => {
                let may_be_more = events.len() >= ROOM_EVENTS_LIMIT;
                let mut orders = Orders::new();
                for event in sequencer.catch_up(events) {
                    table.add_orders(&event, &mut orders);
                }
                table.push(orders);
                if may_be_more {
                    self.catch_up(id);
                }
            }
            // The next poll tries again.
            (Err(error), _) => {
                log::debug!(goods = id.goods().get(), error:%; "the missed events of a room can't be read")
            }
            (Ok(_), None) => {}
        }
    }

    /// Compares the rooms of these goods with where the store stands. Those that are behind catch up; those whose goods
    /// are not in the store any more close.
    pub(crate) fn compare(&mut self, goods: &[GoodsId], cursors: &[RoomCursor], table: &mut RoomTable) {
        for now in cursors {
            for id in [RoomId::Auction(now.goods), RoomId::Trade(now.goods)] {
                if let Some(room) = table.rooms.get_mut(&id) {
                    room.is_over |= now.phase == Phase::Ended;
                }
                let sequencer = self.syncs.get(&id).and_then(|sync| sync.sequencer.as_ref());
                if sequencer.is_some_and(|sequencer| sequencer.is_waiting() || sequencer.is_behind(now)) {
                    self.catch_up(id);
                }
            }
        }
        let existing: HashSet<GoodsId> = cursors.iter().map(|cursor| cursor.goods).collect();
        let mut orders = Orders::new();
        for deleted in goods.iter().filter(|goods| !existing.contains(goods)) {
            self.sequence_event(RoomEvent::Deleted(*deleted), table, &mut orders);
        }
        table.push(orders);
    }
}
