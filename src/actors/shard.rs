//! A worker's share of the hub: the outboxes of the sessions that live on this worker's thread.
//!
//! The hub wakes each shard once per commit; the shard puts the ready frames into the outboxes without any lock.

use std::{
    cell::RefCell,
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

use super::session::outbox::{Frame, Offered, Outbox};
use crate::{domain::AlarmId, protocol::Close};

/// Messages that may wait; beyond, the shard's sessions read the store instead.
const MAILBOX: usize = 1024;

/// Figures of all shards of the node.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Sessions that hold a seat now, admitted or not.
    pub seats: AtomicUsize,
    /// Frames that wait in outboxes now.
    pub waiting: Arc<AtomicUsize>,
    /// Alarm frames put into outboxes.
    pub queued: AtomicU64,
    /// Sessions closed because too much waited for them.
    pub overflows: AtomicU64,
    /// Sessions closed because their client took nothing for too long.
    pub slow: AtomicU64,
    /// Times that a shard's sessions had to read the store because its mailbox was full.
    pub resyncs: AtomicU64,
}

struct Seated {
    connection: u64,
    outbox: Rc<RefCell<Outbox>>,
}

/// The outboxes of one worker: shared, on one thread, between the shard and the sessions.
#[derive(Clone)]
pub struct ShardHandle {
    index: usize,
    seats: Rc<RefCell<Slab<Seated>>>,
    stats: Arc<ShardStats>,
}

impl ShardHandle {
    /// Which shard this is.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Counts the frames that wait in all outboxes of the node.
    pub(super) fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.stats.waiting)
    }

    /// Seats an outbox; returns its slot.
    pub(super) fn seat(&self, connection: u64, outbox: Rc<RefCell<Outbox>>) -> usize {
        self.stats.seats.fetch_add(1, Ordering::Relaxed);
        self.seats.borrow_mut().insert(Seated { connection, outbox })
    }

    /// Gives the slot back.
    pub(super) fn unseat(&self, slot: usize, connection: u64) {
        let mut seats = self.seats.borrow_mut();
        if seats.get(slot).is_some_and(|seated| seated.connection == connection) {
            seats.remove(slot);
            self.stats.seats.fetch_sub(1, Ordering::Relaxed);
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
    /// Seconds after which a client that takes nothing is let go (`session.timeout_s`).
    slow_after_s: u32,
}

/// The hub's way to a shard.
#[derive(Clone)]
pub(super) struct ShardLink {
    shard: Addr<Shard>,
    missed: Arc<AtomicBool>,
    stats: Arc<ShardStats>,
}

impl ShardLink {
    /// Hands alarms over. If the shard's mailbox is full, its sessions read the store.
    pub(super) fn push(&self, push: Push) {
        if self.shard.try_send(push).is_err() {
            self.stats.resyncs.fetch_add(1, Ordering::Relaxed);
            self.resync();
        }
    }

    /// Every message looks at the flag; one more comes behind it, past the bound, in case the others were quicker.
    pub(super) fn resync(&self) {
        if !self.missed.swap(true, Ordering::AcqRel) {
            self.shard.do_send(Push(Vec::new()));
        }
    }

    pub(super) fn close(&self, close: CloseSeats) {
        self.shard.do_send(close);
    }
}

impl Shard {
    /// Starts a shard on the current thread.
    pub(super) fn start(index: usize, slow_after_s: u32, stats: Arc<ShardStats>) -> (ShardHandle, ShardLink) {
        let seats = ShardHandle { index, seats: Rc::default(), stats: Arc::clone(&stats) };
        let missed = Arc::new(AtomicBool::new(false));
        let of_shard = Self { seats: seats.clone(), missed: Arc::clone(&missed), slow_after_s };
        let shard = Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            of_shard
        });
        (seats, ShardLink { shard, missed, stats })
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    /// Sweeps here and not in the sessions: a session whose client doesn't read is not polled any more.
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(Duration::from_secs(1), |shard, _| {
            let mut slow = 0;
            shard.seats.each(|outbox| slow += u64::from(outbox.sweep(shard.slow_after_s)));
            shard.seats.stats.slow.fetch_add(slow, Ordering::Relaxed);
        });
    }
}

/// One frame for sessions of this shard.
pub(super) struct Delivery {
    /// Which alarm it is; `None` for a frame that is none.
    pub alarm: Option<AlarmId>,
    /// Encoded once for all receivers.
    pub frame: Bytes,
    /// Slots and the connections that are meant.
    pub seats: Vec<(usize, u64)>,
}

/// The alarms of one commit.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Push(pub Vec<Delivery>);

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
            let frame = Rc::new(Frame { alarm: delivery.alarm.map_or(0, AlarmId::get), bytes: delivery.frame });
            for (slot, connection) in &delivery.seats {
                let Some(seated) = seats.get(*slot).filter(|seated| seated.connection == *connection) else { continue };
                let mut outbox = seated.outbox.borrow_mut();
                if delivery.alarm.is_none() {
                    outbox.control(frame.bytes.clone());
                    continue;
                }
                match outbox.offer(&frame) {
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

/// Closes sessions.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum CloseSeats {
    /// These, for this reason.
    Some(Vec<(usize, u64)>, Close),
    /// All of them, told to come back after a time of their own, spread over so many ms.
    Restarting {
        /// The longest wait.
        spread_ms: u64,
    },
}

impl Handler<CloseSeats> for Shard {
    type Result = ();

    fn handle(&mut self, close: CloseSeats, _: &mut Self::Context) {
        match close {
            CloseSeats::Some(which, close) => {
                for (slot, connection) in which {
                    let seats = self.seats.seats.borrow();
                    if let Some(seated) = seats.get(slot).filter(|seated| seated.connection == connection) {
                        seated.outbox.borrow_mut().close(close);
                    }
                }
            }
            CloseSeats::Restarting { spread_ms } => self.seats.each(|outbox| {
                outbox.close(Close::Restarting { retry_ms: rand::random_range(0..=spread_ms) });
            }),
        }
    }
}
