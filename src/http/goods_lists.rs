//! Lists of goods: `GET /goods/`, `GET /goods/recommend/`, `GET /goods/user/{id}/`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    ApiError, Services, json,
    participants::{Participants, busiest, participants},
    query,
    responses::{ListedGoodsResponse, RecommendedGoodsResponse},
};
use crate::{
    domain::{GoodsId, UserId},
    protocol::Problem,
    store::{GoodsCard, GoodsFilter, Page, UserGoods},
};

/// Characters of a search text: as many as a title may have.
const MAX_SEARCH: usize = 256;

/// One page of all goods.
pub(super) async fn list(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let viewer = viewer(&services, &request).await?;
    let page = query::page(&request)?;
    let phase = match query::non_empty(&request, "status") {
        Some(text) => Some(query::phase(&text).ok_or_else(|| wrong_status("null, true or false"))?),
        None => None,
    };
    let filter = GoodsFilter {
        category: query::text(&request, "category", MAX_SEARCH)?,
        phase,
        search: query::text(&request, "search", MAX_SEARCH)?,
    };
    let goods = services.store.goods_list(filter, page, viewer).await?;
    list_response(&services, query::reject_past_end(page, goods)?).await
}

/// Scheduled and live goods that have participants or are new.
pub(super) async fn recommend(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let viewer = viewer(&services, &request).await?;
    let goods = services.store.recommended(busiest(&services).await, viewer).await?;
    let participants = participants_of(&services, &goods).await;
    let (time_zone, now) = (services.config.draft.time_zone, services.time.now());
    let response = |goods| RecommendedGoodsResponse::new(goods, &participants, time_zone, now);
    Ok(json::ok(&goods.into_iter().map(response).collect::<Vec<_>>()))
}

/// The goods that a user sells, has bought or likes.
pub(super) async fn of_user(
    request: HttpRequest,
    user: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let viewer = viewer(&services, &request).await?;
    // The existing client sends no page here and expects all goods.
    let page = match query::non_empty(&request, "page") {
        Some(_) => Some(query::page(&request)?),
        None => None,
    };
    let which = match query::non_empty(&request, "status").as_deref() {
        None | Some("sell") => UserGoods::Sold,
        Some("buy") => UserGoods::Bought,
        Some("like") => UserGoods::Liked,
        Some(text) => {
            let phase = query::phase(text).map(UserGoods::InPhase);
            phase.ok_or_else(|| wrong_status("sell, buy, like, null, true or false"))?
        }
    };
    let user_not_found = || ApiError::not_found("no such user");
    let user = UserId::parse(&user).ok_or_else(user_not_found)?;
    let goods = services.store.user_goods(user, which, page, viewer).await?;
    list_response(&services, query::reject_past_end(page.unwrap_or(Page::FIRST), goods)?).await
}

/// 422 for an unknown status (fault 18: the origin answers 500).
fn wrong_status(expected: &str) -> Problem {
    Problem::invalid_value("status", expected)
}

async fn viewer(services: &Services, request: &HttpRequest) -> Result<Option<UserId>, ApiError> {
    Ok(services.visitor(request).await?.map(|identity| identity.user.id))
}

async fn list_response(services: &Services, goods: Vec<GoodsCard>) -> Result<HttpResponse, ApiError> {
    let participants = participants_of(services, &goods).await;
    let (time_zone, now) = (services.config.draft.time_zone, services.time.now());
    let response = |goods| ListedGoodsResponse::new(goods, &participants, time_zone, now);
    Ok(json::ok(&goods.into_iter().map(response).collect::<Vec<_>>()))
}

async fn participants_of(services: &Services, goods: &[GoodsCard]) -> Participants {
    let ids: Vec<GoodsId> = goods.iter().map(|goods| goods.facts.id).collect();
    participants(services, &ids).await
}
