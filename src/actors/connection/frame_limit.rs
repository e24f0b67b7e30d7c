//! Follows where the client's frames begin. The codec looks at a frame's length only when all of it is there, and
//! gathers it until then: without this gate, one header that announces an exabyte would let a client fill the memory.
//! What a header may not say (RFC 6455, 5.2 and 5.5) is refused here too, as soon as it is said.

use crate::protocol::Close;

/// Longest header of a frame: two bytes, eight of length, four of mask.
const LONGEST_HEADER: usize = 14;
/// Of the first byte: the last frame of its message, the bits of extensions that nobody has agreed on, the opcode.
const LAST: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
/// Of the second byte: clients mask, and how much is announced.
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// Most that a control frame may announce: more would need bytes of length.
const CONTROL_LENGTH: u8 = 125;

pub(crate) struct FrameGate {
    limit: u64,
    /// The header that is coming in, and how much of it is here.
    header: [u8; LONGEST_HEADER],
    held: usize,
    /// What is still to come of the payload.
    left: u64,
    /// A frame was refused: nothing is looked at any more.
    refused: Option<Close>,
}

/// What the gate lets through of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// So many of them, from the first.
    pub(crate) bytes: usize,
    /// So many frames end in these.
    pub(crate) frames: usize,
    /// Why it is not all of them.
    pub(crate) refused: Option<Close>,
}

impl FrameGate {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: u64::try_from(limit).unwrap_or(u64::MAX),
            header: [0; LONGEST_HEADER],
            held: 0,
            left: 0,
            refused: None,
        }
    }

    /// The next byte begins a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.held == 0 && self.left == 0 && self.refused.is_none()
    }

    /// Looks at the next bytes, up to the header of a frame that is refused.
    pub(crate) fn admits(&mut self, bytes: &[u8]) -> Admitted {
        let (mut rest, mut frames) = (bytes, 0);
        // Up to the last frame that has begun.
        let mut admitted = 0;
        while let ([first, behind @ ..], None) = (rest, self.refused) {
            if self.left > 0 {
                let here = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= here as u64;
                rest = &rest[here..];
                frames += usize::from(self.left == 0);
                continue;
            }
            if self.held == 0 {
                admitted = bytes.len() - rest.len();
            }
            self.header[self.held] = *first;
            self.held += 1;
            rest = behind;
            self.refused = self.illegal();
            if let Some(length) = self.announced() {
                self.refused = self.refused.or((length > self.limit).then_some(Close::TooLarge));
                self.held = 0;
                self.left = length;
                frames += usize::from(length == 0 && self.refused.is_none());
            }
        }
        let bytes = if self.refused.is_none() { bytes.len() } else { admitted };
        Admitted { bytes, frames, refused: self.refused }
    }

    /// Whether the header breaks the protocol, once its first two bytes are here.
    fn illegal(&self) -> Option<Close> {
        let [first, second] = *self.header[..self.held].first_chunk()?;
        let is_legal = match first & OPCODE {
            0..=2 => true,
            8..=10 => first & LAST != 0 && second & LENGTH <= CONTROL_LENGTH,
            _ => false,
        };
        (!is_legal || first & RESERVED != 0 || second & MASKED == 0).then_some(Close::ProtocolError)
    }

    /// The payload's length, once the whole header is here.
    fn announced(&self) -> Option<u64> {
        let header = &self.header[..self.held];
        let second = *header.get(1)?;
        let extended = match second & LENGTH {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & MASKED == 0 { 0 } else { 4 };
        if header.len() < 2 + extended + mask {
            return None;
        }
        Some(match extended {
            0 => u64::from(second & LENGTH),
            _ => header[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_http::ws::{OpCode, Parser};
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn frames(lengths: &[usize]) -> BytesMut {
        let mut all = BytesMut::new();
        for length in lengths {
            Parser::write_message(&mut all, vec![0xff; *length], OpCode::Text, true, true);
        }
        all
    }

    fn all(bytes: usize, frames: usize) -> Admitted {
        Admitted { bytes, frames, refused: None }
    }

    fn nothing(refused: Close) -> Admitted {
        Admitted { bytes: 0, frames: 0, refused: Some(refused) }
    }

    #[test]
    fn a_length_is_refused_as_soon_as_it_is_announced() {
        for length in [101u64, 126, 65_536, u64::MAX] {
            let announced = [&[0x81, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
            assert_eq!(FrameGate::new(100).admits(&announced), nothing(Close::TooLarge), "{length}");
        }
        let mut gate = FrameGate::new(100);
        let announced = [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &[1, 2, 3, 4]].concat();
        assert_eq!(gate.admits(&announced), nothing(Close::TooLarge));
        assert_eq!(gate.admits(b"whatever comes after it"), nothing(Close::TooLarge));
        let bytes = frames(&[100, 0, 100]);
        assert_eq!(FrameGate::new(100).admits(&bytes), all(bytes.len(), 3));
        // What is before it is let through.
        let before = frames(&[100, 0]).len();
        let refused = Some(Close::TooLarge);
        let admitted = FrameGate::new(100).admits(&frames(&[100, 0, 101, 7]));
        assert_eq!(admitted, Admitted { bytes: before, frames: 2, refused });
    }

    #[test]
    fn a_header_that_breaks_the_protocol_is_refused_at_its_second_byte() {
        for first in 0..=u8::MAX {
            let may_be = [0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a].contains(&first);
            let mut gate = FrameGate::new(1000);
            assert_eq!(gate.admits(&[first]), all(1, 0));
            assert_eq!(gate.admits(&[0x80]).refused.is_none(), may_be, "{first:#x}");
            assert_eq!(FrameGate::new(1000).admits(&[first, 0x05]), nothing(Close::ProtocolError), "not masked");
            if first & 0x08 != 0 {
                // Also where more is announced than is allowed to anybody.
                for length in [0xfe, 0xff] {
                    assert_eq!(FrameGate::new(1000).admits(&[first, length]), nothing(Close::ProtocolError));
                }
            }
        }
    }

    proptest! {
        /// However the bytes are cut, the frames are the same.
        #[test]
        fn cuts_do_not_matter(lengths in prop::collection::vec(0usize..400, 1..20), cut in 1usize..50, limit in 0usize..400) {
            let mut gate = FrameGate::new(limit);
            let bytes = frames(&lengths);
            let ended: usize = bytes.chunks(cut).map(|piece| gate.admits(piece).frames).sum();
            let fit = lengths.iter().take_while(|length| **length <= limit).count();
            prop_assert_eq!(ended, fit);
            prop_assert_eq!(gate.refused, (fit < lengths.len()).then_some(Close::TooLarge));
            let whole = FrameGate::new(limit).admits(&bytes);
            prop_assert_eq!(whole.bytes, frames(&lengths[..fit]).len());
        }
    }
}
