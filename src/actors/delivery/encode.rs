//! Encodes WebSocket text frames. Each is encoded once, however many receivers it has.

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};
use serde::Serialize;

use crate::{
    domain::{Alarm, Locale},
    protocol::{AlarmBody, to_json},
};

/// Encodes an alarm as a text frame. `superseded` marks an `outbid` that no longer holds.
pub(crate) fn encode_alarm(alarm: &Alarm, superseded: bool, locale: Locale) -> Bytes {
    encode(&AlarmBody::frame(alarm, superseded, locale))
}

/// Encodes any JSON body as a text frame.
pub(crate) fn encode(frame: &impl Serialize) -> Bytes {
    let payload = to_json(frame);
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    Parser::write_message(&mut frame, payload, OpCode::Text, true, false);
    frame.freeze()
}

/// The JSON inside a text frame that this module encoded. Server frames are never masked, so it needs no copy.
pub(crate) fn payload(frame: &Bytes) -> Bytes {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.slice(header.min(frame.len())..)
}

/// Encodes JSON that another node serialised as a text frame.
pub(crate) fn encode_json(json: String) -> Bytes {
    let mut frame = BytesMut::with_capacity(json.len() + 10);
    Parser::write_message(&mut frame, json, OpCode::Text, true, false);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ServerFrame;

    #[test]
    fn the_payload_of_frames_of_every_header_length_is_found() {
        let short = encode(&ServerFrame::Auth { exp: 1 });
        assert_eq!(payload(&short), r#"{"response_type":"auth","exp":1}"#);
        assert_eq!(encode_json(r#"{"response_type":"auth","exp":1}"#.to_owned()), short);
        for length in [300, 70_000] {
            let text = "x".repeat(length);
            assert_eq!(payload(&encode(&text)), format!("\"{text}\""));
        }
    }
}
