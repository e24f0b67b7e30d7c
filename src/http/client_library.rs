//! `GET /client/handsup.js` and `/client/handsup.d.ts`: the client library of `web/client`, from the binary.
//! `server.pages` switches it off.

use std::sync::LazyLock;

use actix_web::HttpRequest;

use super::{Data, Response, docs, document::Document, problems};

static LIBRARY: LazyLock<Document> =
    LazyLock::new(|| Document::new("text/javascript; charset=utf-8", include_str!("../../web/client/handsup.js")));
static TYPES: LazyLock<Document> = LazyLock::new(|| {
    Document::new("application/typescript; charset=utf-8", include_str!("../../web/client/handsup.d.ts"))
});

/// The client library, an ES module.
#[utoipa::path(
    get, path = "/client/handsup.js", operation_id = "client_library", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "The library", content_type = "text/javascript; charset=utf-8", body = String),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn library(request: HttpRequest, services: Data) -> Response {
    docs::serve(&LIBRARY, &request, &services).await
}

/// The TypeScript types of the client library.
#[utoipa::path(
    get, path = "/client/handsup.d.ts", operation_id = "client_types", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "The types", content_type = "application/typescript; charset=utf-8", body = String),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn types(request: HttpRequest, services: Data) -> Response {
    docs::serve(&TYPES, &request, &services).await
}
