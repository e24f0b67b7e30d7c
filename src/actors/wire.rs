//! Frames made ready for the wire: encoded once, whoever and however many get them.

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};
use serde::Serialize;

use crate::{
    domain::{Alarm, Locale},
    protocol::{AlarmBody, to_json},
};

/// An alarm as a text frame.
pub fn encode_alarm(alarm: &Alarm, superseded: bool, locale: Locale) -> Bytes {
    encode(&AlarmBody::frame(alarm, superseded, locale))
}

/// Any frame as a text frame.
pub(super) fn encode(frame: &impl Serialize) -> Bytes {
    let payload = to_json(frame);
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    Parser::write_message(&mut frame, payload, OpCode::Text, true, false);
    frame.freeze()
}
