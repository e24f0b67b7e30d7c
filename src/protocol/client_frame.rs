//! Frames that clients send on the alarm socket, parsed once into typed values.

use serde::Deserialize;

/// What a client may send on `/ws/alarms/`.
#[derive(Debug, PartialEq, Eq)]
pub enum AlarmSocketFrame {
    /// Everything up to this alarm id has been received.
    Ack(i64),
    /// Everything up to this alarm id has been read.
    Read(i64),
    /// A fresh token of the same user.
    Auth(String),
    /// Asks for a `pong`.
    Ping,
    /// JSON that is no known frame: ignored, never a close.
    Unknown,
}

/// The frame is not JSON at all: close 1007.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameError;

/// The fields as loosely as clients send them; what doesn't fit its type counts as absent.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: Option<serde_json::Value>,
    up_to: Option<serde_json::Value>,
    token: Option<serde_json::Value>,
}

impl AlarmSocketFrame {
    /// Reads one text frame. A known `type` without the fields that it needs is unknown.
    ///
    /// # Errors
    /// [`FrameError`] when the text is no JSON.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let Ok(raw) = serde_json::from_str::<Raw>(text) else {
            // JSON of another shape (an array, a number, a doubled key) is JSON all the same.
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
    fn known_frames_are_read_and_others_ignored() {
        assert_eq!(AlarmSocketFrame::parse(r#"{"type":"ack","up_to":12}"#), Ok(AlarmSocketFrame::Ack(12)));
        assert_eq!(AlarmSocketFrame::parse(r#"{"type":"ping","x":1}"#), Ok(AlarmSocketFrame::Ping));
        assert_eq!(AlarmSocketFrame::parse(r#"{"type":"read","up_to":3}"#), Ok(AlarmSocketFrame::Read(3)));
        assert_eq!(
            AlarmSocketFrame::parse(r#"{"type":"auth","token":"a.b.c"}"#),
            Ok(AlarmSocketFrame::Auth("a.b.c".into()))
        );
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
            assert!(matches!(AlarmSocketFrame::parse(odd), Ok(AlarmSocketFrame::Unknown)), "{odd}");
        }
        for bad in ["", "hello", "{", "{\"type\":}", "\u{feff}{}"] {
            assert_eq!(AlarmSocketFrame::parse(bad), Err(FrameError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,200}") {
            let _ = AlarmSocketFrame::parse(&text);
        }
    }
}
