//! What the rooms of a node know of the other nodes, and how far each room is in hearing them.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::oneshot;

use super::sequencer::EventSequencer;
use crate::actors::room_id::RoomId;
use crate::{
    bus::{Bus, Channel, NodeId},
    domain::{GoodsId, UserId},
    store::{RoomEvent, Store},
};

/// What the rooms have to do with other nodes; off while there is none.
#[derive(Default)]
pub(crate) struct ClusterLink {
    pub link: Option<(Bus, Store)>,
    /// Rooms in which somebody has just come or gone elsewhere.
    pub touched: HashSet<RoomId>,
    /// What a node is telling of all who are in rooms there: how many parts of it are here.
    pub telling: HashMap<NodeId, (u32, HashSet<(GoodsId, UserId)>)>,
    pub generations: u64,
    pub looking: bool,
    pub to_read: VecDeque<RoomId>,
    pub readings: usize,
}

impl ClusterLink {
    pub(crate) fn is_on(&self) -> bool {
        self.link.is_some()
    }

    pub(crate) fn release(&self, id: RoomId) {
        if let Some((bus, _)) = &self.link {
            bus.release(channel(id));
        }
    }
}

pub(crate) fn channel(id: RoomId) -> Channel {
    match id {
        RoomId::Auction(goods) => Channel::Auction(goods),
        RoomId::Trade(goods) => Channel::Trade(goods),
    }
}

/// How far a room is in hearing other nodes. Off for as long as there is one node.
#[derive(Default)]
pub(crate) struct ClusterSync {
    /// Which beginning this is: what an earlier one finds out means nothing.
    pub generation: u64,
    /// The channel is held.
    pub is_held: bool,
    /// The course is being begun.
    pub is_beginning: bool,
    /// From here on everything is told once and in order.
    pub course: Option<EventSequencer>,
    /// What was heard before the course has begun.
    pub early: Vec<RoomEvent>,
    /// Sockets that wait for it; told whether they hear everything from now on.
    pub waiting: Vec<oneshot::Sender<bool>>,
    /// The store is being read, or will be.
    pub is_catching_up: bool,
}
