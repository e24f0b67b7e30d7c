//! `GET /goods/{id}/chat/`: the lines that were written in an auction room.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::{
    ApiError, Services,
    bids::{goods_id, goods_not_found},
    json, query,
};
use crate::{domain::GoodsId, store::RoomLine};

#[derive(Serialize)]
struct LineResponse {
    id: i64,
    author: String,
    created_at: String,
    content: String,
    goods: GoodsId,
}

/// One page of a room's lines, newest first.
pub(super) async fn list(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    services.visitor(&request).await?;
    let page = query::page(&request)?;
    let goods = goods_id(&goods)?;
    let lines = services.store.lines(goods, page).await?.ok_or_else(goods_not_found)?;
    let time_zone = services.config.draft.time_zone;
    let response = |line: RoomLine| LineResponse {
        id: line.id,
        author: line.author,
        created_at: line.created_at.local(time_zone).twelve_hour(),
        content: line.content,
        goods,
    };
    let lines = query::reject_past_end(page, lines)?;
    Ok(json::ok(&lines.into_iter().map(response).collect::<Vec<_>>()))
}
