//! A worker's share of the hub: the outboxes of the sessions that live on this worker's thread.
//!
//! The hub wakes each shard once per commit; the shard puts the ready frames into the outboxes without any lock.

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
    frame::Frame,
    outbox::{Offered, Outbox},
    overflow::OverflowFlag,
    received::Receipts,
};
use crate::actors::room_id::RoomId;
use crate::{domain::AlarmId, protocol::Close};

/// Messages that may wait; beyond, the shard's sessions read the store instead.
const MAILBOX: usize = 1024;

/// Figures of all shards of the node.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Sessions that hold a seat now, admitted or not.
    pub seats: AtomicUsize,
    /// Alarm frames put into outboxes.
    pub queued: AtomicU64,
    /// Unread counts and alerts lost because a shard's mailbox was full.
    pub untold: AtomicU64,
    /// Frames of rooms put into outboxes.
    pub heard: AtomicU64,
    /// Sockets closed because their room missed something when a mailbox was full.
    pub closed_for_missing: AtomicU64,
    /// Sessions closed because too much waited for them.
    pub overflows: AtomicU64,
    /// Sessions closed because their client took nothing for too long.
    pub slow: AtomicU64,
    /// Times that a shard's sessions had to read the store because its mailbox was full.
    pub resyncs: AtomicU64,
    /// Sessions that had not been told of an alarm of another node, and read it from the store.
    pub behind: AtomicU64,
}

struct Occupied {
    connection: u64,
    outbox: Rc<RefCell<Outbox>>,
    /// Its room, and its place there.
    room: Option<(RoomId, usize)>,
}

/// The outboxes of this worker's sessions in one room.
type Bench = Slab<Rc<RefCell<Outbox>>>;

/// The outboxes of one worker: shared, on one thread, between the shard and the sessions.
#[derive(Clone)]
pub struct ShardHandle {
    index: usize,
    seats: Rc<RefCell<Slab<Occupied>>>,
    rooms: Rc<RefCell<HashMap<RoomId, Bench>>>,
    /// Frames that wait in its outboxes now. Its own, so that the workers don't take it from each other for each frame.
    waiting: Arc<AtomicUsize>,
    stats: Arc<ShardStats>,
    /// What its sessions have proved to have.
    pub(crate) receipts: Receipts,
}

impl ShardHandle {
    /// Which shard this is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Counts the frames that wait in the outboxes of this worker.
    pub(crate) fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    /// Seats an outbox, in a room if it is in one; returns its slot.
    pub(crate) fn seat(&self, connection: u64, outbox: Rc<RefCell<Outbox>>, room: Option<RoomId>) -> usize {
        self.stats.seats.fetch_add(1, Ordering::Relaxed);
        let room = room.map(|room| {
            let place = self.rooms.borrow_mut().entry(room).or_default().insert(Rc::clone(&outbox));
            (room, place)
        });
        self.seats.borrow_mut().insert(Occupied { connection, outbox, room })
    }

    /// Gives the slot back.
    pub(crate) fn unseat(&self, slot: usize, connection: u64) {
        let mut seats = self.seats.borrow_mut();
        if seats.get(slot).is_some_and(|seated| seated.connection == connection) {
            let Occupied { room, .. } = seats.remove(slot);
            self.stats.seats.fetch_sub(1, Ordering::Relaxed);
            if let Some((room, place)) = room
                && let Entry::Occupied(mut bench) = self.rooms.borrow_mut().entry(room)
            {
                bench.get_mut().remove(place);
                if bench.get().is_empty() {
                    bench.remove();
                }
            }
        }
    }

    /// Everybody of this worker in a room. An outbox only wakes tasks, it calls nobody: the rooms stay borrowed.
    fn each_in(&self, room: RoomId, mut act: impl FnMut(&mut Outbox)) {
        for (_, outbox) in self.rooms.borrow().get(&room).into_iter().flatten() {
            act(&mut outbox.borrow_mut());
        }
    }

    fn each(&self, mut act: impl FnMut(&mut Outbox)) {
        // Taken out first: an outbox wakes tasks, and whatever those do, the slab is not borrowed meanwhile.
        let outboxes: Vec<_> = self.seats.borrow().iter().map(|(_, seated)| Rc::clone(&seated.outbox)).collect();
        for outbox in outboxes {
            act(&mut outbox.borrow_mut());
        }
    }
}

/// One per worker thread.
pub struct Shard {
    seats: ShardHandle,
    missed: Arc<AtomicBool>,
    missed_rooms: Arc<OverflowFlag<RoomId>>,
    /// Seconds after which a client that takes nothing is let go (`session.timeout_s`).
    slow_after_s: u32,
}

