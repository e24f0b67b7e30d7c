//! `POST /admin/alarms`: the marketplace's backend raises a notice. `GET /admin/alarms/{event_id}/deliveries`: who got
//! the alarm of an event.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Path, Payload},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{ApiError, Data, Response, WRITE_TIMEOUT, body, json, problems, query, request_log::id_of};
use crate::{
    domain::{CollapseKey, EventId, GoodsId, NoticeAudience, NoticeText, Timestamp, UserId},
    protocol::Problem,
    store::{
        Delivery, DeliveryQuery,
        writes::{Audited, NoticeRaised, RaiseNotice},
    },
};

/// Deliveries on a page if the request has no `limit`.
const DEFAULT_LIMIT: i64 = 50;

#[derive(Deserialize, ToSchema)]
struct NoticeBody {
    #[schema(value_type = NoticeTo)]
    to: Value,
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    message: Value,
    #[schema(value_type = Option<GoodsId>)]
    goods_id: Option<Value>,
    /// The notice replaces the unread one of the same key.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    collapse_key: Option<Value>,
}

/// Who gets a notice, for `/openapi.json`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // `audience` parses it.
enum NoticeTo {
    Everyone(EveryoneWord),
    Users {
        /// The service need not know them yet.
        #[schema(min_items = 1, max_items = 20000)]
        user_ids: Vec<UserId>,
    },
    Likers {
        /// The goods.
        likers_of: GoodsId,
    },
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code)] // `audience` parses it.
enum EveryoneWord {
    Everyone,
}

#[derive(Serialize, ToSchema)]
struct Raised {
    event_id: i64,
    recipients: i64,
}

/// Raises a notice. The answer comes when it is stored; a large audience gets it after the answer.
#[utoipa::path(
    post, path = "/admin/alarms", operation_id = "raise_notice", tag = "admin", security(("bearer" = [])),
    request_body(content = NoticeBody, examples(
        ("users" = (value = json!({"to": {"user_ids": [2, 3]}, "message": "Your parcel has arrived"}))),
        ("likers" = (value = json!({"to": {"likers_of": 1}, "message": "New pictures", "goods_id": 1}))),
        ("everyone" = (value = json!({"to": "everyone", "message": "We are back", "collapse_key": "status"}))),
    )),
    responses(
        (status = 202, description = "The notice is stored", body = Raised),
        problems::Admin, problems::Body, problems::NotFound,
    ),
)]
pub(super) async fn raise(request: HttpRequest, payload: Payload, services: Data) -> Response {
    let admin = services.admin(&request).await?;
    let body: NoticeBody = body::object(&request, payload, &services).await?;
    let audience = audience(body.to)?;
    let notice = RaiseNotice {
        active_users: match audience {
            NoticeAudience::Everyone => services.store.active_users().await?,
            NoticeAudience::Users(_) | NoticeAudience::LikersOf(_) => 0,
        },
        audience,
        text: text(body.message)?,
        goods: body.goods_id.map(|id| goods("goods_id", &id)).transpose()?,
        collapse_key: body.collapse_key.map(collapse_key).transpose()?,
    };
    match services.ledger.write(Audited { admin: admin.user.id, write: notice }, WRITE_TIMEOUT).await? {
        NoticeRaised::Yes { event, recipients } => {
            let (admin, event) = (admin.user.id.get(), event.get());
            log::info!(request = id_of(&request), admin, event, recipients; "an admin has raised a notice");
            Ok(json::json(HttpResponse::Accepted(), &Raised { event_id: event, recipients }))
        }
        NoticeRaised::UnknownGoods => Err(ApiError::not_found("no such goods")),
    }
}

