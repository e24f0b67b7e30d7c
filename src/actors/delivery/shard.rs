//! A `Shard` is the hub's part on one worker: it holds the outboxes of the sessions that live on this worker's thread.
//!
//! The hub and the rooms send encoded frames through a `ShardLink`, one message per commit. The shard puts them into
//! the outboxes without a lock, because sessions and outboxes are on its own thread; sessions use the `ShardHandle`.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use bytes::Bytes;
use slab::Slab;

use super::{
    frame::{Frame, FrameKind},
    outbox::{Offered, Outbox},
    overflow::OverflowFlag,
    received::Receipts,
};
use crate::actors::room_id::RoomId;
use crate::{
    bus::ConnectionId,
    domain::{AlarmCursor, AlarmId},
    protocol::Close,
};

/// Messages that may wait in a shard's mailbox. When it is full, the shard's sessions read the store instead.
const MAILBOX_LIMIT: usize = 1024;

/// Counters shared by all shards of the node. All but `open` count from the start.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Sessions open now, registered or not.
    pub open: AtomicUsize,
    /// Alarm frames put into outboxes.
    pub queued: AtomicU64,
    /// Unread counts and alerts lost to a full mailbox of a shard.
    pub untold: AtomicU64,
    /// Room frames put into outboxes.
    pub room_frames: AtomicU64,
    /// Sockets closed because a full mailbox lost a frame of their room.
    pub closed_for_missing: AtomicU64,
    /// Sessions closed because their outbox was full.
    pub overflows: AtomicU64,
    /// Sessions closed because their client read nothing for too long.
    pub slow: AtomicU64,
    /// Times that a full mailbox made a shard's sessions read the store.
    pub resyncs: AtomicU64,
    /// Times that an inbox check found a session without an alarm of another node, and made it read the store.
    pub behind: AtomicU64,
}

struct SessionEntry {
    connection: ConnectionId,
    outbox: Rc<RefCell<Outbox>>,
    /// Its room, and its key among the room's outboxes.
    room: Option<(RoomId, usize)>,
}

/// The outboxes of this worker's sessions in one room.
type RoomOutboxes = Slab<Rc<RefCell<Outbox>>>;

/// The outboxes of one worker, shared on its thread between the shard and the sessions.
#[derive(Clone)]
pub struct ShardHandle {
    index: usize,
    sessions: Rc<RefCell<Slab<SessionEntry>>>,
    rooms: Rc<RefCell<HashMap<RoomId, RoomOutboxes>>>,
    /// Frames that wait in its outboxes now. Each worker has its own counter, so that workers don't contend for it.
    waiting: Arc<AtomicUsize>,
    stats: Arc<ShardStats>,
    /// Takes the proofs of receipt of its sessions.
    pub(crate) receipts: Receipts,
}

impl ShardHandle {
    /// The shard's index among the workers.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The counter of waiting frames, for a new outbox of this worker.
    pub(crate) fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    /// Adds a session's outbox, also to its room if it is in one. Returns its slot.
    pub(crate) fn add_session(
        &self,
        connection: ConnectionId,
        outbox: Rc<RefCell<Outbox>>,
        room: Option<RoomId>,
    ) -> usize {
        self.stats.open.fetch_add(1, Ordering::Relaxed);
        let room = room.map(|room| {
            let key = self.rooms.borrow_mut().entry(room).or_default().insert(Rc::clone(&outbox));
            (room, key)
        });
        self.sessions.borrow_mut().insert(SessionEntry { connection, outbox, room })
    }

    /// Removes a session; does nothing if its slot holds another connection.
    pub(crate) fn remove_session(&self, slot: usize, connection: ConnectionId) {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.get(slot).is_some_and(|session| session.connection == connection) {
            let SessionEntry { room, .. } = sessions.remove(slot);
            self.stats.open.fetch_sub(1, Ordering::Relaxed);
            if let Some((room, key)) = room
                && let Entry::Occupied(mut outboxes) = self.rooms.borrow_mut().entry(room)
            {
                outboxes.get_mut().remove(key);
                if outboxes.get().is_empty() {
                    outboxes.remove();
                }
            }
        }
    }

    /// Calls `act` for each outbox in a room. The rooms stay borrowed meanwhile: an outbox wakes tasks but runs none.
    fn each_in(&self, room: RoomId, mut act: impl FnMut(&mut Outbox)) {
        for (_, outbox) in self.rooms.borrow().get(&room).into_iter().flatten() {
            act(&mut outbox.borrow_mut());
        }
    }

    /// Calls `act` for each outbox of the worker.
    fn each(&self, mut act: impl FnMut(&mut Outbox)) {
        // The outboxes are collected first, so that the slab is not borrowed while `act` wakes tasks.
        let outboxes: Vec<_> = self.sessions.borrow().iter().map(|(_, session)| Rc::clone(&session.outbox)).collect();
        for outbox in outboxes {
            act(&mut outbox.borrow_mut());
        }
    }
}

