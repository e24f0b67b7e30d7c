//! Why the server closes a WebSocket, with the code and reason on the wire (`docs/protocol.md#closes`).

/// The reason of a close that the server begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// 1002: the client's frames break RFC 6455.
    ProtocolError,
    Binary,
    /// 1007: a text frame is not JSON or not UTF-8.
    NotJson,
    /// 1009: a frame or message is longer than `limits.frame_bytes`.
    TooLarge,
    /// 1012: the service restarts.
    Restarting {
        /// When the client is to reconnect, in milliseconds. It differs between sessions, so that they don't all
        /// reconnect at once.
        retry_ms: u64,
    },
    /// 1013: the service can't serve this socket now; the client reconnects.
    TryAgainLater,
    /// 4401: the token has expired, is invalid or another user's, or the user is inactive.
    TokenRefused,
    /// 4404: the goods of this room are deleted.
    GoodsDeleted,
    /// 4408: the client sent nothing, not even a pong, for `session.timeout_s`.
    Silent,
    /// 4409: the user has more than `session.max_per_user` sockets.
    TooManySockets,
    /// 4413: more frames wait for the client than `session.max_pending` allows, or it takes none. It resumes from its
    /// cursor.
    TooSlow,
    /// 4429: the client sends far above its rate.
    TooManyFrames,
}

impl Close {
    /// Each of them, in the order of the codes.
    pub(crate) const ALL: [Close; 12] = [
        Close::ProtocolError,
        Close::Binary,
        Close::NotJson,
        Close::TooLarge,
        Close::Restarting { retry_ms: 1000 },
        Close::TryAgainLater,
        Close::TokenRefused,
        Close::GoodsDeleted,
        Close::Silent,
        Close::TooManySockets,
        Close::TooSlow,
        Close::TooManyFrames,
    ];

    /// Whether the client may open another socket as it did this one.
    pub(crate) const fn may_reconnect(self) -> bool {
        !matches!(self, Close::TokenRefused | Close::GoodsDeleted | Close::TooManySockets)
    }

    /// The close code on the wire.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Close::ProtocolError => 1002,
            Close::Binary => 1003,
            Close::NotJson => 1007,
            Close::TooLarge => 1009,
            Close::Restarting { .. } => 1012,
            Close::TryAgainLater => 1013,
            Close::TokenRefused => 4401,
            Close::GoodsDeleted => 4404,
            Close::Silent => 4408,
            Close::TooManySockets => 4409,
            Close::TooSlow => 4413,
            Close::TooManyFrames => 4429,
        }
    }

    /// The short reason on the wire. For a restart it is JSON: `{"retry_ms":…}`.
    pub(crate) fn reason(self) -> String {
        match self {
            Close::ProtocolError => "protocol error".to_owned(),
            Close::Binary => "text frames only".to_owned(),
            Close::NotJson => "not JSON".to_owned(),
            Close::TooLarge => "frame too large".to_owned(),
            Close::Restarting { retry_ms } => {
                #[derive(serde::Serialize)]
                struct Retry {
                    retry_ms: u64,
                }
                serde_json::to_string(&Retry { retry_ms }).unwrap_or_default()
            }
            Close::TryAgainLater => "try again later".to_owned(),
            Close::TokenRefused => "token expired or refused".to_owned(),
            Close::GoodsDeleted => "the goods are deleted".to_owned(),
            Close::Silent => "silent too long".to_owned(),
            Close::TooManySockets => "too many sockets of this user".to_owned(),
            Close::TooSlow => "too slow, resume from the cursor".to_owned(),
            Close::TooManyFrames => "too many messages".to_owned(),
        }
    }
}
