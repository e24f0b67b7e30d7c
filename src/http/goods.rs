//! One goods item: create (`POST /goods/`), show and delete (`/goods/{id}/`), like and unlike (`/goods/{id}/like`, and
//! the existing client's `GET /goods/like/{id}/`), cancel (`POST /admin/goods/{id}/cancel`). Lists are in `goods_lists`.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, LOCATION},
    web::{Path, Payload},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    ApiError, Data, Response, Services, WRITE_TIMEOUT,
    bids::{goods_id, goods_not_found},
    body, json, problems,
    request_log::id_of,
    responses::GoodsPage,
};
use crate::{
    actors::GetParticipants,
    domain::{DraftError, GoodsDraft, GoodsId, Price, StartInput, Timestamp, User, UserId},
    protocol::{Code, Problem},
    store::{
        GoodsDetail,
        writes::{Audited, CancelGoods, Cancelled, CreateGoods, DeleteGoods, Deleted, Like, LikeSet, SetLike},
    },
};

/// The longest reason that an admin may give.
const MAX_REASON_CHARS: usize = 256;

/// The fields that a seller may set. Others are ignored: a seller can't set a high price, a phase or a trade room
/// (fault 15).
#[derive(Deserialize, ToSchema)]
#[schema(description = "What a seller may set. Other fields are ignored")]
struct GoodsBody {
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    title: Value,
    #[schema(value_type = i64, minimum = 1)]
    start_price: Value,
    #[serde(flatten)]
    details: DetailsBody,
}

/// What may be left out of new goods.
#[derive(Deserialize, ToSchema)]
pub(super) struct DetailsBody {
    #[schema(value_type = Option<String>)]
    content: Option<Value>,
    #[schema(value_type = Option<String>, max_length = 64)]
    category: Option<Value>,
    #[schema(value_type = Option<i64>, minimum = 1)]
    predict_price: Option<Value>,
    /// At most 60 s in the past. Without it `start_date` and `start_time` are needed.
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Value>,
    /// Local to `auction.time_zone`.
    #[schema(value_type = Option<String>, format = Date)]
    start_date: Option<Value>,
    #[schema(value_type = Option<String>, example = "17:30")]
    start_time: Option<Value>,
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 2592000)]
    duration_s: Option<Value>,
    /// The least step between two bids.
    #[schema(value_type = Option<i64>, minimum = 1)]
    min_increment: Option<Value>,
    /// Paths or https URLs of pictures.
    #[schema(value_type = Option<Vec<String>>, max_items = 20)]
    images: Option<Value>,
}

/// Types the fields; what they mean is checked by [`GoodsDraft::check`].
pub(super) fn draft(
    title: Option<Value>,
    start_price: Option<Value>,
    details: DetailsBody,
    max: Price,
) -> Result<GoodsDraft, Problem> {
    let text = |field: &str, value: Option<Value>| value.map(|value| body::text(field, value)).transpose();
    let price = |field: &str, value: Option<Value>| value.map(|value| body::price(field, &value, max)).transpose();
    let start_price = price("start_price", start_price)?;
    let start = match (details.starts_at, details.start_date, details.start_time) {
        (Some(at), _, _) => Some(StartInput::Instant(body::text("starts_at", at)?)),
        (None, Some(date), Some(time)) => {
            Some(StartInput::Local { date: body::text("start_date", date)?, time: body::text("start_time", time)? })
        }
        (None, None, None) => None,
        _ => return Err(DraftError::Missing(StartInput::FIELDS).into()),
    };
    Ok(GoodsDraft {
        title: text("title", title)?,
        content: text("content", details.content)?,
        category: text("category", details.category)?,
        start_price,
        predict_price: price("predict_price", details.predict_price)?,
        start,
        duration_s: details.duration_s.map(|value| body::integer("duration_s", &value)).transpose()?,
        min_increment: price("min_increment", details.min_increment)?,
        images: details.images.map(pictures).transpose()?,
    })
}

fn pictures(value: Value) -> Result<Vec<String>, Problem> {
    match value {
        Value::Array(pictures) => pictures.into_iter().map(|picture| body::text("images", picture)).collect(),
        _ => Err(Problem::invalid_value("images", "a list of paths and https URLs")),
    }
}

