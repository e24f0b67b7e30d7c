//! Frames that clients send on the alarm socket, parsed into typed values.

use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// A text frame that a client sends on `/ws/alarms/`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AlarmClientFrame {
    /// The client has received everything up to this alarm id.
    Ack(i64),
    /// The user has read everything up to this alarm id.
    Read(i64),
    /// A fresh token, which must be the same user's.
    Auth(String),
    /// Asks for a `pong`.
    Ping,
    /// JSON that is no known frame. It is ignored and closes nothing.
    Unknown,
}

/// The known frames as clients send them, for the schema of [`AlarmClientFrame`].
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(dead_code)] // `AlarmClientFrame::parse` takes other JSON too.
enum KnownFrame {
    /// The client has received everything up to this alarm id.
    Ack { up_to: i64 },
    /// The user has read everything up to this alarm id.
    Read { up_to: i64 },
    /// A fresh token of the same user.
    Auth { token: String },
    /// Asks for a `pong`.
    Ping,
}

impl PartialSchema for AlarmClientFrame {
    fn schema() -> RefOr<Schema> {
        KnownFrame::schema()
    }
}

impl ToSchema for AlarmClientFrame {}

/// The frame is not JSON. It closes the socket with 1007.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FrameError;

/// The fields with any JSON type: one of a wrong type counts as absent.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: Option<serde_json::Value>,
    up_to: Option<serde_json::Value>,
    token: Option<serde_json::Value>,
}

impl AlarmClientFrame {
    /// Parses one text frame. A known `type` without the fields that it needs is [`Unknown`](Self::Unknown).
    ///
    /// # Errors
    /// [`FrameError`] when the text is not JSON.
    pub(crate) fn parse(text: &str) -> Result<Self, FrameError> {
        let Ok(raw) = serde_json::from_str::<Raw>(text) else {
            // An array, a number or a doubled key is still JSON.
            return match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Ok(Self::Unknown),
                Err(_) => Err(FrameError),
            };
        };
        let kind = raw.kind.as_ref().and_then(|kind| kind.as_str());
        Ok(match (kind, raw.up_to.and_then(|id| id.as_i64()), raw.token) {
            (Some("ack"), Some(up_to), _) => Self::Ack(up_to),
            (Some("read"), Some(up_to), _) => Self::Read(up_to),
            (Some("auth"), _, Some(serde_json::Value::String(token))) => Self::Auth(token),
            (Some("ping"), _, _) => Self::Ping,
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_frames_are_parsed_and_other_json_is_unknown() {
        assert_eq!(AlarmClientFrame::parse(r#"{"type":"ack","up_to":12}"#), Ok(AlarmClientFrame::Ack(12)));
        assert_eq!(AlarmClientFrame::parse(r#"{"type":"ping","x":1}"#), Ok(AlarmClientFrame::Ping));
        assert_eq!(AlarmClientFrame::parse(r#"{"type":"read","up_to":3}"#), Ok(AlarmClientFrame::Read(3)));
        assert_eq!(
            AlarmClientFrame::parse(r#"{"type":"auth","token":"a.b.c"}"#),
            Ok(AlarmClientFrame::Auth("a.b.c".into()))
        );
        let known = [
            (KnownFrame::Ack { up_to: 12 }, AlarmClientFrame::Ack(12)),
            (KnownFrame::Read { up_to: 3 }, AlarmClientFrame::Read(3)),
            (KnownFrame::Auth { token: "a.b.c".into() }, AlarmClientFrame::Auth("a.b.c".into())),
            (KnownFrame::Ping, AlarmClientFrame::Ping),
        ];
        for (sent, parsed) in known {
            assert_eq!(AlarmClientFrame::parse(&serde_json::to_string(&sent).unwrap()), Ok(parsed), "as in the schema");
        }
        for odd in [
            "{}",
            "[]",
            "null",
            "1e999999",
            "\"x\"",
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","up_to":"1"}"#,
            r#"{"type":"ack","up_to":1.5}"#,
            r#"{"type":["ack"]}"#,
            r#"{"type":"nothing"}"#,
            r#"{"type":"ping","type":"ping"}"#,
        ] {
            assert!(matches!(AlarmClientFrame::parse(odd), Ok(AlarmClientFrame::Unknown)), "{odd}");
        }
        for bad in ["", "hello", "{", "{\"type\":}", "\u{feff}{}"] {
            assert_eq!(AlarmClientFrame::parse(bad), Err(FrameError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = AlarmClientFrame::parse(&text);
        }
    }
}
