//! Auction rooms and trade chats: who is there, and what they hear.

pub(crate) mod cluster;
pub(crate) mod cluster_sync;
#[cfg(test)]
pub(crate) mod large_room;
#[cfg(test)]
pub(crate) mod mailbox_overflow;
pub(crate) mod membership;
pub(crate) mod presence;
#[allow(clippy::module_inception)] // `Rooms` is found by its own name.
pub(crate) mod rooms;
pub(crate) mod sequencer;
