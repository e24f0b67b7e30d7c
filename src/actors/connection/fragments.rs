//! Joins a text message that arrives in several frames. The whole message may be no larger than a single frame.

use actix_http::ws::Item;
use bytes::BytesMut;

use crate::protocol::Close;

/// The state of a message after one more fragment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// The last fragment is still to come.
    Incomplete,
    /// The message is complete; this is its text.
    Text(String),
}

/// Collects the fragments of the current message.
pub(crate) struct Fragments {
    /// The most bytes that a whole message may have.
    limit: usize,
    buffer: BytesMut,
}

impl Fragments {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, buffer: BytesMut::new() }
    }

    /// Adds the next fragment.
    ///
    /// # Errors
    /// The close to send if the message is binary, too large, or not UTF-8.
    pub(crate) fn add(&mut self, item: Item) -> Result<Joined, Close> {
        let (bytes, is_last) = match item {
            Item::FirstBinary(_) => return Err(Close::Binary),
            Item::FirstText(bytes) => {
                self.buffer.clear();
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        if self.buffer.len() + bytes.len() > self.limit {
            self.buffer = BytesMut::new();
            return Err(Close::TooLarge);
        }
        self.buffer.extend_from_slice(&bytes);
        if !is_last {
            return Ok(Joined::Incomplete);
        }
        let message = std::mem::take(&mut self.buffer);
        match String::from_utf8(message.into()) {
            Ok(text) => Ok(Joined::Text(text)),
            Err(_) => Err(Close::NotJson),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_joined_within_the_limit() {
        let mut fragments = Fragments::new(8);
        let text = "가나";
        assert_eq!(fragments.add(Item::FirstText(text.as_bytes()[..2].to_vec().into())), Ok(Joined::Incomplete));
        assert_eq!(fragments.add(Item::Last(text.as_bytes()[2..].to_vec().into())), Ok(Joined::Text(text.into())));
        assert_eq!(fragments.add(Item::FirstText("123456".into())), Ok(Joined::Incomplete));
        assert_eq!(fragments.add(Item::Continue("789".into())), Err(Close::TooLarge));
        assert_eq!(fragments.add(Item::FirstBinary("1".into())), Err(Close::Binary));
        assert_eq!(fragments.add(Item::FirstText(vec![0xff].into())), Ok(Joined::Incomplete));
        assert_eq!(fragments.add(Item::Last("".into())), Err(Close::NotJson));
    }
}