/// The hub's way to a shard.
#[derive(Clone)]
pub(crate) struct ShardLink {
    shard: Addr<Shard>,
    missed: Arc<AtomicBool>,
    missed_rooms: Arc<OverflowFlag<RoomId>>,
    waiting: Arc<AtomicUsize>,
    stats: Arc<ShardStats>,
}

impl ShardLink {
    /// Frames that wait in the shard's outboxes now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Hands alarms over. If the shard's mailbox is full, its sessions read the store.
    pub(crate) fn push(&self, push: Push) {
        if self.shard.try_send(push).is_err() {
            self.stats.resyncs.fetch_add(1, Ordering::Relaxed);
            self.resync();
        }
    }

    /// Hands over what is no alarm and in no store. If the shard's mailbox is full, it is lost: an answer that comes too
    /// late for everybody is none.
    pub(crate) fn tell(&self, push: Push) {
        if self.shard.try_send(push).is_err() {
            self.stats.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every message looks at the flag; one more comes behind it, past the bound, in case the others were quicker.
    pub(crate) fn resync(&self) {
        if !self.missed.swap(true, Ordering::AcqRel) {
            self.shard.do_send(Push(Vec::new()));
        }
    }

    /// Hands on what rooms hear. If the shard's mailbox is full, its sockets in these rooms end.
    pub(crate) fn push_to_rooms(&self, push: RoomPush) {
        if let Err(SendError::Full(RoomPush(orders)) | SendError::Closed(RoomPush(orders))) = self.shard.try_send(push)
            && self.missed_rooms.note(orders.into_iter().map(|(room, _)| room))
        {
            // Every message looks; one more comes behind them, past the bound, in case those were quicker.
            self.shard.do_send(RoomPush(Vec::new()));
        }
    }

    /// Hands on where inboxes end. If the shard's mailbox is full, that is looked up again soon.
    pub(crate) fn inboxes_end(&self, ends: InboxesEnd) {
        let _ = self.shard.try_send(ends);
    }

    pub(crate) fn close(&self, close: CloseSeats) {
        self.shard.do_send(close);
    }
}

impl Shard {
    /// Starts a shard on the current thread.
    pub(crate) fn start(
        index: usize,
        slow_after_s: u32,
        stats: Arc<ShardStats>,
        receipts: Receipts,
    ) -> (ShardHandle, ShardLink) {
        let (seats, rooms, waiting) = (Rc::default(), Rc::default(), Arc::default());
        let seats =
            ShardHandle { index, seats, rooms, waiting: Arc::clone(&waiting), stats: Arc::clone(&stats), receipts };
        let missed = Arc::new(AtomicBool::new(false));
        let missed_rooms = Arc::new(OverflowFlag::default());
        let of_shard = Self {
            seats: seats.clone(),
            missed: Arc::clone(&missed),
            missed_rooms: Arc::clone(&missed_rooms),
            slow_after_s,
        };
        let shard = Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            of_shard
        });
        (seats, ShardLink { shard, missed, missed_rooms, waiting, stats })
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    /// Sweeps here and not in the sessions: a session whose client doesn't read is not polled any more.
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(Duration::from_secs(1), |shard, _| {
            // Most of the time nothing waits for anybody.
            if shard.seats.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            let mut slow = 0;
            shard.seats.each(|outbox| slow += u64::from(outbox.sweep(shard.slow_after_s)));
            shard.seats.stats.slow.fetch_add(slow, Ordering::Relaxed);
        });
    }
}

/// One frame for sessions of this shard.
pub(crate) struct Delivery {
    /// Which alarm it is; `None` for a frame that is none.
    pub alarm: Option<AlarmId>,
    /// Encoded once for all receivers.
    pub frame: Bytes,
    /// Who is meant.
    pub seats: Vec<Seated>,
}

/// A session of this shard, and what goes before what it gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seated {
    pub slot: usize,
    pub connection: u64,
    /// The alarm before in its user's inbox, 0 if nothing can have been missed.
    pub after: i64,
}

/// The alarms of one commit.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Push(pub Vec<Delivery>);

impl Handler<Push> for Shard {
    type Result = ();

