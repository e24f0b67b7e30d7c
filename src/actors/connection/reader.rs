//! What comes from the client. Pongs are heard here: one comes for every alarm that is sent, and waking the session's
//! actor for it would cost as much as reading it. Everything else is handed to the actor.

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
    frame_limit::{Admitted, FrameGate},
    liveness::Liveness,
};
use crate::actors::delivery::outbox::Outbox;
use crate::protocol::Close;

/// First byte of a close frame.
pub(crate) const CLOSE: u8 = 0x88;
/// First byte of a pong that is whole, and the bit of a frame that a client has masked.
const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
/// Longest payload of a pong.
const LONGEST: usize = 125;

/// Takes what the client sends. What is for the actor waits here until that takes it, and meanwhile nothing more is heard.
pub(crate) struct FrameReader {
    gate: FrameGate,
    proof: Rc<Liveness>,
    held: Option<Held>,
    /// Where the actor finds it.
    hand: Handoff,
}

/// From the ear to the actor's stream; empty but while the actor is polled for it.
type Handoff = Rc<Cell<Option<Held>>>;

enum Held {
    /// Bytes, and what the gate says of them: what comes from the header of a refused frame on is not among them.
    Bytes(Bytes, Admitted),
    Failed(io::Error),
    /// Nothing more will come.
    End,
}

impl FrameReader {
    /// The ear, and the stream that the actor reads.
    pub(crate) fn new(frame_bytes: usize, proof: Rc<Liveness>, outbox: Rc<RefCell<Outbox>>) -> (Self, Inbound) {
        let hand = Handoff::default();
        let inbound = Inbound { hand: Rc::clone(&hand), outbox, due: 0, refused: None };
        (Self { gate: FrameGate::new(frame_bytes), proof, held: None, hand }, inbound)
    }

    /// Nothing waits for the actor.
    pub(crate) fn is_free(&self) -> bool {
        self.held.is_none()
    }

    /// What waits for the actor is the last that the client says: a close frame, or the end.
    pub(crate) fn holds_the_last(&self) -> bool {
        match &self.held {
            Some(Held::Bytes(bytes, admitted)) => admitted.refused.is_some() || bytes.first() == Some(&CLOSE),
            Some(Held::Failed(_) | Held::End) => true,
            None => false,
        }
    }

    /// Bytes have come; none: nothing more will. Asked only when it is free.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        if self.gate.is_between_frames() && !bytes.is_empty() && each_pong(bytes, |_| {}) {
            each_pong(bytes, |pong| self.proof.pong(pong));
            return;
        }
        self.held = Some(if bytes.is_empty() {
            Held::End
        } else {
            let admitted = self.gate.admits(bytes);
            Held::Bytes(Bytes::copy_from_slice(&bytes[..admitted.bytes]), admitted)
        });
    }

    /// The connection has failed.
    pub(crate) fn fail(&mut self, error: io::Error) {
        self.held = Some(Held::Failed(error));
    }

    /// Lets the actor, while it is polled, take what it has heard.
    pub(crate) fn handing_on<T>(&mut self, poll_actor: impl FnOnce() -> T) -> T {
        if self.held.is_none() {
            return poll_actor();
        }
        self.hand.set(self.held.take());
        let polled = poll_actor();
        self.held = self.hand.take();
        polled
    }
}

/// Goes through the payloads of pongs, if these bytes are whole pongs of a client and nothing else.
fn each_pong(mut bytes: &[u8], mut hear: impl FnMut(&[u8])) -> bool {
    while let [first, second, rest @ ..] = bytes {
        let length = usize::from(second & !MASKED);
        if *first != PONG || second & MASKED == 0 || length > LONGEST || rest.len() < 4 + length {
            return false;
        }
        let (mask, rest) = rest.split_at(4);
        let (masked, rest) = rest.split_at(length);
        let mut payload = [0; LONGEST];
        for (to, (byte, mask)) in payload.iter_mut().zip(masked.iter().zip(mask.iter().cycle())) {
            *to = byte ^ mask;
        }
        hear(&payload[..length]);
        bytes = rest;
    }
    bytes.is_empty()
}

/// What is for the actor.
pub(crate) struct Inbound {
    hand: Handoff,
    outbox: Rc<RefCell<Outbox>>,
    /// Whole frames that were handed on and that the codec has not been asked for yet.
    due: usize,
    /// Why the frame behind them is refused.
    refused: Option<Close>,
}

impl Stream for Inbound {
    type Item = Result<Bytes, PayloadError>;

    /// Wakes nobody: the actor is polled when there is something.
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The reader of frames gathers whatever there is before it looks for one. A client that sends small frames as fast
        // as it can would fill the memory; so it gets no more before it has taken what it has.
        if self.due > 0 {
            self.due -= 1;
            return Poll::Pending;
        }
        // In its turn, behind the frames before it; the close is sent and the actor dropped.
        if let Some(close) = self.refused.take() {
            self.outbox.borrow_mut().close(close);
            return Poll::Pending;
        }
        match self.hand.take() {
            Some(Held::Bytes(bytes, admitted)) => {
                self.due = admitted.frames;
                self.refused = admitted.refused;
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Held::Failed(error)) => {
                self.hand.set(Some(Held::End));
                Poll::Ready(Some(Err(PayloadError::Io(error))))
            }
            Some(Held::End) => {
                self.hand.set(Some(Held::End));
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

    fn heard(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut heard = Vec::new();
        each_pong(bytes, |pong| heard.push(pong.to_vec())).then_some(heard)
    }

    #[test]
    fn only_whole_pongs_of_a_client_are_no_business_of_the_actor() {
        let two = frames(&[(OpCode::Pong, b"17"), (OpCode::Pong, b"")]);
        assert_eq!(heard(&two), Some(vec![b"17".to_vec(), Vec::new()]));
        assert_eq!(heard(&two[..two.len() - 1]), None, "not all of it is here");
        assert_eq!(heard(&frames(&[(OpCode::Pong, b"17"), (OpCode::Text, b"{}")])), None);
        assert_eq!(heard(&frames(&[(OpCode::Ping, b"17")])), None);
        assert_eq!(heard(&frames(&[(OpCode::Pong, &[b'1'; 126])])), None, "a control frame is not that long");
        let mut plain = BytesMut::new();
        Parser::write_message(&mut plain, "17", OpCode::Pong, true, false);
        plain.extend_from_slice(&[0; 4]);
        assert_eq!(heard(&plain), None, "clients mask");
        let mut reserved = frames(&[(OpCode::Pong, b"17")]);
        reserved[0] |= 0x40;
        assert_eq!(heard(&reserved), None);
    }

    proptest! {
        /// What is heard here is what the codec would have read, and anything else is left to it.
        #[test]
        fn what_is_heard_is_what_was_said(all in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..126)), 1..6)) {
            let all: Vec<(OpCode, &[u8])> =
                all.iter().map(|(pong, payload)| (if *pong { OpCode::Pong } else { OpCode::Text }, payload.as_slice())).collect();
            let pongs = all.iter().map(|(op, payload)| (*op == OpCode::Pong).then(|| payload.to_vec())).collect::<Option<Vec<_>>>();
            prop_assert_eq!(heard(&frames(&all)), pongs);
        }
    }
}
