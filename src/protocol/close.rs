//! Why the server closes a WebSocket (`docs/protocol.md#closes`): code and short reason in one place.

/// A close that the server begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// 1002: frames that break RFC 6455.
    ProtocolError,
    /// 1003: binary.
    Binary,
    /// 1007: not JSON or not UTF-8.
    NotJson,
    /// 1009: a frame or message over `limits.frame_bytes`.
    TooLarge,
    /// 1012: the service restarts; come back after so many ms.
    Restarting {
        /// Spread over the sessions, so that they don't all come at once.
        retry_ms: u64,
    },
    /// 1013: the service can't serve this socket now.
    TryAgainLater,
    /// 4401: the token has expired, is refused, or is another user's.
    TokenRefused,
    /// 4404: the goods of this room are deleted.
    GoodsDeleted,
    /// 4408: no sign of life for `session.timeout_s`.
    Silent,
    /// 4409: more than `session.max_per_user` sockets of this user.
    TooManySockets,
    /// 4413: more waits for the client than `session.max_pending` allows; resume from the cursor.
    TooSlow,
    /// 4429: far over the rate.
    TooManyFrames,
}

impl Close {
    /// The code on the wire.
    pub const fn code(self) -> u16 {
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

    /// The reason on the wire: short, and for a restart JSON that a client can read.
    pub fn reason(self) -> String {
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
