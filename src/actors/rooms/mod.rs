//! Auction rooms and trade chats: who is in them, and what their sockets are sent.
//!
//! `rooms` is the actor; `cluster` and `cluster_sync` are its part for several nodes. `membership`, `presence` and
//! `sequencer` are its plain structs: users and sockets of a room, joins and leaves to broadcast, the order of events.
//! `large_room` and `mailbox_overflow` are tests of the actors together.

pub(crate) mod cluster;
pub(crate) mod cluster_sync;
#[cfg(test)]
pub(crate) mod large_room;
#[cfg(test)]
pub(crate) mod mailbox_overflow;
pub(crate) mod membership;
pub(crate) mod presence;
#[allow(clippy::module_inception)] // The file is named after `Rooms`.
pub(crate) mod rooms;
pub(crate) mod sequencer;
