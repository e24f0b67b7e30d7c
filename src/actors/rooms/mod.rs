//! Auction rooms and trade chats: who is in them, and what their sockets are sent.
//!
//! - `rooms`: the `Rooms` actor, one per node
//! - `table`: all rooms of the node, and the frames of their events; `presence`: one room, with joins and leaves to be
//!   broadcast; `membership`: its users and sockets
//! - `cluster`: what the actor needs with several nodes; `sequencer`: the order of a room's events; `node_presence`: who
//!   is in rooms on other nodes
//! - `large_room`, `mailbox_overflow`: tests of the actors together

pub(crate) mod cluster;
#[cfg(test)]
pub(crate) mod large_room;
#[cfg(test)]
pub(crate) mod mailbox_overflow;
pub(crate) mod membership;
pub(crate) mod node_presence;
pub(crate) mod presence;
#[allow(clippy::module_inception)] // The file is named after `Rooms`.
pub(crate) mod rooms;
pub(crate) mod sequencer;
pub(crate) mod table;
