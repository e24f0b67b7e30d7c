//! `GET /`: the bidders' page, `GET /admin/`: the operator's, and their files under `/app/`, all from `web/app` and in
//! the binary. `server.pages` switches them off.

use std::{collections::HashMap, sync::LazyLock};

use actix_web::HttpRequest;

use super::{ApiError, Data, Response, docs, document::Document, problems};

/// The named files of `web/app`, as `(name, text)`.
macro_rules! files {
    ($($name:literal,)*) => { [$(($name, include_str!(concat!("../../web/app/", $name)))),*] };
}

/// What `/app/` serves. A new file of `web/app` stands here.
static FILES: LazyLock<HashMap<&'static str, Document>> = LazyLock::new(|| {
    let files = files![
        "admin/admin.css",
        "admin/admin.js",
        "admin/ask.js",
        "admin/auctions.js",
        "admin/audit.js",
        "admin/deliveries.js",
        "admin/figures.js",
        "admin/service.js",
        "admin/tiles.js",
        "admin/users.js",
        "admin/verdict.js",
        "admin/words.js",
        "alarms.js",
        "app.js",
        "bidbox.js",
        "bidding.js",
        "card.js",
        "chart.js",
        "dom.js",
        "feed.js",
        "format.js",
        "history.js",
        "home.js",
        "icon.svg",
        "icons.js",
        "inbox.js",
        "lists.js",
        "live.js",
        "look.css",
        "pages.css",
        "picture.js",
        "price.js",
        "ring.js",
        "room.js",
        "session.js",
        "shell.js",
        "signin.js",
        "standings.js",
        "toasts.js",
        "verdict.js",
        "words.en.js",
        "words.js",
        "words.ko.js",
    ];
    files.into_iter().map(|(name, text)| (name, Document::new(content_type(name), text))).collect()
});

static HOME: LazyLock<Page> = LazyLock::new(|| Page::new(include_str!("../../web/app/index.html")));
static ADMIN: LazyLock<Page> = LazyLock::new(|| Page::new(include_str!("../../web/app/admin/index.html")));

/// A page, which says in its markup how people come in.
struct Page {
    /// When people come with a token.
    with_token: Document,
    /// With `auth.dev_login`: people choose a name, and the operator is signed in.
    with_name: Document,
}

impl Page {
    fn new(text: &'static str) -> Self {
        let with_name = text.replacen("data-login=\"token\"", "data-login=\"name\"", 1);
        Self { with_token: Document::new(HTML, text), with_name: Document::new(HTML, with_name) }
    }

    async fn serve(&self, request: &HttpRequest, services: &Data) -> Response {
        let page = if services.config.dev_login { &self.with_name } else { &self.with_token };
        docs::serve(page, request, services).await
    }
}

const HTML: &str = "text/html; charset=utf-8";

/// The bidders' page.
#[utoipa::path(
    get, path = "/", operation_id = "page", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "The page", content_type = "text/html; charset=utf-8", body = String),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn home(request: HttpRequest, services: Data) -> Response {
    HOME.serve(&request, &services).await
}

/// The operator's page. It holds no figures: it asks for them with the token that the operator gives it.
#[utoipa::path(
    get, path = "/admin", operation_id = "admin_page", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "The page", content_type = "text/html; charset=utf-8", body = String),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn admin(request: HttpRequest, services: Data) -> Response {
    ADMIN.serve(&request, &services).await
}

/// A script, style or picture of the page.
#[utoipa::path(
    get, path = "/app/{path}", operation_id = "page_file", tag = "service", security((), ("bearer" = [])),
    params(("path" = String, Path, description = "A file of the page; it may have slashes")),
    responses(
        (status = 200, description = "The file"),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn file(request: HttpRequest, services: Data) -> Response {
    let file = FILES.get(request.match_info().get("path").unwrap_or_default());
    docs::serve(file.ok_or_else(|| ApiError::not_found("no such path"))?, &request, &services).await
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => HTML,
    }
}