    fn handle(&mut self, Push(deliveries): Push, _: &mut Self::Context) {
        if self.missed.swap(false, Ordering::AcqRel) {
            self.seats.each(Outbox::resync);
        }
        let seats = self.seats.seats.borrow();
        let (mut queued, mut overflows) = (0, 0);
        for delivery in deliveries {
            // One for all sessions of this worker: what waits for a slow one is a pointer a frame.
            let frame = Rc::new(Frame::new(delivery.alarm.map_or(0, AlarmId::get), delivery.frame));
            for Seated { slot, connection, after } in delivery.seats {
                let Some(seated) = seats.get(slot).filter(|seated| seated.connection == connection) else { continue };
                let mut outbox = seated.outbox.borrow_mut();
                if delivery.alarm.is_none() {
                    outbox.control(frame.bytes.clone());
                    continue;
                }
                match outbox.offer(&frame, after) {
                    Offered::Queued => queued += 1,
                    Offered::Overflow => overflows += 1,
                    Offered::Noted | Offered::Stale | Offered::Closed => {}
                }
            }
        }
        self.seats.stats.queued.fetch_add(queued, Ordering::Relaxed);
        self.seats.stats.overflows.fetch_add(overflows, Ordering::Relaxed);
    }
}

/// The inboxes of sessions end with these alarms (in `after`): who has not had them reads the store.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InboxesEnd(pub Vec<Seated>);

impl Handler<InboxesEnd> for Shard {
    type Result = ();

    fn handle(&mut self, InboxesEnd(ends): InboxesEnd, _: &mut Self::Context) {
        let seats = self.seats.seats.borrow();
        let mut behind = 0;
        for Seated { slot, connection, after } in ends {
            if let Some(seated) = seats.get(slot).filter(|seated| seated.connection == connection) {
                behind += u64::from(seated.outbox.borrow_mut().inbox_ends_with(after));
            }
        }
        self.seats.stats.behind.fetch_add(behind, Ordering::Relaxed);
    }
}

/// What the sockets of a room get.
#[derive(Debug, Clone)]
pub(crate) enum RoomOrder {
    /// A frame, encoded once for all of them; with the trade message that it is (0: none).
    Frame { bytes: Bytes, id: i64 },
    /// They end.
    Close(Close),
    /// They end, because something was missed, and may come back.
    CloseForMissing,
}

/// What rooms hear, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RoomPush(pub Vec<(RoomId, RoomOrder)>);

impl Handler<RoomPush> for Shard {
    type Result = ();

    fn handle(&mut self, RoomPush(orders): RoomPush, _: &mut Self::Context) {
        let mut closed = 0;
        let mut close_for_missing = |room| {
            self.seats.each_in(room, |outbox| {
                closed += u64::from(!outbox.is_closed());
                outbox.close(Close::TryAgainLater);
            });
        };
        self.missed_rooms.take().into_iter().for_each(&mut close_for_missing);
        let (mut heard, mut overflows) = (0, 0);
        for (room, order) in orders {
            match order {
                RoomOrder::Frame { bytes, id } => {
                    let frame = Rc::new(Frame::new(id, bytes));
                    self.seats.each_in(room, |outbox| match outbox.hear(&frame) {
                        Offered::Queued => heard += 1,
                        Offered::Overflow => overflows += 1,
                        Offered::Noted | Offered::Stale | Offered::Closed => {}
                    });
                }
                RoomOrder::CloseForMissing => close_for_missing(room),
                RoomOrder::Close(close) => self.seats.each_in(room, |outbox| outbox.close(close)),
            }
        }
        self.seats.stats.closed_for_missing.fetch_add(closed, Ordering::Relaxed);
        self.seats.stats.heard.fetch_add(heard, Ordering::Relaxed);
        self.seats.stats.overflows.fetch_add(overflows, Ordering::Relaxed);
    }
}

/// Closes sessions.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum CloseSeats {
    /// These, for this reason.
    Some(Vec<Seated>, Close),
    /// All of them, told to come back after a time of their own, spread over so many ms.
    Restarting {
        /// The shortest wait.
        from_ms: u64,
        /// How much longer the longest is.
        spread_ms: u64,
    },
}

impl Handler<CloseSeats> for Shard {
    type Result = ();

    fn handle(&mut self, close: CloseSeats, _: &mut Self::Context) {
        match close {
            CloseSeats::Some(which, close) => {
                for Seated { slot, connection, .. } in which {
                    let seats = self.seats.seats.borrow();
                    if let Some(seated) = seats.get(slot).filter(|seated| seated.connection == connection) {
                        seated.outbox.borrow_mut().close(close);
                    }
                }
            }
            CloseSeats::Restarting { from_ms, spread_ms } => self.seats.each(|outbox| {
                let retry_ms = from_ms + rand::random_range(0..=spread_ms);
                outbox.close(Close::Restarting { retry_ms });
            }),
        }
    }
}
