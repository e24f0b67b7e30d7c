//! Auction rooms and trade chats: who is there, and what they hear.

pub(crate) mod cluster;
#[cfg(test)]
pub(crate) mod large_room;
#[cfg(test)]
pub(crate) mod mailbox_overflow;
pub(crate) mod membership;
pub(crate) mod presence;
pub(crate) mod rooms;
pub(crate) mod sequencer;
