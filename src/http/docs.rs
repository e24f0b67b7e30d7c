//! `GET /docs`: a page that draws `/openapi.json` and `/asyncapi.json`. Page, style and script are in the binary and ask no
//! other host. `server.pages` switches them off.

use std::sync::LazyLock;

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_SECURITY_POLICY, HeaderValue},
};

use super::{ApiError, Data, Response, document::Document, problems};

/// What a page may load: its own files, and pictures of goods.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'self'; img-src 'self' https: data:");

static PAGE: LazyLock<Document> =
    LazyLock::new(|| Document::new("text/html; charset=utf-8", include_str!("docs/index.html")));
static STYLE: LazyLock<Document> =
    LazyLock::new(|| Document::new("text/css; charset=utf-8", include_str!("docs/docs.css")));
static SCRIPT: LazyLock<Document> =
    LazyLock::new(|| Document::new("text/javascript; charset=utf-8", include_str!("docs/docs.js")));

/// A page for people: the HTTP API and the WebSockets.
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "The page", content_type = "text/html; charset=utf-8", body = String),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn page(request: HttpRequest, services: Data) -> Response {
    serve(&PAGE, &request, &services).await
}

/// The style of the page.
#[utoipa::path(
    get, path = "/docs/docs.css", operation_id = "docs_style", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "The style", content_type = "text/css; charset=utf-8", body = String),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn style(request: HttpRequest, services: Data) -> Response {
    serve(&STYLE, &request, &services).await
}

/// The script of the page.
#[utoipa::path(
    get, path = "/docs/docs.js", operation_id = "docs_script", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "The script", content_type = "text/javascript; charset=utf-8", body = String),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn script(request: HttpRequest, services: Data) -> Response {
    serve(&SCRIPT, &request, &services).await
}

/// A document for browsers, unless `server.pages` is off.
pub(super) async fn serve(document: &Document, request: &HttpRequest, services: &Data) -> Response {
    services.anyone(request).await?;
    if !services.config.pages {
        return Err(ApiError::not_found("no such path"));
    }
    let mut response = document.response(request);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}
