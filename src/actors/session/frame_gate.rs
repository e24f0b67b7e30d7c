//! Follows where the client's frames begin. The codec looks at a frame's length only when all of it is there, and
//! gathers it until then: without this gate, one header that announces an exabyte would let a client fill the memory.

/// Longest header of a frame: two bytes, eight of length, four of mask.
const LONGEST_HEADER: usize = 14;

pub(super) struct FrameGate {
    limit: u64,
    /// The header that is coming in, and how much of it is here.
    header: [u8; LONGEST_HEADER],
    held: usize,
    /// What is still to come of the payload.
    left: u64,
    /// A frame was refused: nothing is looked at any more.
    refused: bool,
}

impl FrameGate {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: u64::try_from(limit).unwrap_or(u64::MAX),
            header: [0; LONGEST_HEADER],
            held: 0,
            left: 0,
            refused: false,
        }
    }

    /// The next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.held == 0 && self.left == 0 && !self.refused
    }

    /// Looks at the next bytes: how many frames end in them; `None` when one announces more than the limit.
    pub(super) fn admits(&mut self, mut bytes: &[u8]) -> Option<usize> {
        if self.refused {
            return None;
        }
        let mut ended = 0;
        while let [first, rest @ ..] = bytes {
            if self.left > 0 {
                let here = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= here as u64;
                bytes = &bytes[here..];
                ended += usize::from(self.left == 0);
                continue;
            }
            self.header[self.held] = *first;
            self.held += 1;
            bytes = rest;
            if let Some(length) = self.announced() {
                if length > self.limit {
                    self.refused = true;
                    return None;
                }
                self.held = 0;
                self.left = length;
                ended += usize::from(length == 0);
            }
        }
        Some(ended)
    }

    /// The payload's length, once the whole header is here.
    fn announced(&self) -> Option<u64> {
        let header = &self.header[..self.held];
        let second = *header.get(1)?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if header.len() < 2 + extended + mask {
            return None;
        }
        Some(match extended {
            0 => u64::from(second & 0x7f),
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

    #[test]
    fn a_length_is_refused_as_soon_as_it_is_announced() {
        for length in [101u64, 126, 65_536, u64::MAX] {
            let announced = [&[0x81, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
            assert_eq!(FrameGate::new(100).admits(&announced), None, "{length}");
        }
        let mut gate = FrameGate::new(100);
        assert_eq!(gate.admits(&[&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &[1, 2, 3, 4]].concat()), None);
        assert_eq!(gate.admits(b"whatever comes after it"), None);
        assert_eq!(FrameGate::new(100).admits(&frames(&[100, 0, 100])), Some(3));
        assert_eq!(FrameGate::new(100).admits(&frames(&[100, 0, 101])), None);
    }

    proptest! {
        /// However the bytes are cut, the frames are the same.
        #[test]
        fn cuts_do_not_matter(lengths in prop::collection::vec(0usize..400, 1..20), cut in 1usize..50, limit in 0usize..400) {
            let mut gate = FrameGate::new(limit);
            let ended: Option<usize> = frames(&lengths).chunks(cut).map(|piece| gate.admits(piece)).sum();
            prop_assert_eq!(ended, lengths.iter().all(|length| *length <= limit).then_some(lengths.len()));
        }
    }
}
