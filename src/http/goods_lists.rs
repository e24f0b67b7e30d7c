//! Lists of goods: `GET /goods/`, `GET /goods/recommend/`, `GET /goods/user/{id}/`.

use actix_web::{HttpRequest, web::Path};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiError, Data, Response, Services, json, problems, query,
    responses::{FirstPicture, GoodsResponse, RecommendedPicture, UserResponse},
};
use crate::{
    actors::{CountPresent, GetBusiestRooms, Present},
    domain::UserId,
    protocol::Problem,
    store::{GoodsCard, GoodsFilter, Page, UserGoods},
};

/// Goods of a list.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
struct ListedGoods(GoodsResponse<UserResponse, FirstPicture>);

/// Recommended goods; users are names.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
struct RecommendedGoods(GoodsResponse<String, RecommendedPicture>);

/// Characters of a search text: as many as a title may have.
const MAX_SEARCH: usize = 256;

/// One page of all goods.
#[utoipa::path(
    get, path = "/goods/", operation_id = "goods", tag = "goods", security((), ("bearer" = [])),
    params(
        ("page" = Option<i64>, Query, minimum = 1, description = "From 1; past the end is 404"),
        ("category" = Option<String>, Query, max_length = 256, description = "The whole category"),
        ("status" = Option<PhaseQuery>, Query, description = "`null`: scheduled, `true`: live, `false`: ended"),
        ("search" = Option<String>, Query, max_length = 256, description = "A text in title or content"),
    ),
    responses(
        (status = 200, description = "Newest first, ten a page", body = Vec<ListedGoods>),
        problems::Caller, problems::InvalidValue, problems::NotFound,
    ),
)]
pub(super) async fn list(request: HttpRequest, services: Data) -> Response {
    let viewer = services.viewer(&request).await?;
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
    listed(&services, query::reject_past_end(page, goods)?).await
}

/// Scheduled and live goods that have participants or are new.
#[utoipa::path(
    get, path = "/goods/recommend/", operation_id = "recommended_goods", tag = "goods", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "At most ten", body = Vec<RecommendedGoods>), problems::Caller,
    ),
)]
pub(super) async fn recommend(request: HttpRequest, services: Data) -> Response {
    let viewer = services.viewer(&request).await?;
    let busiest = services.rooms.send(GetBusiestRooms).await.unwrap_or_default();
    let goods = services.store.recommended(busiest, viewer).await?;
    let at = services.local_time();
    // Users are names, and the picture is in `image`.
    let picture = |images: Vec<_>| RecommendedPicture { image: images.into_iter().next() };
    let response =
        |goods, present| RecommendedGoods(GoodsResponse::new(goods, |user| user.username, picture, present, at));
    with_present(&services, goods, response).await
}

/// The goods that a user sells, has bought or likes.
#[utoipa::path(
    get, path = "/goods/user/{id}/", operation_id = "goods_of_user", tag = "goods", security((), ("bearer" = [])),
    params(
        ("id" = UserId, Path, description = "The user"),
        (
            "status" = Option<UserGoodsQuery>, Query,
            description = "What they sell (also without it), have bought or like, or sell in a phase",
        ),
        ("page" = Option<i64>, Query, minimum = 1, description = "From 1; past the end is 404"),
    ),
    responses(
        (status = 200, description = "Newest first", body = Vec<ListedGoods>),
        problems::Caller, problems::InvalidValue, problems::NotFound,
    ),
)]
pub(super) async fn of_user(request: HttpRequest, user: Path<String>, services: Data) -> Response {
    let viewer = services.viewer(&request).await?;
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
    let user = UserId::parse(&user).ok_or_else(|| ApiError::not_found("no such user"))?;
    let goods = services.store.user_goods(user, which, page, viewer).await?;
    listed(&services, query::reject_past_end(page.unwrap_or(Page::FIRST), goods)?).await
}

/// The values of `status`, for `/openapi.json`.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)] // `query::phase` parses them.
pub(super) enum PhaseQuery {
    Null,
    True,
    False,
}

/// The values of `status` for the goods of a user, for `/openapi.json`.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)] // `of_user` parses them.
pub(super) enum UserGoodsQuery {
    Sell,
    Buy,
    Like,
    Null,
    True,
    False,
}

/// 422 for an unknown status (fault 18: the origin answers 500).
fn wrong_status(expected: &str) -> Problem {
    Problem::invalid_value("status", expected)
}

/// Goods whose `images` is one picture.
async fn listed(services: &Services, goods: Vec<GoodsCard>) -> Response {
    let at = services.local_time();
    let picture = |images: Vec<_>| FirstPicture { images: images.into_iter().next() };
    let response = |goods, present| ListedGoods(GoodsResponse::new(goods, UserResponse::from, picture, present, at));
    with_present(services, goods, response).await
}

/// The goods, each with how many are in its room. The rooms don't answer while the node shuts down, and count as
/// empty then.
async fn with_present<R: Serialize>(
    services: &Services,
    goods: Vec<GoodsCard>,
    response: impl Fn(GoodsCard, Present) -> R,
) -> Response {
    let ids = goods.iter().map(|goods| goods.facts.id).collect();
    let mut counts = services.rooms.send(CountPresent(ids)).await.unwrap_or_default().into_iter();
    let counted = |goods| response(goods, counts.next().unwrap_or_default());
    Ok(json::ok(&goods.into_iter().map(counted).collect::<Vec<_>>()))
}
