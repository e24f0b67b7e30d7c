//! The inbox over HTTP: `GET /alarms`, `GET /alarms/unread`, `POST /alarms/read`, `GET` and `PUT /alarms/preferences`.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApiError, Services, body, json, query};
use crate::{
    actors::{ReadError, mark_read},
    domain::AlarmKind,
    protocol::{AlarmBody, Code, Problem},
    store::{
        AlarmQuery,
        writes::{ReadAlarms, SetMuted},
    },
};

/// Alarms of one page where the client doesn't say.
const PAGE: i64 = 50;
/// Alarms that one request may name.
const MAX_IDS: usize = 1000;
/// With the look at the user before it, and what the ledger gets on top, within the 3 s of a 503.
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Serialize)]
struct Inbox<'a> {
    results: Vec<AlarmBody<'a>>,
    unread: i64,
    last_id: i64,
}

#[derive(Serialize)]
struct Unread {
    unread: i64,
    last_id: i64,
}

/// One page of the user's inbox.
pub(super) async fn list(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let user = services.reader(&request).await?.user.id;
    let query = AlarmQuery {
        after: query::number(&request, "after")?,
        before: query::number(&request, "before")?,
        unread: query::flag(&request, "unread")?,
        limit: query::limit(&request, PAGE)?,
    };
    let page = services.store.inbox(user, query).await?;
    let locale = services.live.load().locale;
    let results = page.alarms.iter().map(|row| AlarmBody::row(&row.alarm, row.read, row.superseded, locale)).collect();
    Ok(json::ok(&Inbox { results, unread: page.unread, last_id: page.last_id }))
}

/// How many are unread, and the newest id.
pub(super) async fn unread(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let user = services.reader(&request).await?.user.id;
    let (unread, last_id) = services.store.unread(user).await?;
    Ok(json::ok(&Unread { unread, last_id }))
}

#[derive(Deserialize)]
struct ReadBody {
    up_to: Option<Value>,
    ids: Option<Value>,
}

#[derive(Serialize)]
struct Left {
    unread: i64,
}

/// Marks alarms as read; all of the user's sessions are told.
pub(super) async fn read(
    request: HttpRequest,
    payload: web::Payload,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let user = services.user(&request).await?.user.id;
    let body = body::read(&request, payload, services.config.body_bytes).await?;
    let alarms = which(body::object(&body)?)?;
    let (ledger, store, hub) = (services.ledger.clone(), services.store.clone(), services.hub.clone());
    // On its own: what is written is told, even if the caller goes away meanwhile.
    let marking = actix_web::rt::spawn(mark_read(ledger, store, hub, user, alarms));
    match marking.await {
        Ok(Ok((unread, _))) => Ok(json::ok(&Left { unread })),
        Ok(Err(ReadError::Write(error))) => Err(error.into()),
        Ok(Err(ReadError::Count(error))) => Err(error.into()),
        Err(_) => Err(Problem::unavailable("it may have been stored; try again").into()),
    }
}

fn which(body: ReadBody) -> Result<ReadAlarms, Problem> {
    let id = |field: &str, value: &Value| {
        value.as_i64().filter(|id| *id >= 0).ok_or_else(|| Problem::invalid_value(field, "an alarm's id"))
    };
    match (body.up_to, body.ids) {
        (Some(up_to), None) => Ok(ReadAlarms::UpTo(id("up_to", &up_to)?)),
        (None, Some(Value::Array(ids))) if ids.len() <= MAX_IDS => {
            Ok(ReadAlarms::Ids(ids.iter().map(|value| id("ids", value)).collect::<Result<_, _>>()?))
        }
        (None, Some(_)) => Err(Problem::invalid_value("ids", "a list of at most 1000 ids")),
        _ => Err(Problem::new(Code::InvalidBody, "one of `up_to` and `ids` is needed")),
    }
}

#[derive(Deserialize)]
struct PreferencesBody {
    muted: Value,
}

#[derive(Serialize)]
struct Preferences {
    muted: Vec<&'static str>,
}

impl Preferences {
    /// In the contract's order, each once.
    fn new(muted: &[AlarmKind]) -> Self {
        Self { muted: AlarmKind::ALL.into_iter().filter(|kind| muted.contains(kind)).map(AlarmKind::name).collect() }
    }
}

/// Which kinds the user has muted.
pub(super) async fn preferences(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let user = services.reader(&request).await?.user.id;
    Ok(json::ok(&Preferences::new(&services.store.muted(user).await?)))
}

/// Sets which kinds the user mutes from now on.
pub(super) async fn set_preferences(
    request: HttpRequest,
    payload: web::Payload,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let user = services.user(&request).await?.user.id;
    let body = body::read(&request, payload, services.config.body_bytes).await?;
    let body: PreferencesBody = body::object(&body)?;
    let kind = |value: &Value| value.as_str().and_then(AlarmKind::from_name);
    let named: Option<Vec<AlarmKind>> = body.muted.as_array().and_then(|kinds| kinds.iter().map(kind).collect());
    let named = named.ok_or_else(|| Problem::invalid_value("muted", "a list of kinds of alarms"))?;
    let muted: Vec<AlarmKind> = AlarmKind::ALL.into_iter().filter(|kind| named.contains(kind)).collect();
    services.ledger.write(SetMuted { user, muted: muted.clone() }, PATIENCE).await?;
    Ok(json::ok(&Preferences::new(&muted)))
}
