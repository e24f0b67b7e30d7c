//! What clients send in an auction room and in a trade chat. The existing client names itself and the goods in every
//! frame; the socket's own are what counts, and anything else is refused (faults 4, 5, 10).

use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use super::{Code, FrameError, Problem};
use crate::domain::{GoodsId, LineText, Price, TradeText, UserId};

/// Bytes of the longest frame that anybody needs: the longest text with each character as two escapes of six bytes
/// (`\ud83d\ude00`), and room for the rest, however that is escaped. A token in its frame fits too.
pub const LONGEST_FRAME: usize = 12 * TradeText::MAX_CHARS + 512;

/// One text frame, JSON of whatever shape, not yet looked into.
#[derive(Debug)]
pub struct Spoken<'a>(Option<Raw<'a>>);

/// The fields as they stand in the text: one that can't be taken (a number beyond all range, a nesting beyond the
/// parser's depth) is a bad value of a frame, as over HTTP, and no reason to take the frame for none.
#[derive(Debug, Deserialize)]
struct Raw<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    is_money: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    goods_id: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    user_id: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    message: Option<&'a RawValue>,
}

/// A field that is there, even as null, which is not the same as absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What somebody says in an auction room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// He bids.
    Bid(Price),
    /// He speaks.
    Line(LineText),
}

impl<'a> Spoken<'a> {
    /// Reads one text frame.
    ///
    /// # Errors
    /// [`FrameError`] when the text is no JSON.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        // serde would take an array for a struct, field by field.
        let raw = if text.trim_ascii_start().starts_with('{') { serde_json::from_str(text).ok() } else { None };
        match raw {
            Some(raw) => Ok(Self(Some(raw))),
            // JSON of another shape (an array, a doubled key) is JSON all the same.
            None if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => Ok(Self(None)),
            None => Err(FrameError),
        }
    }

    /// Whether it would be a bid: bids and lines have rates of their own.
    pub fn is_bid(&self) -> bool {
        self.0.as_ref().is_some_and(|raw| raw.is_money.and_then(value) == Some(Value::Bool(true)))
    }

    /// What `user` says in the room of `goods`.
    ///
    /// # Errors
    /// `invalid_body` for what is no frame of a room, `forbidden` for another's id, `invalid_value` for the rest.
    pub fn in_auction(self, goods: GoodsId, user: UserId, max: Price) -> Result<Said, Problem> {
        let (raw, message) = self.own(goods, user)?;
        match raw.is_money.map(value) {
            Some(Some(Value::Bool(true))) => message
                .and_then(|message| price(&message, max))
                .map(Said::Bid)
                .ok_or_else(|| Problem::invalid_value("message", &format!("a whole number from 1 to {}", max.won()))),
            Some(Some(Value::Bool(false))) => text(message)
                .and_then(|text| LineText::parse(&text))
                .map(Said::Line)
                .ok_or_else(|| Problem::invalid_value("message", "1 to 100 characters")),
            Some(_) => Err(Problem::invalid_value("is_money", "true or false")),
            None => Err(no_frame()),
        }
    }

    /// What `user` writes in the trade of `goods`.
    ///
    /// # Errors
    /// As of [`in_auction`](Self::in_auction).
    pub fn in_trade(self, goods: GoodsId, user: UserId) -> Result<TradeText, Problem> {
        let (_, message) = self.own(goods, user)?;
        let text = text(message).and_then(|text| TradeText::parse(&text));
        text.ok_or_else(|| Problem::invalid_value("message", "1 to 500 characters"))
    }

    /// The frame and the value of its message (`None`: one that can't be taken), if its ids are the socket's own or
    /// absent.
    fn own(self, goods: GoodsId, user: UserId) -> Result<(Raw<'a>, Option<Value>), Problem> {
        let raw = self.0.ok_or_else(no_frame)?;
        check_id("goods_id", raw.goods_id, goods.get())?;
        check_id("user_id", raw.user_id, user.get())?;
        let message = raw.message.ok_or_else(no_frame)?;
        Ok((raw, value(message)))
    }
}

/// What stands there, if it can be taken.
fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn no_frame() -> Problem {
    Problem::new(Code::InvalidBody, "no frame of this room")
}

