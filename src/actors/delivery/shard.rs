//! A `Shard` is the hub's part on one worker: it puts frames into the outboxes of the sessions on its thread.
//!
//! The hub and the rooms send it encoded frames, one message per commit, through a [`ShardLink`], which knows what happens
//! when the shard's mailbox is full.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;

use super::{
    frame::{Frame, FrameKind},
    mailbox::send_or_note,
    mailbox_overflow::OverflowFlag,
    outbox::{Offered, Outbox},
    receipts::Receipts,
    shard_stats::ShardStats,
    worker_outboxes::{SessionTarget, WorkerOutboxes},
};
use crate::actors::room_id::RoomId;
use crate::{domain::AlarmId, protocol::Close};

/// Messages that may wait in a shard's mailbox. When it is full, the shard's sessions read the store instead.
const MAILBOX_LIMIT: usize = 1024;

/// The actor that fills the outboxes of one worker.
pub(crate) struct Shard {
    handle: WorkerOutboxes,
    /// A full mailbox has lost alarms: all sessions read the store.
    overflowed: Arc<OverflowFlag<()>>,
    /// Rooms whose frames a full mailbox has lost: their sockets are closed.
    overflowed_rooms: Arc<OverflowFlag<RoomId>>,
    /// Seconds after which a client that reads nothing is disconnected (`session.timeout_s`).
    slow_after_s: u32,
}

impl Shard {
    /// Starts a shard on the current thread. `slow_after_s` is `session.timeout_s`.
    pub(crate) fn start(
        index: usize,
        slow_after_s: u32,
        stats: Arc<ShardStats>,
        receipts: Receipts,
    ) -> (WorkerOutboxes, ShardLink) {
        let handle = WorkerOutboxes::new(index, Arc::clone(&stats), receipts);
        let overflowed = Arc::new(OverflowFlag::default());
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
        (handle, ShardLink { shard, overflowed, overflowed_rooms, stats })
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    /// Sweeps the outboxes every second. The sessions can't do it: one whose client doesn't read is not polled any
    /// more.
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(Duration::from_secs(1), |shard, _| {
            // Most of the time no outbox holds a frame.
            if shard.handle.is_idle() {
                return;
            }
            let mut slow = 0;
            shard.handle.each(|outbox| slow += u64::from(outbox.sweep(shard.slow_after_s)));
            shard.handle.stats.slow.inc_by(slow);
        });
    }
}

/// An alarm that was just committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveAlarm {
    pub id: AlarmId,
    /// When this node committed it, or received it over the bus.
    pub committed_at: Instant,
}

/// One frame for sessions of this shard.
pub(crate) struct TargetedFrame {
    pub alarm: Option<LiveAlarm>,
    /// Encoded once for all receivers.
    pub frame: Bytes,
    pub targets: Vec<SessionTarget>,
}

/// The frames of one commit, or other frames for sessions.
#[derive(Message, Default)]
#[rtype(result = "()")]
pub(crate) struct Push(pub Vec<TargetedFrame>);

impl Handler<Push> for Shard {
    type Result = ();

    fn handle(&mut self, Push(deliveries): Push, _: &mut Self::Context) {
        if !self.overflowed.take().is_empty() {
            self.handle.each(Outbox::resync);
        }
        let (mut queued, mut overflows) = (0, 0);
        for TargetedFrame { alarm, frame, targets } in deliveries {
            let Some(LiveAlarm { id, committed_at }) = alarm else {
                self.handle.each_of(targets, |outbox, _| outbox.control(frame.clone()));
                continue;
            };
            // All sessions of this worker share one frame: for a slow client a waiting frame costs a pointer.
            let frame = Rc::new(Frame::live_alarm(id, frame, committed_at));
            self.handle.each_of(targets, |outbox, after| match outbox.offer_alarm(id, &frame, after) {
                Offered::Queued => queued += 1,
                Offered::Overflow => overflows += 1,
                Offered::Noted | Offered::Stale | Offered::Closed => {}
            });
        }
        self.handle.stats.queued.inc_by(queued);
        self.handle.stats.overflows.inc_by(overflows);
    }
}

/// The end of each session's inbox, in `after`. A session that does not have it yet reads the store.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InboxEnds(pub Vec<SessionTarget>);

impl Handler<InboxEnds> for Shard {
    type Result = ();

    fn handle(&mut self, InboxEnds(ends): InboxEnds, _: &mut Self::Context) {
        let mut behind = 0;
        self.handle.each_of(ends, |outbox, end| behind += u64::from(outbox.catch_up_to(end)));
        self.handle.stats.behind.inc_by(behind);
    }
}

/// An order for all sockets of a room.
#[derive(Debug, Clone)]
pub(crate) enum RoomOrder {
    /// Send this frame, encoded once for all.
    Frame {
        bytes: Bytes,
        kind: FrameKind,
    },
    Close(Close),
    /// Close them because a frame was lost; the clients reconnect and read the room's state anew.
    CloseForOverflow,
}

/// Orders for rooms, in order.
#[derive(Message, Default)]
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
        self.handle.stats.closed_for_missing.inc_by(closed);
        self.handle.stats.room_frames.inc_by(queued);
        self.handle.stats.overflows.inc_by(overflows);
    }
}

/// Closes sessions.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum CloseSessions {
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
            CloseSessions::These(targets, close) => self.handle.each_of(targets, |outbox, _| outbox.close(close)),
            CloseSessions::Restarting { from_ms, spread_ms } => self.handle.each(|outbox| {
                let retry_ms = from_ms + rand::random_range(0..=spread_ms);
                outbox.close(Close::Restarting { retry_ms });
            }),
        }
    }
}

/// Sends messages to a shard; the hub and the rooms each hold one per worker.
#[derive(Clone)]
pub(crate) struct ShardLink {
    shard: Addr<Shard>,
    overflowed: Arc<OverflowFlag<()>>,
    overflowed_rooms: Arc<OverflowFlag<RoomId>>,
    stats: Arc<ShardStats>,
}

impl ShardLink {
    /// Sends alarms. If the shard's mailbox is full, its sessions read the store.
    pub(crate) fn push(&self, push: Push) {
        if !send_or_note(&self.shard, push, &self.overflowed, |_| [()]) {
            self.stats.resyncs.inc();
        }
    }

    /// Sends frames that are not alarms: unread counts and alerts. They are in no store, so they are lost if the
    /// shard's mailbox is full; they would be out of date if they waited.
    pub(crate) fn push_or_drop(&self, push: Push) {
        if self.shard.try_send(push).is_err() {
            self.stats.untold.inc();
        }
    }

    /// Makes all sessions of the shard read the store.
    pub(crate) fn resync(&self) {
        self.overflowed.note([()], || self.shard.do_send(Push::default()));
    }

    /// Sends orders to rooms. If the shard's mailbox is full, its sockets in these rooms are closed.
    pub(crate) fn push_to_rooms(&self, push: RoomPush) {
        let rooms = |RoomPush(orders)| orders.into_iter().map(|(room, _)| room);
        send_or_note(&self.shard, push, &self.overflowed_rooms, rooms);
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
