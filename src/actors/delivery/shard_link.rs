//! A `ShardLink` sends messages to a shard, and knows what happens when its mailbox is full.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use actix::prelude::*;

use super::{
    mailbox::send_or_note,
    overflow::OverflowFlag,
    receipts::Receipts,
    shard::{CloseSessions, InboxEnds, Push, RoomPush, Shard},
    shard_handle::{ShardHandle, ShardStats},
};
use crate::actors::room_id::RoomId;

/// Messages that may wait in a shard's mailbox. When it is full, the shard's sessions read the store instead.
const MAILBOX_LIMIT: usize = 1024;

/// Sends messages to a shard; the hub and the rooms each hold one per worker.
#[derive(Clone)]
pub(crate) struct ShardLink {
    shard: Addr<Shard>,
    overflowed: Arc<OverflowFlag<()>>,
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
        if !send_or_note(&self.shard, push, &self.overflowed, |_| [()]) {
            self.stats.resyncs.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends frames that are not alarms: unread counts and alerts. They are in no store, so they are lost if the
    /// shard's mailbox is full; they would be out of date if they waited.
    pub(crate) fn push_or_drop(&self, push: Push) {
        if self.shard.try_send(push).is_err() {
            self.stats.untold.fetch_add(1, Ordering::Relaxed);
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

impl Shard {
    /// Starts a shard on the current thread. `slow_after_s` is `session.timeout_s`.
    pub(crate) fn start(
        index: usize,
        slow_after_s: u32,
        stats: Arc<ShardStats>,
        receipts: Receipts,
    ) -> (ShardHandle, ShardLink) {
        let handle = ShardHandle::new(index, Arc::clone(&stats), receipts);
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
        let waiting = handle.waiting();
        (handle, ShardLink { shard, overflowed, overflowed_rooms, waiting, stats })
    }
}
