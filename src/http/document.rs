//! What the binary itself serves: bytes that stay the same while it runs, compressed once, with an `ETag` by which caches
//! ask again.

use std::{
    hash::{DefaultHasher, Hasher},
    io::Write,
    sync::OnceLock,
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::header::{AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, ETAG, Encoding, EntityTag, IfNoneMatch, VARY},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;

use crate::protocol::to_json;

/// A document with its content type.
pub(super) struct Document {
    content_type: &'static str,
    body: Bytes,
    hash: u64,
    /// `None` if it would not be smaller.
    gzip: OnceLock<Option<Bytes>>,
}

impl Document {
    pub(super) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        // The same bytes have the same tag on every node and after every restart: the keys of this hasher are fixed.
        let mut hasher = DefaultHasher::new();
        hasher.write(&body);
        Self { content_type, body, hash: hasher.finish(), gzip: OnceLock::new() }
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::new("application/json", to_json(value))
    }

    /// 200 with the document, or 304 if the client has it.
    pub(super) fn response(&self, request: &HttpRequest) -> HttpResponse {
        let gzip = if takes_gzip(request) { self.gzip() } else { None };
        let tag = EntityTag::new_strong(format!("{:016x}{}", self.hash, if gzip.is_some() { "-gzip" } else { "" }));
        let is_known = match request.get_header::<IfNoneMatch>() {
            Some(IfNoneMatch::Any) => true,
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
            None => false,
        };
        let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response.insert_header((ETAG, tag.to_string()));
        response.insert_header((VARY, "accept-encoding"));
        // Caches keep it and ask each time whether it is still the same, since an upgrade may change it.
        response.insert_header((CACHE_CONTROL, "public, no-cache"));
        if is_known {
            return response.finish();
        }
        response.content_type(self.content_type);
        match gzip {
            Some(gzip) => response.insert_header((CONTENT_ENCODING, "gzip")).body(gzip.clone()),
            None => response.body(self.body.clone()),
        }
    }

    fn gzip(&self) -> Option<&Bytes> {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&self.body).ok()?;
            let smaller = encoder.finish().ok().filter(|gzip| gzip.len() < self.body.len())?;
            Some(Bytes::from(smaller))
        };
        self.gzip.get_or_init(compress).as_ref()
    }
}

fn takes_gzip(request: &HttpRequest) -> bool {
    let accepted = request.get_header::<AcceptEncoding>();
    let best = accepted.and_then(|accepted| accepted.negotiate([Encoding::gzip(), Encoding::identity()].iter()));
    best == Some(Encoding::gzip())
}
