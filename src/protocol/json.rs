//! JSON as the service writes it: compact, raw UTF-8, with the characters that mean something in HTML escaped.
//!
//! A JSON parser reads every text as it was written. A page that embeds the JSON itself gets no markup of a user's
//! (fault 16).

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Escapes `<`, `>`, `&` and the two Unicode line separators in strings.
struct HtmlSafe;

impl Formatter for HtmlSafe {
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

/// Serializes a value for a body or a frame.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(256);
    match value.serialize(&mut Serializer::with_formatter(&mut json, HtmlSafe)) {
        Ok(()) => json,
        // All callers pass plain data with fixed keys, on which serde_json can't fail.
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
        fn every_text_parses_back_unchanged(text in any::<String>()) {
            let json = to_json(&text);
            prop_assert!(!json.iter().any(|byte| b"<>&".contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }
    }
}
