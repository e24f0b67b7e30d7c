//! `GET /goods/{id}/chat/`: what was said in an auction room.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::{
    ApiError, Services,
    bids::{goods_id, no_such_goods},
    json, query,
};
use crate::{domain::GoodsId, store::RoomLine};

#[derive(Serialize)]
struct LineShape {
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
    let lines = services.store.lines(goods, page).await?.ok_or_else(no_such_goods)?;
    let time_zone = services.config.draft.time_zone;
    let shape = |line: RoomLine| LineShape {
        id: line.id,
        author: line.author,
        created_at: line.created_at.local(time_zone).half_day(),
        content: line.content,
        goods,
    };
    let lines = query::not_past_the_end(page, lines)?;
    Ok(json::ok(&lines.into_iter().map(shape).collect::<Vec<_>>()))
}