/// The actor that fills the outboxes of one worker.
pub struct Shard {
    handle: ShardHandle,
    /// A full mailbox has lost alarms: all sessions read the store.
    overflowed: Arc<AtomicBool>,
    /// Rooms whose frames a full mailbox has lost: their sockets are closed.
    overflowed_rooms: Arc<OverflowFlag<RoomId>>,
    /// Seconds after which a client that reads nothing is disconnected (`session.timeout_s`).
    slow_after_s: u32,
}

/// Sends messages to a shard; the hub and the rooms each hold one per worker.
#[derive(Clone)]
pub(crate) struct ShardLink {
    shard: Addr<Shard>,
    overflowed: Arc<AtomicBool>,
    overflowed_rooms: Arc<OverflowFlag<RoomId>>,
    waiting: Arc<AtomicUsize>,
    stats: Arc<ShardStats>,
}

impl ShardLink {
    /// Frames that wait in the shard's outboxes now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Sends alarms. If the shard's mailbox is full, its sessions read the store.
    pub(crate) fn push(&self, push: Push) {
        if self.shard.try_send(push).is_err() {
            self.stats.resyncs.fetch_add(1, Ordering::Relaxed);
            self.resync();
        }
    }

    /// Sends frames that are not alarms: unread counts and alerts. They are in no store, so they are lost if the
    /// shard's mailbox is full; they would be out of date if they waited.
    pub(crate) fn push_or_drop(&self, push: Push) {
        if self.shard.try_send(push).is_err() {
            self.stats.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes all sessions of the shard read the store. Each `Push` checks the flag; an empty one goes past the
    /// mailbox's limit, because those that wait may all be handled before the flag is set.
    pub(crate) fn resync(&self) {
        if !self.overflowed.swap(true, Ordering::AcqRel) {
            self.shard.do_send(Push(Vec::new()));
        }
    }

    /// Sends orders to rooms. If the shard's mailbox is full, its sockets in these rooms are closed.
    pub(crate) fn push_to_rooms(&self, push: RoomPush) {
        if let Err(SendError::Full(RoomPush(orders)) | SendError::Closed(RoomPush(orders))) = self.shard.try_send(push)
            && self.overflowed_rooms.note(orders.into_iter().map(|(room, _)| room))
        {
            // As in `resync`: an empty message past the limit, so that the record is read for certain.
            self.shard.do_send(RoomPush(Vec::new()));
        }
    }

    /// Sends the newest alarms of inboxes. If the shard's mailbox is full they are dropped: the next inbox check
    /// repeats them.
    pub(crate) fn check_inboxes(&self, ends: InboxEnds) {
        let _ = self.shard.try_send(ends);
    }

    /// Closes sessions; never dropped, as it goes past the mailbox's limit.
    pub(crate) fn close(&self, close: CloseSessions) {
        self.shard.do_send(close);
    }
}

impl Shard {
    /// Starts a shard on the current thread. `slow_after_s` is `session.timeout_s`.
    pub(crate) fn start(
        index: usize,
        slow_after_s: u32,
        stats: Arc<ShardStats>,
        receipts: Receipts,
    ) -> (ShardHandle, ShardLink) {
        let (sessions, rooms, waiting) = (Rc::default(), Rc::default(), Arc::default());
        let handle =
            ShardHandle { index, sessions, rooms, waiting: Arc::clone(&waiting), stats: Arc::clone(&stats), receipts };
        let overflowed = Arc::new(AtomicBool::new(false));
        let overflowed_rooms = Arc::new(OverflowFlag::default());
        let actor = Self {
            handle: handle.clone(),
            overflowed: Arc::clone(&overflowed),
            overflowed_rooms: Arc::clone(&overflowed_rooms),
            slow_after_s,
        };
        let shard = Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_LIMIT);
            actor
        });
        (handle, ShardLink { shard, overflowed, overflowed_rooms, waiting, stats })
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    /// Sweeps the outboxes every second. The sessions can't do it: one whose client doesn't read is not polled any
    /// more.
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(Duration::from_secs(1), |shard, _| {
            // Most of the time no outbox holds a frame.
            if shard.handle.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            let mut slow = 0;
            shard.handle.each(|outbox| slow += u64::from(outbox.sweep(shard.slow_after_s)));
            shard.handle.stats.slow.fetch_add(slow, Ordering::Relaxed);
        });
    }
}

/// One frame for sessions of this shard.
pub(crate) struct Delivery {
    /// The alarm's id; `None` for any other frame.
    pub alarm: Option<AlarmId>,
    /// Encoded once for all receivers.
    pub frame: Bytes,
    /// The sessions that get it.
    pub targets: Vec<SessionTarget>,
}

/// A session of the shard that receives a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionTarget {
    pub slot: usize,
    pub connection: ConnectionId,
    /// For an alarm: the end of the user's inbox before it, `START` if no alarm can be missing. In [`InboxEnds`]: the
    /// end of the inbox. Otherwise unused.
    pub after: AlarmCursor,
}

/// The frames of one commit, or other frames for sessions.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Push(pub Vec<Delivery>);

impl Handler<Push> for Shard {
    type Result = ();

