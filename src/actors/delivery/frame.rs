//! A frame that waits for the sessions of a worker, made ready for the wire once for all of them; and what leaves one
//! session in one write: such frames, and behind them the ping whose pong proves their receipt.

use std::{cell::OnceCell, rc::Rc};

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};

/// A ping is no longer than this.
const PING_BYTES: usize = 24;

/// Shared by all sessions of a worker.
pub(crate) struct Frame {
    /// The alarm, or in a trade chat the message, that it is; 0: none.
    pub id: i64,
    /// Ready for the wire.
    pub bytes: Bytes,
    /// The same with the ping behind it.
    with_ping: OnceCell<Bytes>,
}

impl Frame {
    pub(crate) fn new(id: i64, bytes: Bytes) -> Self {
        Self { id, bytes, with_ping: OnceCell::new() }
    }
}

/// Frames that leave together.
pub(crate) enum Chunk {
    One(Rc<Frame>),
    Joined(BytesMut),
}

impl Chunk {
    /// As they are.
    pub(crate) fn bytes(self) -> Bytes {
        match self {
            Self::One(frame) => frame.bytes.clone(),
            Self::Joined(bytes) => bytes.freeze(),
        }
    }

    /// With a ping behind them, that asks for the receipt of everything up to this alarm.
    pub(crate) fn with_ping(self, up_to: i64) -> Bytes {
        let behind = |mut frames: BytesMut| {
            write_ping(&mut frames, up_to);
            frames.freeze()
        };
        match self {
            Self::Joined(bytes) => behind(bytes),
            Self::One(frame) => {
                let copy = || {
                    let mut both = BytesMut::with_capacity(frame.bytes.len() + PING_BYTES);
                    both.extend_from_slice(&frame.bytes);
                    behind(both)
                };
                // Thousands get the same alarm alone.
                if frame.id == up_to { frame.with_ping.get_or_init(copy).clone() } else { copy() }
            }
        }
    }
}

/// A ping alone.
pub(crate) fn ping(up_to: i64) -> Bytes {
    let mut ping = BytesMut::with_capacity(PING_BYTES);
    write_ping(&mut ping, up_to);
    ping.freeze()
}

fn write_ping(frames: &mut BytesMut, up_to: i64) {
    Parser::write_message(frames, up_to.to_string(), OpCode::Ping, true, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_leaves_behind_the_frames_that_it_proves() {
        let frame = Rc::new(Frame::new(17, Bytes::from_static(b"an alarm")));
        let expected = |frames: &[u8], up_to: i64| [frames, &*ping(up_to)].concat();
        let once = Chunk::One(Rc::clone(&frame)).with_ping(17);
        assert_eq!(once, expected(b"an alarm", 17));
        let again = Chunk::One(Rc::clone(&frame)).with_ping(17);
        assert_eq!(again.as_ptr(), once.as_ptr(), "made once for everybody");
        assert_eq!(
            Chunk::One(Rc::clone(&frame)).with_ping(18),
            expected(b"an alarm", 18),
            "the alarm before was another"
        );
        assert_eq!(Chunk::Joined(BytesMut::from("two alarms")).with_ping(18), expected(b"two alarms", 18));
        assert_eq!((Chunk::One(frame).bytes(), &*ping(17)), (Bytes::from_static(b"an alarm"), &b"\x89\x0217"[..]));
    }
}
