//! Frames on their way to sockets. A `Frame` is encoded once and shared by all sessions of a worker. A `Chunk` is what
//! one session writes at once: one or more frames, with a ping behind them if its pong is to prove their receipt.

use std::{cell::OnceCell, rc::Rc, time::Instant};

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};

use crate::domain::{AlarmCursor, AlarmId, TradeMessageId};

/// The size up to which frames are joined into one chunk. It bounds what a client that stops reading holds in memory
/// outside its outbox.
pub(crate) const CHUNK_BYTES: usize = 16 * 1024;
/// The longest ping: 2 bytes of header and an id of at most 20 digits fit.
pub(super) const PING_BYTES: usize = 24;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Alarm(AlarmId),
    /// A message in a trade room.
    Trade(TradeMessageId),
    /// Nothing whose receipt is recorded.
    Other,
}

/// A frame shared by all sessions of a worker.
pub(crate) struct Frame {
    pub kind: FrameKind,
    pub bytes: Bytes,
    /// Of an alarm that was sent live: when it was committed.
    pub committed_at: Option<Instant>,
    /// The encoded frame with its ping behind it, built at first use.
    with_ping: OnceCell<Bytes>,
}

impl Frame {
    pub(crate) fn new(kind: FrameKind, bytes: Bytes) -> Self {
        Self { kind, bytes, committed_at: None, with_ping: OnceCell::new() }
    }

    /// An alarm that was just committed.
    pub(crate) fn live_alarm(id: AlarmId, bytes: Bytes, committed_at: Instant) -> Self {
        Self { committed_at: Some(committed_at), ..Self::new(FrameKind::Alarm(id), bytes) }
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
    pub(crate) fn with_ping(self, up_to: AlarmCursor) -> Bytes {
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
                match frame.kind {
                    FrameKind::Alarm(id) if up_to == AlarmCursor::after(id) => {
                        frame.with_ping.get_or_init(copy).clone()
                    }
                    _ => copy(),
                }
            }
        }
    }
}

/// A ping whose pong proves receipt of every alarm up to `up_to`.
pub(crate) fn ping(up_to: AlarmCursor) -> Bytes {
    let mut ping = BytesMut::with_capacity(PING_BYTES);
    write_ping(&mut ping, up_to);
    ping.freeze()
}

fn write_ping(frames: &mut BytesMut, up_to: AlarmCursor) {
    Parser::write_message(frames, up_to.get().to_string(), OpCode::Ping, true, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_follows_the_frames_whose_receipt_it_proves() {
        let frame = Rc::new(Frame::new(FrameKind::Alarm(AlarmId::from_stored(17)), Bytes::from_static(b"an alarm")));
        let [up_to_17, up_to_18] = [17, 18].map(AlarmCursor::from_number);
        let expected = |frames: &[u8], up_to| [frames, &*ping(up_to)].concat();
        let once = Chunk::One(Rc::clone(&frame)).with_ping(up_to_17);
        assert_eq!(once, expected(b"an alarm", up_to_17));
        let again = Chunk::One(Rc::clone(&frame)).with_ping(up_to_17);
        assert_eq!(again.as_ptr(), once.as_ptr(), "built once and shared");
        assert_eq!(
            Chunk::One(Rc::clone(&frame)).with_ping(up_to_18),
            expected(b"an alarm", up_to_18),
            "a ping for another alarm is not shared"
        );
        assert_eq!(Chunk::Joined(BytesMut::from("two alarms")).with_ping(up_to_18), expected(b"two alarms", up_to_18));
        assert_eq!(
            (Chunk::One(frame).bytes(), &*ping(up_to_17)),
            (Bytes::from_static(b"an alarm"), &b"\x89\x0217"[..])
        );
    }
}
