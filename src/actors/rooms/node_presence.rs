//! Sends the other nodes who enters and leaves rooms here, and records who is in rooms there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::presence::RoomState;
use crate::actors::room_id::RoomId;
use crate::{
    bus::{Bus, BusEvent, BusMessage, NodeId, PresenceChange},
    domain::{GoodsId, User, UserId},
};

/// Users in one part of a presence snapshot.
const USERS_PER_PART: usize = 500;

type RoomMap = HashMap<RoomId, RoomState>;

/// The exchange of presence with the other nodes.
pub(crate) struct NodePresence {
    bus: Bus,
    /// Unfinished snapshots of other nodes: how many parts have come, and who is present in them.
    snapshots: HashMap<NodeId, (u32, HashSet<(GoodsId, UserId)>)>,
    /// How many visitors are in the rooms of other nodes.
    visitors: HashMap<NodeId, HashMap<GoodsId, u32>>,
    /// Whether the other nodes have been sent visitors of this node.
    has_sent_visitors: bool,
}

impl NodePresence {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus, snapshots: HashMap::new(), visitors: HashMap::new(), has_sent_visitors: false }
    }

    /// Notifies the other nodes that a user has opened their first socket in a room here, or closed their last. Sent at
    /// once, so that it reaches them before anything that the user does.
    pub(crate) fn notify(&self, goods: GoodsId, user: &User, is_here: bool) {
        self.bus.broadcast(BusMessage::PresenceChanges(vec![PresenceChange { goods, user: user.clone(), is_here }]));
    }

    /// Sends the other nodes how many visitors are in the rooms here. What the bus loses, the next call repeats.
    pub(crate) fn send_visitors(&mut self, rooms: &RoomMap) {
        let count = |(id, room): (&RoomId, &RoomState)| match (id, room.members.visitors()) {
            (RoomId::Auction(goods), 1..) => Some((*goods, u32::try_from(room.members.visitors()).unwrap_or(u32::MAX))),
            _ => None,
        };
        let counts: Vec<(GoodsId, u32)> = rooms.iter().filter_map(count).collect();
        let is_news = self.has_sent_visitors || !counts.is_empty();
        self.has_sent_visitors = !counts.is_empty();
        if is_news {
            self.bus.broadcast(BusMessage::Visitors(counts));
        }
    }

    /// How many visitors are in this room on other nodes.
    pub(crate) fn visitors_elsewhere(&self, goods: GoodsId) -> usize {
        self.visitors.values().filter_map(|counts| counts.get(&goods)).map(|count| *count as usize).sum()
    }

    /// Sends the other nodes who is in the rooms here.
    fn announce(&self, rooms: &RoomMap) {
        let here = |(id, room): (&RoomId, &RoomState)| match id {
            RoomId::Auction(goods) => room.members.users_here().map(|user| (*goods, User::clone(user))).collect(),
            RoomId::Trade(_) => Vec::new(),
        };
        let all: Vec<(GoodsId, User)> = rooms.iter().flat_map(here).collect();
        let mut parts: Vec<Vec<(GoodsId, User)>> = all.chunks(USERS_PER_PART).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let total = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        for (index, part) in (0..).zip(parts) {
            self.bus.broadcast(BusMessage::PresenceSnapshot { part, index, total });
        }
    }

    /// Records who is on other nodes, or sends them who is here. Returns the rooms whose presence has changed.
    pub(crate) fn apply(&mut self, event: BusEvent, rooms: &mut RoomMap) -> HashSet<RoomId> {
        let mut changed = HashSet::new();
        match event {
            BusEvent::Message(node, BusMessage::PresenceChanges(changes)) => {
                for PresenceChange { goods, user, is_here } in changes {
                    if is_here {
                        enter(node, goods, user, rooms, &mut changed);
                    } else {
                        leave(node, goods, user.id, rooms, &mut changed);
                    }
                }
            }
            BusEvent::Message(node, BusMessage::PresenceSnapshot { part, index, total }) => {
                let (mut parts, mut present) = self.snapshots.remove(&node).filter(|_| index > 0).unwrap_or_default();
                parts += 1;
                present.extend(part.iter().map(|(goods, user)| (*goods, user.id)));
                for (goods, user) in part {
                    enter(node, goods, user, rooms, &mut changed);
                }
                if index + 1 < total {
                    self.snapshots.insert(node, (parts, present));
                } else if parts == total {
                    // Every part has come. With a part missing, its users would be removed by mistake.
                    retain(node, &present, rooms, &mut changed);
                }
            }
            BusEvent::Message(node, BusMessage::Visitors(counts)) => {
                self.visitors.insert(node, counts.into_iter().collect());
            }
            BusEvent::NodeGone(node) => {
                self.snapshots.remove(&node);
                self.visitors.remove(&node);
                retain(node, &HashSet::new(), rooms, &mut changed);
            }
            BusEvent::AnnouncePresence | BusEvent::Message(_, BusMessage::Heartbeat { wants_presence: true }) => {
                self.announce(rooms);
            }
            _ => {}
        }
        changed
    }
}

fn enter(node: NodeId, goods: GoodsId, user: User, rooms: &mut RoomMap, changed: &mut HashSet<RoomId>) {
    let (id, user) = (RoomId::Auction(goods), Arc::new(user));
    let room = rooms.entry(id).or_insert_with(|| RoomState::new(false));
    if room.members.enter_on(node, Arc::clone(&user)) {
        room.presence_changed(user.id);
        changed.insert(id);
    }
}

fn leave(node: NodeId, goods: GoodsId, user: UserId, rooms: &mut RoomMap, changed: &mut HashSet<RoomId>) {
    let id = RoomId::Auction(goods);
    if let Some(room) = rooms.get_mut(&id)
        && room.members.leave_on(node, user)
    {
        room.presence_changed(user);
        changed.insert(id);
    }
}

/// Removes all users of that node who are not among `present`.
fn retain(node: NodeId, present: &HashSet<(GoodsId, UserId)>, rooms: &mut RoomMap, changed: &mut HashSet<RoomId>) {
    let on_node = |(id, room): (&RoomId, &RoomState)| {
        let goods = id.goods();
        room.members.users_on(node).into_iter().map(move |user| (goods, user)).collect::<Vec<_>>()
    };
    let all: Vec<(GoodsId, UserId)> = rooms.iter().flat_map(on_node).collect();
    for (goods, user) in all.into_iter().filter(|member| !present.contains(member)) {
        leave(node, goods, user, rooms, changed);
    }
}
