//! Frames of the alarm socket that are no alarms.

use serde::Serialize;

use crate::domain::{Timestamp, UserId};

/// A frame to one session.
#[derive(Debug, Serialize)]
#[serde(tag = "response_type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// First frame to a modern client.
    Hello {
        /// The token's user.
        user_id: UserId,
        /// Newest alarm in the inbox, 0 if none.
        last_id: i64,
        /// Unread alarms.
        unread: i64,
        /// The server's time.
        server_time: Timestamp,
        /// Seconds between the server's pings.
        heartbeat_s: u64,
    },
    /// Something was read: to all sessions of the user.
    Unread {
        /// Unread alarms.
        unread: i64,
        /// Newest alarm in the inbox, 0 if none.
        last_id: i64,
    },
    /// Answer to `ping`.
    Pong {
        /// The server's time.
        server_time: Timestamp,
    },
    /// Answer to `auth`.
    Auth {
        /// When the fresh token expires, seconds since 1970.
        exp: i64,
    },
}
