//! Frames that the server sends on the alarm socket, other than alarms.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Timestamp, UserId};

/// A frame of the alarm socket that is no alarm (`docs/protocol.md#the-alarm-socket`).
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "response_type", rename_all = "snake_case")]
pub(crate) enum ServerFrame {
    /// The first frame, to clients that give `since` or the subprotocol `handsup.v1`.
    Hello {
        user_id: UserId,
        /// The newest alarm in the inbox, 0 if it is empty.
        last_id: i64,
        unread: i64,
        server_time: Timestamp,
        /// Seconds between two pings of the server.
        heartbeat_s: u64,
    },
    /// The user has read something. Sent to all their sessions.
    Unread {
        unread: i64,
        /// The newest alarm in the inbox, 0 if it is empty.
        last_id: i64,
    },
    /// Answers `ping`.
    Pong { server_time: Timestamp },
    /// Answers `auth`.
    Auth {
        /// When the fresh token expires, in seconds since 1970.
        exp: i64,
    },
}
