//! One goods item: made, shown, liked (`PUT` and `DELETE /goods/{id}/like`, `GET /goods/like/{id}/`), deleted.
//! Lists are in `goods_lists`.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, LOCATION},
    web,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    ApiError, Services,
    bids::{goods_id, no_such_goods},
    body, json,
    participants::present,
    responses::DetailShape,
};
use crate::{
    domain::{DraftError, GoodsDraft, Price, StartInput, User},
    protocol::{Code, Problem},
    store::{
        GoodsDetail,
        writes::{DeleteGoods, Deleted, Like, MakeGoods, SetLike},
    },
};

/// With the look at the user before it, and what the ledger gets on top, within the 3 s of a 503.
const PATIENCE: Duration = Duration::from_millis(800);

/// What a seller may set. Other fields are ignored: a price reached, a phase or a trade room can't be set (fault 15).
#[derive(Deserialize)]
struct GoodsBody {
    title: Value,
    content: Option<Value>,
    category: Option<Value>,
    start_price: Value,
    predict_price: Option<Value>,
    starts_at: Option<Value>,
    start_date: Option<Value>,
    start_time: Option<Value>,
    duration_s: Option<Value>,
    min_increment: Option<Value>,
    images: Option<Value>,
}

impl GoodsBody {
    fn draft(self, max: Price) -> Result<GoodsDraft, Problem> {
        let optional_text = |field: &str, value: Option<Value>, default: &str| match value {
            Some(value) => body::text(field, value),
            None => Ok(default.to_owned()),
        };
        let start_price = body::price("start_price", &self.start_price, max)?;
        let start = match (self.starts_at, self.start_date, self.start_time) {
            (Some(at), _, _) => StartInput::Instant(body::text("starts_at", at)?),
            (None, Some(date), Some(time)) => {
                StartInput::Local { date: body::text("start_date", date)?, time: body::text("start_time", time)? }
            }
            _ => {
                let asked = "missing field `starts_at`, or `start_date` with `start_time`";
                return Err(Problem::new(Code::InvalidBody, asked));
            }
        };
        Ok(GoodsDraft {
            title: body::text("title", self.title)?,
            content: optional_text("content", self.content, "")?,
            // The origin's category for what has none.
            category: optional_text("category", self.category, "기타")?,
            start_price,
            predict_price: match self.predict_price {
                Some(price) => body::price("predict_price", &price, max)?,
                None => start_price,
            },
            start,
            duration_s: self.duration_s.map(|value| body::integer("duration_s", &value)).transpose()?,
            min_increment: self.min_increment.map(|value| body::price("min_increment", &value, max)).transpose()?,
            images: self.images.map(paths).transpose()?.unwrap_or_default(),
        })
    }
}

fn paths(value: Value) -> Result<Vec<String>, Problem> {
    match value {
        Value::Array(paths) => paths.into_iter().map(|path| body::text("images", path)).collect(),
        _ => Err(Problem::invalid_value("images", "a list of paths")),
    }
}

impl From<DraftError> for Problem {
    fn from(error: DraftError) -> Self {
        Self::invalid_value(error.field, error.asked)
    }
}

/// Makes goods. The seller is the token's user.
pub(super) async fn make(
    request: HttpRequest,
    payload: web::Payload,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let seller = services.user(&request).await?.user;
    let body = body::read(&request, payload, services.config.body_bytes).await?;
    let body: GoodsBody = body::object(&body)?;
    let draft = body.draft(services.config.max_price)?;
    let goods = draft.check(&services.config.draft, services.time.now()).map_err(Problem::from)?;
    let make = MakeGoods { seller: seller.id, goods: goods.clone() };
    let (id, made_at) = services.ledger.write(make, PATIENCE).await?;
    // From what was written, not read again: a reading that fails must not hide that they are made.
    let goods = GoodsDetail::fresh(id, User::clone(&seller), goods, made_at);
    let shape = DetailShape::new(goods, &[], services.config.draft.time_zone, services.time.now());
    let mut response = HttpResponse::Created();
    response.insert_header((LOCATION, format!("/goods/{id}/")));
    Ok(json::json(response, &shape))
}

/// The goods' page.
pub(super) async fn show(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let viewer = services.visitor(&request).await?.map(|identity| identity.user.id);
    let id = goods_id(&goods)?;
    let goods = services.store.goods_detail(id, viewer).await?.ok_or_else(no_such_goods)?;
    let present = present(&services, id).await;
    let shape = DetailShape::new(goods, &present, services.config.draft.time_zone, services.time.now());
    Ok(json::ok(&shape))
}

/// The user likes the goods from now on.
pub(super) async fn like(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    set_like(&request, &goods, &services, Like::On).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The user likes them no more.
pub(super) async fn unlike(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    set_like(&request, &goods, &services, Like::Off).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The existing client's way: a GET that changes the like into the other. Empty and without a content type.
pub(super) async fn toggle_like(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    set_like(&request, &goods, &services, Like::Toggle).await?;
    // An answer from a cache would change nothing.
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).finish())
}

async fn set_like(request: &HttpRequest, goods: &str, services: &Services, like: Like) -> Result<(), ApiError> {
    let user = services.user(request).await?.user.id;
    let goods = goods_id(goods)?;
    if services.ledger.write(SetLike { user, goods, like }, PATIENCE).await? { Ok(()) } else { Err(no_such_goods()) }
}

/// Deletes the user's own goods before their start.
pub(super) async fn delete(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let user = services.user(&request).await?.user.id;
    let delete = DeleteGoods { goods: goods_id(&goods)?, user };
    match services.ledger.write(delete, PATIENCE).await? {
        Deleted::Yes => Ok(HttpResponse::NoContent().finish()),
        Deleted::UnknownGoods => Err(no_such_goods()),
        Deleted::NotYours => Err(Problem::new(Code::Forbidden, "the goods are somebody else's").into()),
        Deleted::Started => Err(Problem::new(Code::AuctionStarted, "the auction has started").into()),
    }
}
