//! `GET /goods/{id}/chat/`: the lines that were written in an auction room.

use actix_web::{HttpRequest, web::Path};
use serde::Serialize;

use super::{
    Data, Response,
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
