//! Frames on their way to sockets. A `Frame` is encoded once and shared by all sessions of a worker. A `Chunk` is what
//! one session writes at once: one or more frames, with a ping behind them if its pong is to prove their receipt.

use std::{cell::OnceCell, rc::Rc};

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};

/// The longest ping: 2 bytes of header and an id of at most 20 digits fit.
pub(super) const PING_BYTES: usize = 24;

/// A frame shared by all sessions of a worker.
pub(crate) struct Frame {
    /// Id of the alarm, or in a trade room of the message; 0 for any other frame.
    pub id: i64,
    /// The encoded frame.
    pub bytes: Bytes,
    /// The encoded frame with its ping behind it, built at first use.
    with_ping: OnceCell<Bytes>,
}

impl Frame {
    pub(crate) fn new(id: i64, bytes: Bytes) -> Self {
        Self { id, bytes, with_ping: OnceCell::new() }
    }
}

/// Frames written to a socket at once.
pub(crate) enum Chunk {
    One(Rc<Frame>),
    Joined(BytesMut),
}

impl Chunk {
    /// The frames without a ping.
    pub(crate) fn bytes(self) -> Bytes {
        match self {
            Self::One(frame) => frame.bytes.clone(),
            Self::Joined(bytes) => bytes.freeze(),
        }
    }

    /// The frames and a ping whose pong proves receipt of every alarm up to `up_to`.
    pub(crate) fn with_ping(self, up_to: i64) -> Bytes {
        let append_ping = |mut frames: BytesMut| {
            write_ping(&mut frames, up_to);
            frames.freeze()
        };
        match self {
            Self::Joined(bytes) => append_ping(bytes),
            Self::One(frame) => {
                let copy = || {
                    let mut both = BytesMut::with_capacity(frame.bytes.len() + PING_BYTES);
                    both.extend_from_slice(&frame.bytes);
                    append_ping(both)
                };
                // Thousands of sessions may send this frame alone, so its copy with a ping is kept.
                if frame.id == up_to { frame.with_ping.get_or_init(copy).clone() } else { copy() }
            }
        }
    }
}

/// A ping whose pong proves receipt of every alarm up to `up_to`.
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
    fn a_ping_follows_the_frames_whose_receipt_it_proves() {
        let frame = Rc::new(Frame::new(17, Bytes::from_static(b"an alarm")));
        let expected = |frames: &[u8], up_to: i64| [frames, &*ping(up_to)].concat();
        let once = Chunk::One(Rc::clone(&frame)).with_ping(17);
        assert_eq!(once, expected(b"an alarm", 17));
        let again = Chunk::One(Rc::clone(&frame)).with_ping(17);
        assert_eq!(again.as_ptr(), once.as_ptr(), "built once and shared");
        assert_eq!(
            Chunk::One(Rc::clone(&frame)).with_ping(18),
            expected(b"an alarm", 18),
            "a ping for another alarm is not shared"
        );
        assert_eq!(Chunk::Joined(BytesMut::from("two alarms")).with_ping(18), expected(b"two alarms", 18));
        assert_eq!((Chunk::One(frame).bytes(), &*ping(17)), (Bytes::from_static(b"an alarm"), &b"\x89\x0217"[..]));
    }
}
