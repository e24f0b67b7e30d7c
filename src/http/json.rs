//! JSON responses. Every body is written here, so that all are escaped to be inert in an HTML page (fault 16).

use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use crate::protocol::to_json;

/// 200 with this body.
pub(crate) fn ok(value: &impl Serialize) -> HttpResponse {
    json(HttpResponse::Ok(), value)
}

/// 201 with this body.
pub(crate) fn created(value: &impl Serialize) -> HttpResponse {
    json(HttpResponse::Created(), value)
}

/// Any status with this body, as `application/json`.
pub(crate) fn json(response: HttpResponseBuilder, value: &impl Serialize) -> HttpResponse {
    json_as("application/json", response, value)
}

/// Any status with this body, as a more specific type such as `application/problem+json`.
pub(crate) fn json_as(
    content_type: &'static str,
    mut response: HttpResponseBuilder,
    value: &impl Serialize,
) -> HttpResponse {
    response.content_type(content_type).body(to_json(value))
}
