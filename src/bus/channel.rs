//! Channels that a node can subscribe to.

use crate::domain::{GoodsId, UserId};

/// A user or a room. A node is subscribed to the channels of those that have sockets on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Alarms, alerts and unread counts for a user's sessions.
    User(UserId),
    /// Events in the auction room of these goods.
    Auction(GoodsId),
    /// Events in the trade room of these goods.
    Trade(GoodsId),
}
