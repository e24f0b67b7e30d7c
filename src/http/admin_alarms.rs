//! `POST /admin/alarms`: the marketplace's backend raises a notice. `GET /admin/alarms/{event_id}/deliveries`: who got
//! the alarm of an event.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Path, Payload},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ApiError, Data, Response, WRITE_TIMEOUT, body, json, query};
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

#[derive(Deserialize)]
struct NoticeBody {
    to: Value,
    message: Value,
    goods_id: Option<Value>,
    collapse_key: Option<Value>,
}

#[derive(Serialize)]
struct Raised {
    event_id: i64,
    recipients: i64,
}

/// Raises a notice. The answer comes when it is stored; a large audience gets it after the answer.
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
            log::info!("admin {} has raised notice {event} for {recipients} users", admin.user.id);
            Ok(json::json(HttpResponse::Accepted(), &Raised { event_id: event.get(), recipients }))
        }
        NoticeRaised::UnknownGoods => Err(ApiError::not_found("no such goods")),
    }
}

#[derive(Serialize)]
struct Deliveries {
    results: Vec<DeliveryResponse>,
}

#[derive(Serialize)]
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
