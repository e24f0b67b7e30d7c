//! Reads what the client sends. Pongs are handled here: one arrives for every alarm sent, and waking the session's
//! actor for it would cost as much as reading it. Everything else goes to the actor.
//!
//! [`FrameReader`] belongs to the connection, [`Inbound`] is the stream that the actor reads. A [`Handoff`] joins them.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

use super::{
    frame_limit::{CONTROL_LENGTH_LIMIT, Checked, FrameLimit, MASKED},
    liveness::Liveness,
};
use crate::{actors::delivery::outbox::Outbox, protocol::Close};

/// The first byte of a close frame.
pub(crate) const CLOSE: u8 = 0x88;
/// The first byte of an unfragmented pong.
const PONG: u8 = 0x8a;
/// The longest payload of a pong, in bytes.
const PONG_LIMIT: usize = CONTROL_LENGTH_LIMIT as usize;

/// Reads what the client sends. It holds at most one input for the actor; until the actor takes that, the connection
/// reads nothing more.
pub(crate) struct FrameReader {
    frame_limit: FrameLimit,
    liveness: Rc<Liveness>,
    /// The input that waits for the actor.
    pending: Option<Input>,
    handoff: Handoff,
}

/// Passes an input from the reader to the actor's stream. It is empty except while the actor is polled.
type Handoff = Rc<Cell<Option<Input>>>;

/// Something for the actor.
enum Input {
    /// Accepted bytes, and the result of their check.
    Bytes(Bytes, Checked),
    /// Reading from the connection failed.
    Failed(io::Error),
    /// The client has closed its side of the connection.
    End,
}

impl FrameReader {
    /// Makes a reader and the stream that the actor reads. No frame's payload may exceed `frame_bytes`.
    pub(crate) fn new(frame_bytes: usize, liveness: Rc<Liveness>, outbox: Rc<RefCell<Outbox>>) -> (Self, Inbound) {
        let handoff = Handoff::default();
        let inbound = Inbound { handoff: Rc::clone(&handoff), outbox, frames_due: 0, refused: None };
        (Self { frame_limit: FrameLimit::new(frame_bytes), liveness, pending: None, handoff }, inbound)
    }

    /// Whether no input waits for the actor, so that more can be read.
    pub(crate) fn is_free(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether the input that waits for the actor is the last one: a close frame, a refused frame, or the end.
    pub(crate) fn holds_last_input(&self) -> bool {
        match &self.pending {
            Some(Input::Bytes(bytes, checked)) => checked.refused.is_some() || bytes.first() == Some(&CLOSE),
            Some(Input::Failed(_) | Input::End) => true,
            None => false,
        }
    }

    /// Takes bytes from the client, no bytes when it has closed its side, or an error. Call it only if `is_free`.
    pub(crate) fn receive(&mut self, read: io::Result<&[u8]>) {
        self.pending = match read {
            Err(error) => Some(Input::Failed(error)),
            Ok([]) => Some(Input::End),
            Ok(bytes) if self.frame_limit.is_between_frames() && each_pong(bytes, |_| {}) => {
                each_pong(bytes, |pong| self.liveness.pong(pong));
                None
            }
            Ok(bytes) => {
                let checked = self.frame_limit.check(bytes);
                Some(Input::Bytes(Bytes::copy_from_slice(&bytes[..checked.bytes]), checked))
            }
        };
    }

    /// Polls the actor, which can take the waiting input meanwhile. What it does not take goes on waiting.
    pub(crate) fn with_input<T>(&mut self, poll_actor: impl FnOnce() -> T) -> T {
        if self.pending.is_none() {
            return poll_actor();
        }
        self.handoff.set(self.pending.take());
        let polled = poll_actor();
        self.pending = self.handoff.take();
        polled
    }
}

/// Calls `visit` with the payload of each pong. Returns whether the bytes are nothing but complete, masked pongs; if
/// not, `visit` may have been called for those before.
fn each_pong(mut bytes: &[u8], mut visit: impl FnMut(&[u8])) -> bool {
    while let [first, second, rest @ ..] = bytes {
        let length = usize::from(second & !MASKED);
        if *first != PONG || second & MASKED == 0 || length > PONG_LIMIT || rest.len() < 4 + length {
            return false;
        }
        let (mask, rest) = rest.split_at(4);
        let (masked, rest) = rest.split_at(length);
        let mut payload = [0; PONG_LIMIT];
        for (to, (byte, mask)) in payload.iter_mut().zip(masked.iter().zip(mask.iter().cycle())) {
            *to = byte ^ mask;
        }
        visit(&payload[..length]);
        bytes = rest;
    }
    bytes.is_empty()
}

/// The stream of bytes that the actor's WebSocket codec reads.
pub(crate) struct Inbound {
    handoff: Handoff,
    outbox: Rc<RefCell<Outbox>>,
    /// How many complete frames the codec has been given and has not yet been asked for.
    frames_due: usize,
    /// The close for the frame behind them, if that was refused.
    refused: Option<Close>,
}

impl Stream for Inbound {
    type Item = Result<Bytes, PayloadError>;

