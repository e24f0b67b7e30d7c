//! What a node can listen for: a user's alarms, or what happens in a room.

use crate::domain::{GoodsId, UserId};

/// A room or a user, as somebody here listens for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// What an alarm session hears.
    User(UserId),
    /// What happens in an auction room.
    Auction(GoodsId),
    /// What happens in a trade chat.
    Trade(GoodsId),
}
