//! Request bodies: reads them within a limit of bytes and time, and turns their fields into typed values.
//!
//! 400 `invalid_body` means that the body is not JSON, is not an object, or lacks a required field. 422 `invalid_value`
//! names a field whose value is not valid.

use std::time::{Duration, Instant};

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH},
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{ApiError, Services, request_log::note_body_wait};
use crate::{
    domain::Price,
    protocol::{Code, Problem},
};

/// How long a whole body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the whole body, of at most `limit` bytes.
/// Errors: 415 if it is compressed, 413 over the limit, 408 if it takes too long, 400 if the connection breaks off.
async fn read(request: &HttpRequest, mut payload: web::Payload, limit: usize) -> Result<Bytes, ApiError> {
    // A small compressed body may unpack to a huge one, and bodies of this API are too small to need compression.
    let mut encodings = request.headers().get_all(CONTENT_ENCODING);
    if !encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(
            Problem::new(Code::UnsupportedEncoding, "send the body uncompressed, without Content-Encoding").into()
        );
    }
    let too_large = || ApiError(Problem::new(Code::PayloadTooLarge, format!("a body has at most {limit} bytes")));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let read_all = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Problem::new(Code::InvalidBody, "the body ended too early"))?;
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let begun = Instant::now();
    let body = tokio::time::timeout(BODY_TIMEOUT, read_all).await;
    note_body_wait(request, begun.elapsed());
    body.unwrap_or_else(|_| {
        Err(Problem::new(Code::RequestTimeout, format!("the body must arrive within {} s", BODY_TIMEOUT.as_secs()))
            .into())
    })
}

/// Reads a body and parses it as a JSON object.
/// Errors: Those of [`read`]. 400 if it is no object, or lacks a required field; 422 if the parser rejects the value of
/// a field (a number out of range, too deep a nesting). The detail is serde's, which quotes nothing but the client's
/// own body.
pub(super) async fn object<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    services: &Services,
) -> Result<T, ApiError> {
    Ok(parse(&read(request, payload, services.config.body_bytes).await?)?)
}

/// The same for a call that needs no body: an empty one counts as an object without fields.
/// Errors: Those of [`object`].
pub(super) async fn optional_object<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    services: &Services,
) -> Result<T, ApiError> {
    let body = read(request, payload, services.config.body_bytes).await?;
    Ok(parse(if body.is_empty() { b"{}" } else { &body })?)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidBody, detail);
    // serde does not check the encoding of fields that it skips.
    let text = std::str::from_utf8(body).map_err(|error| invalid(error.to_string()))?;
    // serde would accept an array as a struct, field by field.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(invalid("the body must be a JSON object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| match field_of(error.path()) {
        Some(field) if is_json(text) => Problem::invalid_value(&field, &error.inner().to_string()),
        _ => invalid(error.inner().to_string()),
    })?;
    json.end().map_err(|error| invalid(error.to_string()))?;
    Ok(parsed)
}

/// The top-level field that an error is in.
fn field_of(path: &Path) -> Option<String> {
    match path.iter().next() {
        Some(Segment::Map { key }) => Some(key.clone()),
        _ => None,
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Deserializes a field that is there, also one that is null. With `#[serde(default)]` a missing one is `None`.
pub(super) fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(field).map(Some)
}

/// Parses a price: a JSON integer from 1 to `max`.
/// Errors: 422 that names the field, for anything else.
pub(super) fn price(field: &str, value: &Value, max: Price) -> Result<Price, Problem> {
    value
        .as_i64()
        .and_then(|won| Price::new(won, max))
        .ok_or_else(|| Problem::invalid_value(field, &format!("a whole number from 1 to {}", max.won())))
}

/// Parses a text.
/// Errors: 422 that names the field, for anything else.
pub(super) fn text(field: &str, value: Value) -> Result<String, Problem> {
    match value {
        // PostgreSQL can't store NUL.
        Value::String(text) if !text.contains('\0') => Ok(text),
        _ => Err(Problem::invalid_value(field, "a text, without NUL")),
    }
}

/// Parses a whole number.
/// Errors: 422 that names the field, for anything else.
pub(super) fn integer(field: &str, value: &Value) -> Result<i64, Problem> {
    value.as_i64().ok_or_else(|| Problem::invalid_value(field, "a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    struct Bid {
        price: Value,
    }

    proptest! {
        #[test]
        fn any_body_is_parsed_or_400_or_422(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..100),
                "\\{?[{}\\[\\]\":,prices0-9 .-]{0,60}\\}?".prop_map(String::into_bytes),
            ],
        ) {
            let refused = parse::<Bid>(&body).err();
            prop_assert!(refused.is_none_or(|problem| [400, 422].contains(&problem.status())));
        }

        #[test]
        fn a_price_parses_back_if_it_is_in_range(won in prop_oneof![any::<i64>(), -5i64..1_000_005]) {
            let bid: Bid = parse(json!({"price": won, "more": won}).to_string().as_bytes()).unwrap();
            let parsed = price("price", &bid.price, Price::from_stored(1_000_000)).ok().map(Price::won);
            prop_assert_eq!(parsed, (1..=1_000_000).contains(&won).then_some(won));
        }
    }
}