    /// Registers no waker: `SocketSession` polls the actor when there is input.
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The codec reads all available bytes before it looks for a frame. A client that sends small frames as fast as
        // it can would fill the memory, so the codec gets no more bytes until it has parsed the frames that it has.
        if self.frames_due > 0 {
            self.frames_due -= 1;
            return Poll::Pending;
        }
        // The frames before the refused one have been parsed. The close is sent next, and the actor dropped.
        if let Some(close) = self.refused.take() {
            self.outbox.borrow_mut().close(close);
            return Poll::Pending;
        }
        match self.handoff.take() {
            Some(Input::Bytes(bytes, checked)) => {
                self.frames_due = checked.frames;
                self.refused = checked.refused;
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Input::Failed(error)) => {
                self.handoff.set(Some(Input::End));
                Poll::Ready(Some(Err(PayloadError::Io(error))))
            }
            Some(Input::End) => {
                self.handoff.set(Some(Input::End));
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_http::ws::{OpCode, Parser};
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    fn frames(all: &[(OpCode, &[u8])]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for (op, payload) in all {
            Parser::write_message(&mut bytes, *payload, *op, true, true);
        }
        bytes
    }

    fn pongs(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut pongs = Vec::new();
        each_pong(bytes, |pong| pongs.push(pong.to_vec())).then_some(pongs)
    }

    #[test]
    fn only_complete_masked_pongs_bypass_the_actor() {
        let two = frames(&[(OpCode::Pong, b"17"), (OpCode::Pong, b"")]);
        assert_eq!(pongs(&two), Some(vec![b"17".to_vec(), Vec::new()]));
        assert_eq!(pongs(&two[..two.len() - 1]), None, "the second pong is incomplete");
        assert_eq!(pongs(&frames(&[(OpCode::Pong, b"17"), (OpCode::Text, b"{}")])), None);
        assert_eq!(pongs(&frames(&[(OpCode::Ping, b"17")])), None);
        assert_eq!(pongs(&frames(&[(OpCode::Pong, &[b'1'; 126])])), None, "a control frame has at most 125 bytes");
        let mut plain = BytesMut::new();
        Parser::write_message(&mut plain, "17", OpCode::Pong, true, false);
        plain.extend_from_slice(&[0; 4]);
        assert_eq!(pongs(&plain), None, "not masked");
        let mut reserved = frames(&[(OpCode::Pong, b"17")]);
        reserved[0] |= 0x40;
        assert_eq!(pongs(&reserved), None);
    }

    proptest! {
        #[test]
        fn pongs_are_read_as_they_were_sent_and_anything_else_is_left_to_the_codec(all in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..126)), 1..6)) {
            let all: Vec<(OpCode, &[u8])> =
                all.iter().map(|(pong, payload)| (if *pong { OpCode::Pong } else { OpCode::Text }, payload.as_slice())).collect();
            let expected = all.iter().map(|(op, payload)| (*op == OpCode::Pong).then(|| payload.to_vec())).collect::<Option<Vec<_>>>();
            prop_assert_eq!(pongs(&frames(&all)), expected);
        }
    }
}
