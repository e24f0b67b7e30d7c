//! `GET /goods/`, `GET /goods/recommend/`, `GET /goods/user/{id}/`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    ApiError, Services, json,
    participants::{Participants, busiest, participants},
    query,
    responses::{ListShape, RecommendedShape},
};
use crate::{
    domain::{GoodsId, UserId},
    protocol::Problem,
    store::{GoodsCard, GoodsFilter, Page, UserGoods},
};

/// Longest text to search for, in characters: as long as a title.
const MAX_SEARCH: usize = 256;

/// One page of all goods.
pub(super) async fn list(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let viewer = viewer(&services, &request).await?;
    let page = query::page(&request)?;
    let phase = match query::filled(&request, "status") {
        Some(text) => Some(query::phase(&text).ok_or_else(|| wrong_status("null, true or false"))?),
        None => None,
    };
    let filter = GoodsFilter {
        category: query::text(&request, "category", MAX_SEARCH)?,
        phase,
        search: query::text(&request, "search", MAX_SEARCH)?,
    };
    let goods = services.store.goods_list(filter, page, viewer).await?;
    listed(&services, query::not_past_the_end(page, goods)?).await
}

/// Scheduled and live goods that others are looking at, or that are new.
pub(super) async fn recommend(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let viewer = viewer(&services, &request).await?;
    let goods = services.store.recommended(busiest(&services).await, viewer).await?;
    let participants = participants_of(&services, &goods).await;
    let (time_zone, now) = (services.config.draft.time_zone, services.time.now());
    let shape = |goods| RecommendedShape::new(goods, &participants, time_zone, now);
    Ok(json::ok(&goods.into_iter().map(shape).collect::<Vec<_>>()))
}

/// One page of a user's goods: sold, bought or liked by him.
pub(super) async fn of_user(
    request: HttpRequest,
    user: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let viewer = viewer(&services, &request).await?;
    // The existing client asks for no page here, and wants them all.
    let page = match query::filled(&request, "page") {
        Some(_) => Some(query::page(&request)?),
        None => None,
    };
    let which = match query::filled(&request, "status").as_deref() {
        None | Some("sell") => UserGoods::Sold,
        Some("buy") => UserGoods::Bought,
        Some("like") => UserGoods::Liked,
        Some(text) => {
            let phase = query::phase(text).map(UserGoods::InPhase);
            phase.ok_or_else(|| wrong_status("sell, buy, like, null, true or false"))?
        }
    };
    let no_such_user = || ApiError::not_found("no such user");
    let user = UserId::parse(&user).ok_or_else(no_such_user)?;
    let goods = services.store.user_goods(user, which, page, viewer).await?;
    listed(&services, query::not_past_the_end(page.unwrap_or(Page::FIRST), goods)?).await
}

/// Fault 18: a wrong status is the client's error, not ours.
fn wrong_status(asked: &str) -> Problem {
    Problem::invalid_value("status", asked)
}

async fn viewer(services: &Services, request: &HttpRequest) -> Result<Option<UserId>, ApiError> {
    Ok(services.visitor(request).await?.map(|identity| identity.user.id))
}

async fn listed(services: &Services, goods: Vec<GoodsCard>) -> Result<HttpResponse, ApiError> {
    let participants = participants_of(services, &goods).await;
    let (time_zone, now) = (services.config.draft.time_zone, services.time.now());
    let shape = |goods| ListShape::new(goods, &participants, time_zone, now);
    Ok(json::ok(&goods.into_iter().map(shape).collect::<Vec<_>>()))
}

async fn participants_of(services: &Services, goods: &[GoodsCard]) -> Participants {
    let ids: Vec<GoodsId> = goods.iter().map(|goods| goods.facts.id).collect();
    participants(services, &ids).await
}
