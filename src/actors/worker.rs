//! What a worker brings to the house when it starts.

use std::sync::Arc;

use actix::Addr;

use super::{
    delivery::{
        alarm_hub::{AlarmHub, AttachShard, Received},
        received::Receipts,
        shard::{Shard, ShardHandle, ShardStats},
    },
    rooms::rooms::{OpenToShard, Rooms},
};

/// Starts the shard of a worker on its own thread and brings it to the hub and the rooms.
pub fn attach_worker(
    index: usize,
    slow_after_s: u32,
    hub: &Addr<AlarmHub>,
    rooms: &Addr<Rooms>,
    stats: Arc<ShardStats>,
) -> ShardHandle {
    let to_hub = hub.clone();
    let receipts = Receipts::told_to(move |marks| to_hub.do_send(Received(marks)));
    let (handle, link) = Shard::start(index, slow_after_s, stats, receipts);
    rooms.do_send(OpenToShard(link.clone()));
    hub.do_send(AttachShard { index, link });
    handle
}