    fn handle(&mut self, Push(deliveries): Push, _: &mut Self::Context) {
        if self.overflowed.swap(false, Ordering::AcqRel) {
            self.handle.each(Outbox::resync);
        }
        let sessions = self.handle.sessions.borrow();
        let (mut queued, mut overflows) = (0, 0);
        for delivery in deliveries {
            // All sessions of this worker share one frame: for a slow client a waiting frame costs a pointer.
            let frame = Rc::new(Frame::new(delivery.alarm.map_or(FrameKind::Other, FrameKind::Alarm), delivery.frame));
            for SessionTarget { slot, connection, after } in delivery.targets {
                let Some(entry) = sessions.get(slot).filter(|entry| entry.connection == connection) else { continue };
                let mut outbox = entry.outbox.borrow_mut();
                let Some(alarm) = delivery.alarm else {
                    outbox.control(frame.bytes.clone());
                    continue;
                };
                match outbox.offer_alarm(alarm, &frame, after) {
                    Offered::Queued => queued += 1,
                    Offered::Overflow => overflows += 1,
                    Offered::Noted | Offered::Stale | Offered::Closed => {}
                }
            }
        }
        self.handle.stats.queued.fetch_add(queued, Ordering::Relaxed);
        self.handle.stats.overflows.fetch_add(overflows, Ordering::Relaxed);
    }
}

/// The end of each session's inbox, in `after`. A session that does not have it yet reads the store.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InboxEnds(pub Vec<SessionTarget>);

impl Handler<InboxEnds> for Shard {
    type Result = ();

    fn handle(&mut self, InboxEnds(ends): InboxEnds, _: &mut Self::Context) {
        let sessions = self.handle.sessions.borrow();
        let mut behind = 0;
        for SessionTarget { slot, connection, after } in ends {
            if let Some(entry) = sessions.get(slot).filter(|entry| entry.connection == connection) {
                behind += u64::from(entry.outbox.borrow_mut().inbox_ends_with(after));
            }
        }
        self.handle.stats.behind.fetch_add(behind, Ordering::Relaxed);
    }
}

/// An order for all sockets of a room.
#[derive(Debug, Clone)]
pub(crate) enum RoomOrder {
    /// Send this frame, encoded once for all.
    Frame { bytes: Bytes, kind: FrameKind },
    /// Close them for this reason.
    Close(Close),
    /// Close them because a frame was lost; the clients reconnect and read the room's state anew.
    CloseForOverflow,
}

/// Orders for rooms, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RoomPush(pub Vec<(RoomId, RoomOrder)>);

impl Handler<RoomPush> for Shard {
    type Result = ();

    fn handle(&mut self, RoomPush(orders): RoomPush, _: &mut Self::Context) {
        let mut closed = 0;
        let mut close_for_overflow = |room| {
            self.handle.each_in(room, |outbox| {
                closed += u64::from(!outbox.is_closed());
                outbox.close(Close::TryAgainLater);
            });
        };
        self.overflowed_rooms.take().into_iter().for_each(&mut close_for_overflow);
        let (mut queued, mut overflows) = (0, 0);
        for (room, order) in orders {
            match order {
                RoomOrder::Frame { bytes, kind } => {
                    let frame = Rc::new(Frame::new(kind, bytes));
                    self.handle.each_in(room, |outbox| match outbox.offer_room_frame(&frame) {
                        Offered::Queued => queued += 1,
                        Offered::Overflow => overflows += 1,
                        Offered::Noted | Offered::Stale | Offered::Closed => {}
                    });
                }
                RoomOrder::CloseForOverflow => close_for_overflow(room),
                RoomOrder::Close(close) => self.handle.each_in(room, |outbox| outbox.close(close)),
            }
        }
        self.handle.stats.closed_for_missing.fetch_add(closed, Ordering::Relaxed);
        self.handle.stats.room_frames.fetch_add(queued, Ordering::Relaxed);
        self.handle.stats.overflows.fetch_add(overflows, Ordering::Relaxed);
    }
}

/// Closes sessions.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum CloseSessions {
    /// These sessions, for this reason.
    These(Vec<SessionTarget>, Close),
    /// All sessions, because the node restarts. Each client is sent its own random time after which to reconnect.
    Restarting {
        /// The shortest time.
        from_ms: u64,
        /// By how much the longest time exceeds it.
        spread_ms: u64,
    },
}

impl Handler<CloseSessions> for Shard {
    type Result = ();

    fn handle(&mut self, close: CloseSessions, _: &mut Self::Context) {
        match close {
            CloseSessions::These(targets, close) => {
                for SessionTarget { slot, connection, .. } in targets {
                    let sessions = self.handle.sessions.borrow();
                    if let Some(entry) = sessions.get(slot).filter(|entry| entry.connection == connection) {
                        entry.outbox.borrow_mut().close(close);
                    }
                }
            }
            CloseSessions::Restarting { from_ms, spread_ms } => self.handle.each(|outbox| {
                let retry_ms = from_ms + rand::random_range(0..=spread_ms);
                outbox.close(Close::Restarting { retry_ms });
            }),
        }
    }
}
