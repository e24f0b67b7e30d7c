//! What the rooms of a node keep when the service has several nodes: [`ClusterLink`] for all rooms together,
//! [`ClusterSync`] for each. The logic is in `cluster`.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::oneshot;

use super::sequencer::EventSequencer;
use crate::actors::room_id::RoomId;
use crate::{
    bus::{Bus, Channel, NodeId},
    domain::{GoodsId, UserId},
    store::{RoomEvent, Store},
};

/// The rooms' connection to the other nodes. Unused while the service has one node.
#[derive(Default)]
pub(crate) struct ClusterLink {
    /// `None` while the service has one node.
    pub link: Option<(Bus, Store)>,
    /// Rooms whose presence on other nodes has changed and has not been broadcast yet.
    pub changed_rooms: HashSet<RoomId>,
    /// Unfinished presence snapshots of other nodes: how many parts have come, and who is present in them.
    pub snapshots: HashMap<NodeId, (u32, HashSet<(GoodsId, UserId)>)>,
    /// The newest [`ClusterSync::generation`] of any room.
    pub last_generation: u64,
    /// The rooms are being compared with the store.
    pub is_polling: bool,
    /// Rooms that wait to read the events that they have missed.
    pub catch_up_queue: VecDeque<RoomId>,
    /// Rooms that are reading them now.
    pub active_reads: usize,
}

impl ClusterLink {
    pub(crate) fn is_on(&self) -> bool {
        self.link.is_some()
    }

    pub(crate) fn unsubscribe(&self, id: RoomId) {
        if let Some((bus, _)) = &self.link {
            bus.unsubscribe(channel(id));
        }
    }
}

/// The bus channel that carries the events of this room.
pub(crate) fn channel(id: RoomId) -> Channel {
    match id {
        RoomId::Auction(goods) => Channel::Auction(goods),
        RoomId::Trade(goods) => Channel::Trade(goods),
    }
}

/// How far a room has come in receiving the events of all nodes. Unused while the service has one node.
#[derive(Default)]
pub(crate) struct ClusterSync {
    /// Counts the starts of sequencers, from 1. The result of a read that belongs to an earlier start is dropped.
    pub generation: u64,
    /// This room has subscribed to its bus channel.
    pub is_subscribed: bool,
    /// The store is being read to start the sequencer.
    pub is_starting: bool,
    /// `None` until it has started.
    pub sequencer: Option<EventSequencer>,
    /// Events that came before the sequencer started.
    pub early_events: Vec<RoomEvent>,
    /// Sockets that wait for the start. They are sent whether the room receives all its events from now on.
    pub waiting: Vec<oneshot::Sender<bool>>,
    /// The store is being read for missed events, or this read is queued.
    pub is_catching_up: bool,
}
