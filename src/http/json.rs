//! JSON on its way out: one place for all bodies, so that every one of them is inert in a page (fault 16).

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

/// Any status with this body.
pub(crate) fn json(response: HttpResponseBuilder, value: &impl Serialize) -> HttpResponse {
    json_as("application/json", response, value)
}

/// The same of a kind of JSON that has a name of its own.
pub(crate) fn json_as(kind: &'static str, mut response: HttpResponseBuilder, value: &impl Serialize) -> HttpResponse {
    response.content_type(kind).body(to_json(value))
}
