//! A `Shard` is the hub's part on one worker: it puts frames into the outboxes of the sessions on its thread.
//!
//! The hub and the rooms send it encoded frames, one message per commit.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::prelude::*;
use bytes::Bytes;

use super::{
    frame::{Frame, FrameKind},
    outbox::{Offered, Outbox},
    overflow::OverflowFlag,
    shard_handle::{SessionTarget, ShardHandle},
};
use crate::actors::room_id::RoomId;
use crate::{domain::AlarmId, protocol::Close};

/// The actor that fills the outboxes of one worker.
pub(crate) struct Shard {
    pub(super) handle: ShardHandle,
    /// A full mailbox has lost alarms: all sessions read the store.
    pub(super) overflowed: Arc<OverflowFlag<()>>,
    /// Rooms whose frames a full mailbox has lost: their sockets are closed.
    pub(super) overflowed_rooms: Arc<OverflowFlag<RoomId>>,
    /// Seconds after which a client that reads nothing is disconnected (`session.timeout_s`).
    pub(super) slow_after_s: u32,
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
            shard.handle.stats.slow.fetch_add(slow, Ordering::Relaxed);
        });
    }
}

/// One frame for sessions of this shard.
pub(crate) struct Delivery {
    pub alarm: Option<AlarmId>,
    /// Encoded once for all receivers.
    pub frame: Bytes,
    pub targets: Vec<SessionTarget>,
}

/// The frames of one commit, or other frames for sessions.
#[derive(Message, Default)]
#[rtype(result = "()")]
pub(crate) struct Push(pub Vec<Delivery>);

impl Handler<Push> for Shard {
    type Result = ();

    fn handle(&mut self, Push(deliveries): Push, _: &mut Self::Context) {
        if !self.overflowed.take().is_empty() {
            self.handle.each(Outbox::resync);
        }
        let (mut queued, mut overflows) = (0, 0);
        for Delivery { alarm, frame, targets } in deliveries {
            let Some(alarm) = alarm else {
                self.handle.each_of(targets, |outbox, _| outbox.control(frame.clone()));
                continue;
            };
            // All sessions of this worker share one frame: for a slow client a waiting frame costs a pointer.
            let frame = Rc::new(Frame::new(FrameKind::Alarm(alarm), frame));
            self.handle.each_of(targets, |outbox, after| match outbox.offer_alarm(alarm, &frame, after) {
                Offered::Queued => queued += 1,
                Offered::Overflow => overflows += 1,
                Offered::Noted | Offered::Stale | Offered::Closed => {}
            });
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
        let mut behind = 0;
        self.handle.each_of(ends, |outbox, end| behind += u64::from(outbox.inbox_ends_with(end)));
        self.handle.stats.behind.fetch_add(behind, Ordering::Relaxed);
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
        self.handle.stats.closed_for_missing.fetch_add(closed, Ordering::Relaxed);
        self.handle.stats.room_frames.fetch_add(queued, Ordering::Relaxed);
        self.handle.stats.overflows.fetch_add(overflows, Ordering::Relaxed);
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
