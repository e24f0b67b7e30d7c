//! What the binary itself serves: bytes that stay the same while it runs, with an `ETag` by which caches ask again.

use std::hash::{DefaultHasher, Hasher};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, ETAG, EntityTag, IfNoneMatch},
};
use bytes::Bytes;
use serde::Serialize;

use crate::protocol::to_json;

/// A document with its content type.
pub(super) struct Document {
    content_type: &'static str,
    body: Bytes,
    tag: EntityTag,
}

impl Document {
    pub(super) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        // The same bytes have the same tag on every node and after every restart: the keys of this hasher are fixed.
        let mut hasher = DefaultHasher::new();
        hasher.write(&body);
        let tag = EntityTag::new_strong(format!("{:016x}", hasher.finish()));
        Self { content_type, body, tag }
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::new("application/json", to_json(value))
    }

    /// 200 with the document, or 304 if the client has it.
    pub(super) fn response(&self, request: &HttpRequest) -> HttpResponse {
        let is_known = match request.get_header::<IfNoneMatch>() {
            Some(IfNoneMatch::Any) => true,
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&self.tag)),
            None => false,
        };
        let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response.insert_header((ETAG, self.tag.to_string()));
        // Caches keep it and ask each time whether it is still the same, since an upgrade may change it.
        response.insert_header((CACHE_CONTROL, "public, no-cache"));
        if is_known {
            return response.finish();
        }
        response.content_type(self.content_type).body(self.body.clone())
    }
}