impl From<DraftError> for Problem {
    fn from(error: DraftError) -> Self {
        match error {
            DraftError::Missing(fields) => Self::new(Code::InvalidBody, format!("missing field `{fields}`")),
            DraftError::Wrong { field, expected } => Self::invalid_value(field, expected),
        }
    }
}

/// Creates goods. The seller is the token's user.
#[utoipa::path(
    post, path = "/goods/", operation_id = "create_goods", tag = "goods", security(("bearer" = [])),
    request_body(content = GoodsBody, example = json!({
        "title": "camera", "content": "a film camera", "category": "기타", "start_price": 1000,
        "starts_at": "2027-11-22T08:30:00Z", "duration_s": 600, "min_increment": 100,
    })),
    responses(
        (status = 201, description = "The goods", body = GoodsPage, headers(
            ("Location" = String, description = "The path of the goods"),
        )),
        problems::Caller, problems::Body,
    ),
)]
pub(super) async fn create(request: HttpRequest, payload: Payload, services: Data) -> Response {
    let seller = services.user(&request).await?.user;
    let body: GoodsBody = body::object(&request, payload, &services).await?;
    let draft = draft(Some(body.title), Some(body.start_price), body.details, services.config.max_price)?;
    let goods = draft.check(None, &services.config.draft, services.time.now()).map_err(Problem::from)?;
    let make = CreateGoods { seller: seller.id, goods: goods.clone() };
    let (id, made_at) = services.ledger.write(make, WRITE_TIMEOUT).await?;
    // Built from what was written: a failing read must not hide that the goods exist.
    let goods = GoodsDetail::fresh(id, User::clone(&seller), goods, made_at);
    let response = GoodsPage::new(goods, &[], 0, services.local_time());
    let mut created = HttpResponse::Created();
    created.insert_header((LOCATION, format!("/goods/{id}/")));
    Ok(json::json(created, &response))
}

/// Everything that the page of a goods item shows.
#[utoipa::path(
    get, path = "/goods/{id}/", operation_id = "goods_page", tag = "goods", security((), ("bearer" = [])),
    params(("id" = GoodsId, Path, description = "The goods")),
    responses((status = 200, description = "The goods", body = GoodsPage), problems::Caller, problems::NotFound),
)]
pub(super) async fn show(request: HttpRequest, goods: Path<String>, services: Data) -> Response {
    let viewer = services.viewer(&request).await?;
    let id = goods_id(&goods)?;
    Ok(json::ok(&page(&services, id, viewer).await?.ok_or_else(goods_not_found)?))
}

/// The page of these goods as the viewer sees them now; `None` if there are no such goods.
pub(super) async fn page(
    services: &Services,
    id: GoodsId,
    viewer: Option<UserId>,
) -> Result<Option<GoodsPage>, ApiError> {
    let Some(goods) = services.store.goods_detail(id, viewer).await? else { return Ok(None) };
    let (present, watchers) = present_users(services, id).await;
    Ok(Some(GoodsPage::new(goods, &present, watchers, services.local_time())))
}

/// The users in the room of these goods, by their current names (a name may have changed since its user joined), and how
/// many watch. The rooms don't answer while the node shuts down, and count as empty then.
async fn present_users(services: &Services, goods: GoodsId) -> (Vec<Arc<User>>, usize) {
    let Ok(present) = services.rooms.send(GetParticipants(goods)).await else { return (Vec::new(), 0) };
    let current = |user: &Arc<User>| services.users.current(user.id).unwrap_or_else(|| Arc::clone(user));
    (present.users.iter().map(current).collect(), present.watchers)
}

/// Sets the user's like; no change if it is set.
#[utoipa::path(
    put, path = "/goods/{id}/like", operation_id = "like", tag = "goods", security(("bearer" = [])),
    params(("id" = GoodsId, Path, description = "The goods")),
    responses((status = 204, description = "Liked"), problems::Caller, problems::NotFound),
)]
pub(super) async fn like(request: HttpRequest, goods: Path<String>, services: Data) -> Response {
    set_like(&request, &goods, &services, Like::On).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Removes the user's like; no change if there is none.
#[utoipa::path(
    delete, path = "/goods/{id}/like", operation_id = "unlike", tag = "goods", security(("bearer" = [])),
    params(("id" = GoodsId, Path, description = "The goods")),
    responses((status = 204, description = "Not liked any more"), problems::Caller, problems::NotFound),
)]
pub(super) async fn unlike(request: HttpRequest, goods: Path<String>, services: Data) -> Response {
    set_like(&request, &goods, &services, Like::Off).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Toggles the user's like. The existing client does this by GET, and expects an empty body without a content type.
#[utoipa::path(
    get, path = "/goods/like/{id}/", operation_id = "toggle_like", tag = "goods", security(("bearer" = [])),
    params(("id" = GoodsId, Path, description = "The goods")),
    responses((status = 200, description = "Empty; liked, or not any more"), problems::Caller, problems::NotFound),
)]
pub(super) async fn toggle_like(request: HttpRequest, goods: Path<String>, services: Data) -> Response {
    set_like(&request, &goods, &services, Like::Toggle).await?;
    // A response from a browser's cache would not toggle anything.
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).finish())
}

