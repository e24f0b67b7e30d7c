//! The lines of an auction room: `GET /goods/{id}/chat/` lists them, `DELETE /admin/lines/{id}` removes one.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiError, Data, Response, WRITE_TIMEOUT,
    bids::{goods_id, goods_not_found},
    json, problems, query,
    request_log::id_of,
};
use crate::{
    domain::{GoodsId, LineId},
    store::{
        RoomLine,
        writes::{Audited, RemoveLine, RemovedLine},
    },
};

#[derive(Serialize, ToSchema)]
#[schema(as = Line)]
struct LineResponse {
    id: i64,
    author: String,
    created_at: String,
    content: String,
    goods: GoodsId,
}

/// One page of a room's lines, newest first.
#[utoipa::path(
    get, path = "/goods/{id}/chat/", operation_id = "lines", tag = "goods", security((), ("bearer" = [])),
    params(
        ("id" = GoodsId, Path, description = "The goods"),
        ("page" = Option<i64>, Query, minimum = 1, description = "From 1; past the end is 404"),
    ),
    responses(
        (
            status = 200, description = "The lines of the auction room, newest first, ten a page",
            body = Vec<LineResponse>,
        ),
        problems::Caller, problems::InvalidValue, problems::NotFound,
    ),
)]
pub(super) async fn list(request: HttpRequest, goods: Path<String>, services: Data) -> Response {
    services.visitor(&request).await?;
    let page = query::page(&request)?;
    let goods = goods_id(&goods)?;
    let lines = services.store.lines(goods, page).await?.ok_or_else(goods_not_found)?;
    let lines = query::reject_past_end(page, lines)?;
    let time_zone = services.config.draft.time_zone;
    let response = |RoomLine { id, author, content, created_at }| {
        let created_at = created_at.local(time_zone).twelve_hour();
        LineResponse { id, author, created_at, content, goods }
    };
    Ok(json::ok(&lines.into_iter().map(response).collect::<Vec<_>>()))
}

/// Removes a line for everybody.
#[utoipa::path(
    delete, path = "/admin/lines/{id}", operation_id = "remove_line", tag = "admin", security(("bearer" = [])),
    params(("id" = LineId, Path, description = "The line")),
    responses((status = 204, description = "Removed"), problems::Admin, problems::NotFound),
)]
pub(super) async fn remove(request: HttpRequest, line: Path<String>, services: Data) -> Response {
    let admin = services.admin(&request).await?.user.id;
    let not_found = || ApiError::not_found("no such line");
    let line = LineId::parse(&line).ok_or_else(not_found)?;
    match services.ledger.write(Audited { admin, write: RemoveLine(line) }, WRITE_TIMEOUT).await? {
        RemovedLine::Yes => {
            log::info!(request = id_of(&request), admin = admin.get(), line = line.get(); "an admin has removed a line");
            Ok(HttpResponse::NoContent().finish())
        }
        RemovedLine::UnknownLine => Err(not_found()),
    }
}
