//! `/media/*`: pictures of goods and users from `server.media_dir`, the built-in `/media/default.jpeg`, and `/media/x/{id}`,
//! which leads to pictures elsewhere.
//!
//! Users have uploaded these files, so a browser may only display them: no scripts, no forms, no guessing of another
//! content type.

use std::path::PathBuf;

use actix_files::{NamedFile, PathBufWrap};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, LOCATION},
    web,
};

use super::{ApiError, Data, Response, problems};
use crate::domain::PictureId;

/// The profile picture of users without one.
const DEFAULT_PICTURE: &[u8] = include_bytes!("default.jpeg");
/// Forbids everything to an uploaded file that a browser opens as a page.
const INERT_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");

/// Serves the built-in picture.
#[utoipa::path(
    get, path = "/media/default.jpeg", operation_id = "default_picture", tag = "service", security((), ("bearer" = [])),
    responses((status = 200, description = "A picture", content_type = "image/jpeg"), problems::Caller),
)]
pub(super) async fn default_picture(request: HttpRequest, services: Data) -> Response {
    services.visitor(&request).await?;
    Ok(HttpResponse::Ok()
        .content_type("image/jpeg")
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .insert_header((CONTENT_SECURITY_POLICY, INERT_POLICY))
        .body(DEFAULT_PICTURE))
}

/// Leads to a picture that is elsewhere: its goods or user have it by an https URL.
#[utoipa::path(
    get, path = "/media/x/{id}", operation_id = "picture_elsewhere", tag = "service", security((), ("bearer" = [])),
    params(("id" = String, Path, description = "As in a path of a picture")),
    responses(
        (status = 302, description = "The picture's URL", headers(("Location" = String, description = "An https URL"))),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn elsewhere(request: HttpRequest, id: web::Path<String>, services: Data) -> Response {
    services.visitor(&request).await?;
    let not_found = || ApiError::not_found("no such picture");
    let id = PictureId::parse(&id).ok_or_else(not_found)?;
    let url = services.store.picture_url(id).await?.ok_or_else(not_found)?;
    // Short, because the picture may be exchanged.
    Ok(HttpResponse::Found()
        .insert_header((LOCATION, url))
        .insert_header((CACHE_CONTROL, "public, max-age=60"))
        .finish())
}

/// Serves a file of `server.media_dir`. Anything but a plain file in it is 404: folders, hidden files, paths that lead
/// out.
#[utoipa::path(
    get, path = "/media/{path}", operation_id = "picture", tag = "service", security((), ("bearer" = [])),
    params(("path" = String, Path, description = "A path below `server.media_dir`; it may have slashes")),
    responses(
        (status = 200, description = "The file", content_type = "image/*"),
        (status = 206, description = "A part of the file, for a `Range`", content_type = "image/*"),
        (status = 304, description = "Not changed"),
        (status = 412, description = "Changed, for `If-Match` and `If-Unmodified-Since`"),
        (status = 416, description = "The file is shorter than the `Range`"),
        problems::Caller, problems::NotFound,
    ),
)]
pub(super) async fn file(request: HttpRequest, services: Data) -> Response {
    services.visitor(&request).await?;
    let file_not_found = || ApiError::not_found("no such file");
    let folder = services.config.media_dir.clone().ok_or_else(file_not_found)?;
    let path = request.match_info().get("path").unwrap_or_default();
    let path = PathBufWrap::parse_path(path, false).map_err(|_| file_not_found())?;
    let found = web::block(move || find(folder, path)).await.map_err(|_| file_not_found())?;
    let mut response = found.ok_or_else(file_not_found)?.into_response(&request);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, INERT_POLICY);
    Ok(response)
}

/// Opens a plain file below the folder. The check comes before opening: opening a pipe would block the thread.
fn find(folder: PathBuf, path: PathBufWrap) -> Option<NamedFile> {
    // Resolves symbolic links, so that none leads out of the folder.
    let path = folder.join(path).canonicalize().ok()?;
    (path.starts_with(&folder) && path.is_file()).then(|| NamedFile::open(path).ok())?
}