async fn set_like(request: &HttpRequest, goods: &str, services: &Services, like: Like) -> Result<(), ApiError> {
    let user = services.user(request).await?.user.id;
    let goods = goods_id(goods)?;
    match services.ledger.write(SetLike { user, goods, like }, WRITE_TIMEOUT).await? {
        LikeSet::Done => Ok(()),
        LikeSet::UnknownGoods => Err(goods_not_found()),
    }
}

/// Deletes the user's own goods, before their auction starts.
#[utoipa::path(
    delete, path = "/goods/{id}/", operation_id = "delete_goods", tag = "goods", security(("bearer" = [])),
    params(("id" = GoodsId, Path, description = "The goods")),
    responses(
        (status = 204, description = "Deleted"),
        problems::Caller, problems::Forbidden, problems::NotFound, problems::AuctionStarted,
    ),
)]
pub(super) async fn delete(request: HttpRequest, goods: Path<String>, services: Data) -> Response {
    let user = services.user(&request).await?.user.id;
    let delete = DeleteGoods { goods: goods_id(&goods)?, user };
    match services.ledger.write(delete, WRITE_TIMEOUT).await? {
        Deleted::Yes => Ok(HttpResponse::NoContent().finish()),
        Deleted::UnknownGoods => Err(goods_not_found()),
        Deleted::NotYours => Err(Problem::new(Code::Forbidden, "only their seller may delete these goods").into()),
        Deleted::Started => Err(Problem::new(Code::AuctionStarted, "the auction has started").into()),
    }
}

#[derive(Deserialize, ToSchema)]
struct CancelBody {
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    reason: Option<Value>,
}

#[derive(Serialize, ToSchema)]
struct CancelledResponse {
    goods_id: GoodsId,
    ends_at: Timestamp,
}

/// Ends an auction without a buyer, for an admin. The reason stands in the log alone.
#[utoipa::path(
    post, path = "/admin/goods/{id}/cancel", operation_id = "cancel_goods", tag = "admin", security(("bearer" = [])),
    params(("id" = GoodsId, Path, description = "The goods")),
    request_body(content = Option<CancelBody>, example = json!({"reason": "the seller has lost it"})),
    responses(
        (status = 200, description = "Ended without a buyer", body = CancelledResponse),
        problems::Admin, problems::Body, problems::NotFound, problems::AuctionEnded,
    ),
)]
pub(super) async fn cancel(request: HttpRequest, goods: Path<String>, payload: Payload, services: Data) -> Response {
    let admin = services.admin(&request).await?.user.id;
    let body: CancelBody = body::optional_object(&request, payload, &services).await?;
    let reason = body.reason.map(reason).transpose()?;
    let goods = goods_id(&goods)?;
    let cancel = CancelGoods { goods, received_at: services.time.now() };
    match services.ledger.write(Audited { admin, write: cancel }, WRITE_TIMEOUT).await? {
        Cancelled::Yes => {
            let admin = admin.get();
            log::info!(request = id_of(&request), admin, goods = goods.get(), reason; "an admin has cancelled an auction");
            Ok(json::ok(&CancelledResponse { goods_id: goods, ends_at: cancel.received_at }))
        }
        Cancelled::Ended => Err(Problem::new(Code::AuctionEnded, "the auction has ended").into()),
        Cancelled::UnknownGoods => Err(goods_not_found()),
    }
}

fn reason(value: Value) -> Result<String, Problem> {
    let text = body::text("reason", value)?;
    let fits = (1..=MAX_REASON_CHARS).contains(&text.chars().count());
    if fits { Ok(text) } else { Err(Problem::invalid_value("reason", "1 to 256 characters")) }
}
