//! Frames that clients send in auction rooms and trade chats.
//!
//! The existing client names itself and the goods in every frame. A frame that names others than those of its socket is
//! refused, as is one with a bad value (faults 4, 5, 10).

use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{Code, FrameError, Problem};
use crate::domain::{GoodsId, LineText, Price, TradeText, UserId};

/// Bytes of the longest frame that a client may need, and the least value of `limits.frame_bytes`: the longest text
/// with each character as two escapes of six bytes (`\ud83d\ude00`), and space for the other fields. A token fits too.
pub(crate) const LONGEST_FRAME_BYTES: usize = 12 * TradeText::MAX_CHARS + 512;

/// A text frame that is JSON. Its fields are checked later; `None` if it has none that can be (an array, a doubled
/// key).
#[derive(Debug)]
pub(crate) struct RoomClientFrame<'a>(Option<RawFields<'a>>);

/// The fields, unparsed. So one that can't be parsed (a number out of range, too deep a nesting) is a bad value of this
/// field, as over HTTP, and doesn't make the whole frame invalid.
#[derive(Debug, Deserialize, ToSchema)]
struct RawFields<'a> {
    /// True for a bid, false for a line. In auction rooms only.
    #[serde(default, borrow, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    is_money: Option<&'a RawValue>,
    /// The goods of the socket, or absent.
    #[serde(default, borrow, deserialize_with = "present")]
    #[schema(value_type = NumberOrText, required = false)]
    goods_id: Option<&'a RawValue>,
    /// The user of the socket, or absent.
    #[serde(default, borrow, deserialize_with = "present")]
    #[schema(value_type = NumberOrText, required = false)]
    user_id: Option<&'a RawValue>,
    /// The price of a bid, or the text.
    #[serde(default, borrow, deserialize_with = "present")]
    #[schema(value_type = NumberOrText, required = false)]
    message: Option<&'a RawValue>,
}

/// A number, which may be sent as its digits, or a text.
#[derive(serde::Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // `RawFields` keeps it unparsed.
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl PartialSchema for RoomClientFrame<'_> {
    fn schema() -> RefOr<Schema> {
        RawFields::schema()
    }
}

impl ToSchema for RoomClientFrame<'_> {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        RawFields::schemas(schemas);
    }
}

/// Keeps a field that is null, which is not the same as an absent one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What a valid frame in an auction room asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RoomAction {
    Bid(Price),
    /// A line for everybody in the room.
    Line(LineText),
}

impl<'a> RoomClientFrame<'a> {
    /// Parses one text frame.
    ///
    /// # Errors
    /// [`FrameError`] when the text is not JSON.
    pub(crate) fn parse(text: &'a str) -> Result<Self, FrameError> {
        // serde would parse an array as a struct, field by field.
        let raw = if text.trim_ascii_start().starts_with('{') { serde_json::from_str(text).ok() } else { None };
        match raw {
            Some(raw) => Ok(Self(Some(raw))),
            // An array or a doubled key is still JSON.
            None if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => Ok(Self(None)),
            None => Err(FrameError),
        }
    }

    /// Whether it asks for a bid. Bids and lines have separate rate limits.
    pub(crate) fn is_bid(&self) -> bool {
        self.0.as_ref().is_some_and(|raw| raw.is_money.and_then(value) == Some(Value::Bool(true)))
    }

    /// Checks a frame that `user` sent in the auction room of `goods`; `max` is the highest price allowed.
    ///
    /// # Errors
    /// `invalid_body` if a required field is missing, `forbidden` if the frame names another user or other goods,
    /// `invalid_value` for any other bad field.
    pub(crate) fn into_auction_action(self, goods: GoodsId, user: UserId, max: Price) -> Result<RoomAction, Problem> {
        let (raw, message) = self.check_ids(goods, user)?;
        match raw.is_money.map(value) {
            Some(Some(Value::Bool(true))) => message
                .and_then(|message| price(&message, max))
                .map(RoomAction::Bid)
                .ok_or_else(|| Problem::invalid_value("message", &format!("a whole number from 1 to {}", max.won()))),
            Some(Some(Value::Bool(false))) => text(message)
                .and_then(|text| LineText::parse(&text))
                .map(RoomAction::Line)
                .ok_or_else(|| Problem::invalid_value("message", "1 to 100 characters")),
            Some(_) => Err(Problem::invalid_value("is_money", "true or false")),
            None => Err(missing_field()),
        }
    }

    /// Checks a frame that `user` sent in the trade chat of `goods`.
    ///
    /// # Errors
    /// Those of [`into_auction_action`](Self::into_auction_action).
    pub(crate) fn into_trade_text(self, goods: GoodsId, user: UserId) -> Result<TradeText, Problem> {
        let (_, message) = self.check_ids(goods, user)?;
        let text = text(message).and_then(|text| TradeText::parse(&text));
        text.ok_or_else(|| Problem::invalid_value("message", "1 to 500 characters"))
    }

    /// Checks that the ids are absent or the socket's own. Returns the fields and the parsed `message`, `None` if that
    /// can't be parsed.
    fn check_ids(self, goods: GoodsId, user: UserId) -> Result<(RawFields<'a>, Option<Value>), Problem> {
        let raw = self.0.ok_or_else(missing_field)?;
        check_id("goods_id", raw.goods_id, goods.get())?;
        check_id("user_id", raw.user_id, user.get())?;
        let message = raw.message.ok_or_else(missing_field)?;
        Ok((raw, value(message)))
    }
}

