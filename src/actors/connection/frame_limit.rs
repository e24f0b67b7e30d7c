//! Checks the header of each frame from a client as soon as it arrives.
//!
//! actix's codec buffers a frame until it is complete and checks its length only then, so a header that announces an
//! exabyte would let a client fill the memory. This check refuses such a frame at its header. It also refuses headers
//! that RFC 6455 forbids (sections 5.2 and 5.5).

use crate::protocol::Close;

/// The longest possible header: two bytes, eight of length, four of mask.
const HEADER_BYTES_LIMIT: usize = 14;
/// Bits of the first byte: the last frame of its message; reserved for extensions, of which none is in use; the opcode.
const LAST: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
/// Bits of the second byte: the payload is masked, as every client's must be; the payload's length, or 126 or 127 if
/// the length follows in bytes of its own.
pub(super) const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// The longest payload of a control frame, in bytes.
pub(super) const CONTROL_LENGTH_LIMIT: u8 = 125;

/// Follows the frames of one connection across reads.
pub(crate) struct FrameLimit {
    /// The longest payload of a frame, in bytes.
    limit: u64,
    /// The current frame's header, of which the first `header_bytes` have arrived; 0 while a payload arrives.
    header: [u8; HEADER_BYTES_LIMIT],
    header_bytes: usize,
    /// How many bytes of the current frame's payload have not arrived yet.
    payload_left: u64,
    /// The close for a refused frame; after it nothing more is accepted.
    refused: Option<Close>,
}

/// The result of checking some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// How many of the bytes are accepted, from the first. A refused frame is left out from its header on.
    pub(crate) bytes: usize,
    /// How many frames end within the accepted bytes.
    pub(crate) frames: usize,
    /// The close to send, if a frame was refused.
    pub(crate) refused: Option<Close>,
}

impl FrameLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: u64::try_from(limit).unwrap_or(u64::MAX),
            header: [0; HEADER_BYTES_LIMIT],
            header_bytes: 0,
            payload_left: 0,
            refused: None,
        }
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.header_bytes == 0 && self.payload_left == 0 && self.refused.is_none()
    }

    /// Checks the next bytes, up to the header of the first refused frame.
    pub(crate) fn check(&mut self, bytes: &[u8]) -> Checked {
        let (mut rest, mut frames) = (bytes, 0);
        // The offset of the last header that begins in these bytes.
        let mut frame_start = 0;
        while let ([first, behind @ ..], None) = (rest, self.refused) {
            if self.payload_left > 0 {
                let arrived = rest.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= arrived as u64;
                rest = &rest[arrived..];
                frames += usize::from(self.payload_left == 0);
                continue;
            }
            if self.header_bytes == 0 {
                frame_start = bytes.len() - rest.len();
            }
            self.header[self.header_bytes] = *first;
            self.header_bytes += 1;
            rest = behind;
            self.refused = self.protocol_error();
            if let Some(length) = self.payload_length() {
                self.refused = self.refused.or((length > self.limit).then_some(Close::TooLarge));
                self.header_bytes = 0;
                self.payload_left = length;
                frames += usize::from(length == 0 && self.refused.is_none());
            }
        }
        let bytes = if self.refused.is_none() { bytes.len() } else { frame_start };
        Checked { bytes, frames, refused: self.refused }
    }

    /// The close for a header that breaks the protocol. `None` if it is legal or its first two bytes are not here.
    fn protocol_error(&self) -> Option<Close> {
        let [first, second] = *self.header[..self.header_bytes].first_chunk()?;
        let is_legal = match first & OPCODE {
            0..=2 => true,
            8..=10 => first & LAST != 0 && second & LENGTH <= CONTROL_LENGTH_LIMIT,
            _ => false,
        };
        (!is_legal || first & RESERVED != 0 || second & MASKED == 0).then_some(Close::ProtocolError)
    }

    /// The payload's length; `None` until the whole header has arrived.
    fn payload_length(&self) -> Option<u64> {
        let header = &self.header[..self.header_bytes];
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

    fn accepted(bytes: usize, frames: usize) -> Checked {
        Checked { bytes, frames, refused: None }
    }

    fn refused(close: Close) -> Checked {
        Checked { bytes: 0, frames: 0, refused: Some(close) }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_at_its_header() {
        for length in [101u64, 126, 65_536, u64::MAX] {
            let announced = [&[0x81, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
            assert_eq!(FrameLimit::new(100).check(&announced), refused(Close::TooLarge), "{length}");
        }
        let mut frame_limit = FrameLimit::new(100);
        let announced = [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &[1, 2, 3, 4]].concat();
        assert_eq!(frame_limit.check(&announced), refused(Close::TooLarge));
        assert_eq!(frame_limit.check(b"what comes after it"), refused(Close::TooLarge));
        let bytes = frames(&[100, 0, 100]);
        assert_eq!(FrameLimit::new(100).check(&bytes), accepted(bytes.len(), 3));
        // The frames before the refused one are accepted.
        let before = frames(&[100, 0]).len();
        let checked = FrameLimit::new(100).check(&frames(&[100, 0, 101, 7]));
        assert_eq!(checked, Checked { bytes: before, frames: 2, refused: Some(Close::TooLarge) });
    }

    #[test]
    fn a_header_that_breaks_the_protocol_is_refused_at_its_second_byte() {
        for first in 0..=u8::MAX {
            let is_legal = [0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a].contains(&first);
            let mut frame_limit = FrameLimit::new(1000);
            assert_eq!(frame_limit.check(&[first]), accepted(1, 0));
            assert_eq!(frame_limit.check(&[0x80]).refused.is_none(), is_legal, "{first:#x}");
            assert_eq!(FrameLimit::new(1000).check(&[first, 0x05]), refused(Close::ProtocolError), "not masked");
            if first & 0x08 != 0 {
                // The protocol error comes first, although the announced length would also be over the limit.
                for length in [0xfe, 0xff] {
                    assert_eq!(FrameLimit::new(1000).check(&[first, length]), refused(Close::ProtocolError));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn how_bytes_are_split_into_reads_does_not_matter(lengths in prop::collection::vec(0usize..400, 1..20), cut in 1usize..50, limit in 0usize..400) {
            let mut frame_limit = FrameLimit::new(limit);
            let bytes = frames(&lengths);
            let ended: usize = bytes.chunks(cut).map(|piece| frame_limit.check(piece).frames).sum();
            let fit = lengths.iter().take_while(|length| **length <= limit).count();
            prop_assert_eq!(ended, fit);
            prop_assert_eq!(frame_limit.refused, (fit < lengths.len()).then_some(Close::TooLarge));
            let whole = FrameLimit::new(limit).check(&bytes);
            prop_assert_eq!(whole.bytes, frames(&lengths[..fit]).len());
        }
    }
}
