//! Attaches a worker thread to the actors when it starts.

use std::sync::Arc;

use actix::Addr;

use super::{
    delivery::{
        alarm_hub::{AlarmHub, AttachShard, Received},
        receipts::Receipts,
        shard::Shard,
        shard_stats::ShardStats,
        worker_outboxes::WorkerOutboxes,
    },
    rooms::rooms::{AttachShardToRooms, Rooms},
};

/// Starts the shard of worker `index` on the current thread and attaches it to the hub and the rooms. `slow_after_s` is
/// `session.timeout_s`.
pub(crate) fn attach_worker(
    index: usize,
    slow_after_s: u32,
    hub: &Addr<AlarmHub>,
    rooms: &Addr<Rooms>,
    stats: Arc<ShardStats>,
) -> WorkerOutboxes {
    let to_hub = hub.clone();
    let receipts = Receipts::new(move |cursors| to_hub.do_send(Received(cursors)));
    let (handle, link) = Shard::start(index, slow_after_s, stats, receipts);
    rooms.do_send(AttachShardToRooms(link.clone()));
    hub.do_send(AttachShard { index, link });
    handle
}