/// Parses one field.
fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn missing_field() -> Problem {
    Problem::new(Code::InvalidBody, "send a JSON object with message, and in an auction room is_money")
}

fn check_id(field: &str, sent: Option<&RawValue>, own: i64) -> Result<(), Problem> {
    match sent.map(|raw| whole(&value(raw)?)) {
        None => Ok(()),
        Some(Some(id)) if id == own => Ok(()),
        Some(Some(_)) => Err(Problem::new(Code::Forbidden, format!("{field} must be {own} on this socket, or absent"))),
        Some(None) => Err(Problem::invalid_value(field, "an id, or absent")),
    }
}

fn price(message: &Value, max: Price) -> Option<Price> {
    Price::new(whole(message)?, max)
}

/// A whole number, or a text of its digits: the existing client takes numbers from input fields and URLs.
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

    fn action(text: &str) -> Result<RoomAction, Code> {
        let frame = RoomClientFrame::parse(text).expect("JSON");
        frame
            .into_auction_action(GoodsId::from_stored(102), UserId::from_stored(2), MAX)
            .map_err(|problem| problem.code())
    }

    #[test]
    fn frames_of_the_existing_client_are_accepted() {
        let bid = Ok(RoomAction::Bid(Price::from_stored(6000)));
        assert_eq!(action(r#"{"is_money":true,"goods_id":"102","user_id":2,"message":6000}"#), bid);
        assert_eq!(action(r#"{"is_money":true,"goods_id":102,"user_id":"2","message":"6000"}"#), bid);
        assert_eq!(action(r#"{"is_money":true,"message":6000,"more":[]}"#), bid);
        let line = action(r#"{"is_money":false,"goods_id":"102","user_id":2,"message":"hi <b>"}"#).unwrap();
        assert_eq!(line, RoomAction::Line(LineText::parse("hi <b>").unwrap()));
    }

    #[test]
    fn fault_4_the_id_of_another_user_or_other_goods_is_refused() {
        assert_eq!(action(r#"{"is_money":true,"goods_id":"102","user_id":3,"message":6000}"#), Err(Code::Forbidden));
        assert_eq!(action(r#"{"is_money":true,"goods_id":"103","user_id":2,"message":6000}"#), Err(Code::Forbidden));
        assert_eq!(action(r#"{"is_money":false,"user_id":"1","message":"hi"}"#), Err(Code::Forbidden));
    }

    #[test]
    fn fault_10_each_bad_frame_is_refused_with_its_code() {
        for odd in ["null", "[]", "{}", "[true,102,2,5]", "1e999", "\"x\"", r#"{"message":1}"#, r#"{"is_money":true}"#]
        {
            assert_eq!(action(odd), Err(Code::InvalidBody), "{odd}");
        }
        assert_eq!(action(r#"{"is_money":true,"message":1,"message":2}"#), Err(Code::InvalidBody), "doubled");
        for id in ["null", "[2]", "{}", "1e999", "\"\"", "\"x\"", "1.5", "true", "99999999999999999999", "\"-2\""] {
            let bad = format!(r#"{{"is_money":true,"user_id":{id},"message":5}}"#);
            assert_eq!(action(&bad), Err(Code::InvalidValue), "{bad}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        let prices = ["null", "0", "-5", "1.5", "1e3", "\"\"", "\" 5\"", "\"5.0\"", "[]", "1000000000001", "\"٣\""];
        for price in prices.into_iter().chain(["1e999", "-1e999", "\"\\ud800\"", &deep]) {
            let bad = format!(r#"{{"is_money":true,"message":{price}}}"#);
            assert_eq!(action(&bad), Err(Code::InvalidValue), "{bad}");
        }
        for is_money in ["null", "1", "1e999", "\"true\"", "[]"] {
            let bad = format!(r#"{{"is_money":{is_money},"message":"5"}}"#);
            assert_eq!(action(&bad), Err(Code::InvalidValue), "{bad}");
        }
        for line in ["\"\"", "null", "5", "[\"x\"]", "\"\\ud800\""] {
            let bad = format!(r#"{{"is_money":false,"message":{line}}}"#);
            assert_eq!(action(&bad), Err(Code::InvalidValue), "{bad}");
        }
        assert!(RoomClientFrame::parse("{").is_err() && RoomClientFrame::parse("hi").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            if let Ok(frame) = RoomClientFrame::parse(&text) {
                let _ = frame.into_trade_text(GoodsId::from_stored(1), UserId::from_stored(1));
            }
        }

        #[test]
        fn a_bid_and_a_line_parse_back(won in 1..=1_000_000_000_000i64, line in ".{0,110}") {
            let sent = serde_json::json!({"is_money": true, "user_id": 2, "message": won}).to_string();
            prop_assert_eq!(action(&sent), Ok(RoomAction::Bid(Price::from_stored(won))));
            let sent = serde_json::json!({"is_money": false, "goods_id": "102", "message": line}).to_string();
            prop_assert_eq!(action(&sent), LineText::parse(&line).map(RoomAction::Line).ok_or(Code::InvalidValue));
        }
    }
}
