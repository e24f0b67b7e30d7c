//! What comes from the client. Pongs are heard here: one comes for every alarm that is sent, and waking the session's
//! actor for it would cost as much as reading it. Everything else is handed to the actor.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_http::error::PayloadError;
use actix_web::web;
use bytes::Bytes;
use futures_util::Stream;

use super::{frame_gate::FrameGate, outbox::Outbox, proof::Proof};
use crate::protocol::Close;

/// First byte of a pong that is whole, and the bit of a frame that a client has masked.
const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
/// Longest payload of a pong.
const LONGEST: usize = 125;

/// Reads what the client sends. Polled by the body; what is for the actor waits here until that takes it, and meanwhile
/// nothing more is read.
pub(super) struct Ear {
    payload: web::Payload,
    gate: FrameGate,
    proof: Rc<Proof>,
    outbox: Rc<RefCell<Outbox>>,
    held: Option<Held>,
}

enum Held {
    /// Bytes, and how many whole frames end in them.
    Bytes(Bytes, usize),
    /// A frame that is too large; nothing of it reaches the codec.
    TooLarge,
    Failed(PayloadError),
    /// Nothing more will come.
    End,
}

impl Ear {
    pub(super) fn new(
        payload: web::Payload,
        frame_bytes: usize,
        proof: Rc<Proof>,
        outbox: Rc<RefCell<Outbox>>,
    ) -> Rc<RefCell<Self>> {
        let gate = FrameGate::new(frame_bytes);
        Rc::new(RefCell::new(Self { payload, gate, proof, outbox, held: None }))
    }

    /// Hears pongs, until something has come that is for the actor.
    pub(super) fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.held.is_none() {
            self.held = match ready!(Pin::new(&mut self.payload).poll_next(cx)) {
                Some(Ok(bytes)) if self.gate.is_between_frames() && each_pong(&bytes, |_| {}) => {
                    each_pong(&bytes, |pong| self.proof.pong(pong));
                    None
                }
                Some(Ok(bytes)) => match self.gate.admits(&bytes) {
                    Some(ended) => Some(Held::Bytes(bytes, ended)),
                    None => Some(Held::TooLarge),
                },
                Some(Err(error)) => Some(Held::Failed(error)),
                None => Some(Held::End),
            };
        }
        Poll::Ready(())
    }

    /// Something waits for the actor.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Reads on when the actor is gone: the next bytes, whatever they are.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self.held.take() {
            Some(Held::Bytes(bytes, _)) => return Poll::Ready(Some(bytes)),
            Some(Held::TooLarge | Held::Failed(_) | Held::End) => return Poll::Ready(None),
            None => {}
        }
        Pin::new(&mut self.payload).poll_next(cx).map(|bytes| bytes.and_then(Result::ok))
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
pub(super) struct Inbound {
    ear: Rc<RefCell<Ear>>,
    /// Whole frames that were handed on and that the codec has not been asked for yet.
    due: usize,
}

impl Inbound {
    pub(super) fn new(ear: Rc<RefCell<Ear>>) -> Self {
        Self { ear, due: 0 }
    }
}

impl Stream for Inbound {
    type Item = Result<Bytes, PayloadError>;

    /// Wakes nobody: the body has the actor polled when something is held.
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The reader of frames gathers whatever there is before it looks for one. A client that sends small frames as fast
        // as it can would fill the memory; so it gets no more before it has taken what it has.
        if self.due > 0 {
            self.due -= 1;
            return Poll::Pending;
        }
        let held = self.ear.borrow_mut().held.take();
        match held {
            Some(Held::Bytes(bytes, ended)) => {
                self.due = ended;
                Poll::Ready(Some(Ok(bytes)))
            }
            // In its turn, behind the frames before it; the body sends the close and drops the actor.
            Some(Held::TooLarge) => {
                self.ear.borrow().outbox.borrow_mut().close(Close::TooLarge);
                Poll::Pending
            }
            Some(Held::Failed(error)) => {
                self.ear.borrow_mut().held = Some(Held::End);
                Poll::Ready(Some(Err(error)))
            }
            Some(Held::End) => {
                self.ear.borrow_mut().held = Some(Held::End);
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