#[derive(Serialize, ToSchema)]
struct Deliveries {
    results: Vec<DeliveryResponse>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
struct DeliveryResponse {
    user_id: i64,
    alarm_id: i64,
    stored_at: Timestamp,
    received: bool,
    read: bool,
    superseded: bool,
}

impl From<Delivery> for DeliveryResponse {
    fn from(delivery: Delivery) -> Self {
        let Delivery { user, alarm, stored_at, received, read, superseded } = delivery;
        Self { user_id: user.get(), alarm_id: alarm.get(), stored_at, received, read, superseded }
    }
}

/// Who got the alarm of an event, and how far it came, by user.
#[utoipa::path(
    get, path = "/admin/alarms/{event_id}/deliveries", operation_id = "deliveries", tag = "admin",
    security(("bearer" = [])),
    params(
        ("event_id" = EventId, Path, description = "The event"),
        ("user_id" = Option<i64>, Query, minimum = 0, description = "This user's alone"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Those of users above this id"),
        ("limit" = Option<i64>, Query, minimum = 1, description = "Rows on a page; above 200 counts as 200"),
    ),
    responses(
        (status = 200, description = "By user", body = Deliveries),
        problems::Admin, problems::InvalidValue, problems::NotFound,
    ),
)]
pub(super) async fn deliveries(request: HttpRequest, event: Path<String>, services: Data) -> Response {
    services.admin_reader(&request).await?;
    let not_found = || ApiError::not_found("no such event");
    let query = DeliveryQuery {
        user: query::number(&request, "user_id")?,
        after: query::number(&request, "after")?.unwrap_or(0),
        limit: usize::try_from(query::limit(&request, DEFAULT_LIMIT)?).unwrap_or(usize::MAX),
    };
    let event = EventId::parse(&event).ok_or_else(not_found)?;
    let found = services.store.deliveries(event, query).await?.ok_or_else(not_found)?;
    Ok(json::ok(&Deliveries { results: found.into_iter().map(DeliveryResponse::from).collect() }))
}

fn audience(to: Value) -> Result<NoticeAudience, Problem> {
    let named = match to {
        Value::String(all) if all == "everyone" => Some(NoticeAudience::Everyone),
        Value::Object(to) => named_audience(to)?,
        _ => None,
    };
    named.ok_or_else(|| Problem::invalid_value("to", "`everyone`, or an object with either `user_ids` or `likers_of`"))
}

/// The audience of an object; `None` if it names none, or two.
fn named_audience(mut to: Map<String, Value>) -> Result<Option<NoticeAudience>, Problem> {
    Ok(match (to.remove("user_ids"), to.remove("likers_of")) {
        (Some(users), None) => Some(listed(&users)?),
        (None, Some(id)) => Some(NoticeAudience::LikersOf(goods("to", &id)?)),
        _ => None,
    })
}

fn listed(users: &Value) -> Result<NoticeAudience, Problem> {
    let user = |id: &Value| id.as_i64().and_then(UserId::new);
    let users: Option<Vec<UserId>> = users.as_array().and_then(|users| users.iter().map(user).collect());
    users.and_then(NoticeAudience::of_users).ok_or_else(|| {
        let max = NoticeAudience::MAX_USERS;
        Problem::invalid_value("to", &format!("`user_ids` is a list of 1 to {max} ids of users"))
    })
}

fn goods(field: &str, id: &Value) -> Result<GoodsId, Problem> {
    id.as_i64().and_then(GoodsId::new).ok_or_else(|| Problem::invalid_value(field, "the id of goods"))
}

fn text(message: Value) -> Result<NoticeText, Problem> {
    let text = NoticeText::parse(&body::text("message", message)?);
    text.ok_or_else(|| Problem::invalid_value("message", &format!("1 to {} characters", NoticeText::MAX_CHARS)))
}

fn collapse_key(key: Value) -> Result<CollapseKey, Problem> {
    let key = CollapseKey::parse(&body::text("collapse_key", key)?);
    key.ok_or_else(|| Problem::invalid_value("collapse_key", &format!("1 to {} characters", CollapseKey::MAX_CHARS)))
}
