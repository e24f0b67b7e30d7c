//! JSON as it goes out: compact, raw UTF-8, and without the characters that mean something to an HTML parser. A reader
//! of JSON sees the text as it was written; whoever puts the JSON itself into a page puts in no markup of a user's
//! (fault 16).

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

struct Inert;

impl Formatter for Inert {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, after) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = after.chars();
            if let Some(special) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// The value as JSON.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(256);
    match value.serialize(&mut Serializer::with_formatter(&mut json, Inert)) {
        Ok(()) => json,
        // Only plain data with fixed keys comes here: serde_json can't fail on it.
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fault_16_json_holds_no_markup() {
        assert_eq!(to_json(&"<b>R&D</b> \"q\"\u{2028}"), br#""\u003cb\u003eR\u0026D\u003c/b\u003e \"q\"\u2028""#);
        assert_eq!(to_json(&"오후 05:25"), "\"오후 05:25\"".as_bytes(), "raw UTF-8");
    }

    proptest! {
        #[test]
        fn every_text_is_read_back_as_it_was(text in any::<String>()) {
            let json = to_json(&text);
            prop_assert!(!json.iter().any(|byte| b"<>&".contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }
    }
}
