//! Bodies: read within a limit of bytes and time, and their fields turned into typed values.
//!
//! What is not JSON, not an object, or lacks a needed field is 400 `invalid_body`; a field that is there and can't be
//! taken is 422 `invalid_value` and named.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH},
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::ApiError;
use crate::{
    domain::Price,
    protocol::{Code, Problem},
};

/// A body that dribbles in is given up after so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the whole body.
///
/// # Errors
/// 415 when it is compressed, 413 over the limit, 408 when it takes too long, 400 when it breaks off.
pub(super) async fn read(request: &HttpRequest, mut payload: web::Payload, limit: usize) -> Result<Bytes, ApiError> {
    // A small body may unpack to a large one, and clients of this API have nothing worth it.
    let mut encodings = request.headers().get_all(CONTENT_ENCODING);
    if !encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(
            Problem::new(Code::UnsupportedEncoding, "a body is sent as it is, without a Content-Encoding").into()
        );
    }
    let too_large = || ApiError(Problem::new(Code::PayloadTooLarge, format!("a body has at most {limit} bytes")));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let reading = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Problem::new(Code::InvalidBody, "the body broke off"))?;
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .unwrap_or_else(|_| Err(Problem::new(Code::RequestTimeout, "the body took too long").into()))
}

/// Parses a JSON object.
///
/// # Errors
/// 400 when it is none, or lacks a needed field; 422 when it is one, but a field holds what can't be taken (a number
/// beyond all range, a nesting beyond the parser's depth). The text says what serde found, which is the client's own body.
pub(super) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidBody, detail);
    // Asked first: serde passes over the texts of fields that it doesn't need without a look.
    let text = std::str::from_utf8(body).map_err(|error| invalid(error.to_string()))?;
    // serde would take an array for a struct, field by field.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(invalid("a JSON object is needed".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| match field_of(error.path()) {
        Some(field) if is_json(text) => Problem::invalid_value(&field, &error.inner().to_string()),
        _ => invalid(error.inner().to_string()),
    })?;
    json.end().map_err(|error| invalid(error.to_string()))?;
    Ok(parsed)
}

fn field_of(path: &Path) -> Option<String> {
    match path.iter().next() {
        Some(Segment::Map { key }) => Some(key.clone()),
        _ => None,
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A price: a JSON integer from 1 to `max`.
///
/// # Errors
/// 422 that names the field.
pub(super) fn price(field: &str, value: &Value, max: Price) -> Result<Price, Problem> {
    value
        .as_i64()
        .and_then(|won| Price::new(won, max))
        .ok_or_else(|| Problem::invalid_value(field, &format!("a whole number from 1 to {}", max.won())))
}

/// A text.
///
/// # Errors
/// 422 that names the field.
pub(super) fn text(field: &str, value: Value) -> Result<String, Problem> {
    match value {
        // NUL can't be stored on every engine, and nobody writes it.
        Value::String(text) if !text.contains('\0') => Ok(text),
        _ => Err(Problem::invalid_value(field, "a text, without NUL")),
    }
}

/// A whole number.
///
/// # Errors
/// 422 that names the field.
pub(super) fn integer(field: &str, value: &Value) -> Result<i64, Problem> {
    value.as_i64().ok_or_else(|| Problem::invalid_value(field, "a whole number"))
}