fn check_id(field: &str, named: Option<&RawValue>, own: i64) -> Result<(), Problem> {
    match named.map(|raw| whole(&value(raw)?)) {
        None => Ok(()),
        Some(Some(id)) if id == own => Ok(()),
        Some(Some(_)) => Err(Problem::new(Code::Forbidden, format!("{field} is not this socket's"))),
        Some(None) => Err(Problem::invalid_value(field, "an id, or absent")),
    }
}

fn price(message: &Value, max: Price) -> Option<Price> {
    Price::new(whole(message)?, max)
}

/// A whole number, or its digits: the existing client reads both from input fields and addresses.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        other => other.as_i64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: Price = Price::from_stored(1_000_000_000_000);

    fn said(text: &str) -> Result<Said, Code> {
        let spoken = Spoken::parse(text).expect("JSON");
        spoken.in_auction(GoodsId::from_stored(102), UserId::from_stored(2), MAX).map_err(|problem| problem.code())
    }

    #[test]
    fn what_the_existing_client_sends_is_read() {
        let bid = Ok(Said::Bid(Price::from_stored(6000)));
        assert_eq!(said(r#"{"is_money":true,"goods_id":"102","user_id":2,"message":6000}"#), bid);
        assert_eq!(said(r#"{"is_money":true,"goods_id":102,"user_id":"2","message":"6000"}"#), bid);
        assert_eq!(said(r#"{"is_money":true,"message":6000,"more":[]}"#), bid);
        let line = said(r#"{"is_money":false,"goods_id":"102","user_id":2,"message":"hi <b>"}"#).unwrap();
        assert_eq!(line, Said::Line(LineText::parse("hi <b>").unwrap()));
    }

    #[test]
    fn fault_4_another_users_id_or_goods_are_refused() {
        assert_eq!(said(r#"{"is_money":true,"goods_id":"102","user_id":3,"message":6000}"#), Err(Code::Forbidden));
        assert_eq!(said(r#"{"is_money":true,"goods_id":"103","user_id":2,"message":6000}"#), Err(Code::Forbidden));
        assert_eq!(said(r#"{"is_money":false,"user_id":"1","message":"hi"}"#), Err(Code::Forbidden));
    }

    #[test]
    fn fault_10_whatever_cannot_be_taken_is_refused_and_nothing_else() {
        for odd in ["null", "[]", "{}", "[true,102,2,5]", "1e999", "\"x\"", r#"{"message":1}"#, r#"{"is_money":true}"#]
        {
            assert_eq!(said(odd), Err(Code::InvalidBody), "{odd}");
        }
        assert_eq!(said(r#"{"is_money":true,"message":1,"message":2}"#), Err(Code::InvalidBody), "doubled");
        for id in ["null", "[2]", "{}", "1e999", "\"\"", "\"x\"", "1.5", "true", "99999999999999999999", "\"-2\""] {
            let bad = format!(r#"{{"is_money":true,"user_id":{id},"message":5}}"#);
            assert_eq!(said(&bad), Err(Code::InvalidValue), "{bad}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        let prices = ["null", "0", "-5", "1.5", "1e3", "\"\"", "\" 5\"", "\"5.0\"", "[]", "1000000000001", "\"٣\""];
        for price in prices.into_iter().chain(["1e999", "-1e999", "\"\\ud800\"", &deep]) {
            let bad = format!(r#"{{"is_money":true,"message":{price}}}"#);
            assert_eq!(said(&bad), Err(Code::InvalidValue), "{bad}");
        }
        for is_money in ["null", "1", "1e999", "\"true\"", "[]"] {
            let bad = format!(r#"{{"is_money":{is_money},"message":"5"}}"#);
            assert_eq!(said(&bad), Err(Code::InvalidValue), "{bad}");
        }
        for line in ["\"\"", "null", "5", "[\"x\"]", "\"\\ud800\""] {
            let bad = format!(r#"{{"is_money":false,"message":{line}}}"#);
            assert_eq!(said(&bad), Err(Code::InvalidValue), "{bad}");
        }
        assert!(Spoken::parse("{").is_err() && Spoken::parse("hi").is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,200}") {
            if let Ok(spoken) = Spoken::parse(&text) {
                let _ = spoken.in_trade(GoodsId::from_stored(1), UserId::from_stored(1));
            }
        }
    }
}
