//! `/media/*`: pictures of goods and users from `server.media_dir`, and the built-in `/media/default.jpeg`.
//!
//! Users have uploaded these files, so none of them may do anything in a browser but be shown: no scripts, no forms,
//! no type but the one that is said.

use std::path::PathBuf;

use actix_files::{NamedFile, PathBufWrap};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue},
    web,
};

use super::{ApiError, Services};

/// The picture of users who have none.
const DEFAULT_PICTURE: &[u8] = include_bytes!("default.jpeg");
/// What a page made of an uploaded file may do: nothing.
const INERT: HeaderValue = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");

/// The built-in picture.
pub(super) async fn default_picture(
    request: HttpRequest,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    services.visitor(&request).await?;
    Ok(HttpResponse::Ok()
        .content_type("image/jpeg")
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .insert_header((CONTENT_SECURITY_POLICY, INERT))
        .body(DEFAULT_PICTURE))
}

/// A file of `server.media_dir`. Whatever is not a plain file in it is not there: folders, hidden files, ways out.
pub(super) async fn file(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    services.visitor(&request).await?;
    let no_such_file = || ApiError::not_found("no such file");
    let folder = services.config.media_dir.clone().ok_or_else(no_such_file)?;
    let path = request.match_info().get("path").unwrap_or_default();
    let path = PathBufWrap::parse_path(path, false).map_err(|_| no_such_file())?;
    let found = web::block(move || find(folder, path)).await.map_err(|_| no_such_file())?;
    let mut response = found.ok_or_else(no_such_file)?.into_response(&request);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, INERT);
    Ok(response)
}

/// Opens a plain file below the folder. Looked at before it is opened: a pipe would keep its thread.
fn find(folder: PathBuf, path: PathBufWrap) -> Option<NamedFile> {
    // Resolved, so that a link in the folder leads nowhere else.
    let path = folder.join(path).canonicalize().ok()?;
    (path.starts_with(&folder) && path.is_file()).then(|| NamedFile::open(path).ok())?
}
