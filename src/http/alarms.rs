//! The inbox over HTTP: `GET /alarms`, `GET /alarms/unread`, `POST /alarms/read`, `POST /alarms/ack`, `GET` and
//! `PUT /alarms/preferences`.

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Data, Response, WRITE_TIMEOUT, body, json, problems, query};
use crate::{
    actors::{ReadError, mark_read},
    domain::{AlarmKind, Locale},
    protocol::{AlarmBody, Code, Problem},
    store::{
        AlarmQuery, Preferences,
        writes::{AcknowledgeAlarms, ReadAlarms, SetPreferences},
    },
};

/// Alarms on a page if the request has no `limit`.
const DEFAULT_LIMIT: i64 = 50;
/// Ids in one request to mark alarms as read.
const MAX_IDS: usize = 1000;

#[derive(Serialize, ToSchema)]
struct Inbox<'a> {
    results: Vec<AlarmBody<'a>>,
    unread: i64,
    last_id: i64,
}

#[derive(Serialize, ToSchema)]
struct Unread {
    unread: i64,
    last_id: i64,
}

/// One page of the user's inbox.
#[utoipa::path(
    get, path = "/alarms", operation_id = "alarms", tag = "alarms", security(("bearer" = [])),
    params(
        ("after" = Option<i64>, Query, minimum = 0, description = "Alarms after this id, oldest first"),
        ("before" = Option<i64>, Query, minimum = 0, description = "Alarms before this id"),
        ("unread" = Option<bool>, Query, description = "Unread ones alone"),
        ("limit" = Option<i64>, Query, minimum = 1, description = "Rows on a page; above 200 counts as 200"),
    ),
    responses(
        (status = 200, description = "Newest first, unless `after` is given", body = Inbox), problems::Caller,
        problems::InvalidValue,
    ),
)]
pub(super) async fn list(request: HttpRequest, services: Data) -> Response {
    let user = services.reader(&request).await?.user.id;
    let query = AlarmQuery {
        after: query::number(&request, "after")?,
        before: query::number(&request, "before")?,
        unread: query::flag(&request, "unread")?,
        limit: query::limit(&request, DEFAULT_LIMIT)?,
    };
    let page = services.store.inbox(user, query).await?;
    let locale = page.locale.unwrap_or(services.live.load().locale);
    let results = page.alarms.iter().map(|row| AlarmBody::row(&row.alarm, row.read, row.superseded, locale)).collect();
    Ok(json::ok(&Inbox { results, unread: page.unread, last_id: page.last_id }))
}

/// The number of unread alarms, and the id of the newest alarm.
#[utoipa::path(
    get, path = "/alarms/unread", operation_id = "unread_alarms", tag = "alarms", security(("bearer" = [])),
    responses((status = 200, description = "How many, and the newest", body = Unread), problems::Caller),
)]
pub(super) async fn unread(request: HttpRequest, services: Data) -> Response {
    let user = services.reader(&request).await?.user.id;
    let (unread, last_id) = services.store.unread(user).await?;
    Ok(json::ok(&Unread { unread, last_id }))
}

#[derive(Deserialize, ToSchema)]
struct ReadBody {
    /// All up to this id.
    #[schema(value_type = Option<i64>, minimum = 0)]
    up_to: Option<Value>,
    /// These alone, at most 1000.
    #[schema(value_type = Option<Vec<i64>>, max_items = 1000)]
    ids: Option<Value>,
}

#[derive(Serialize, ToSchema)]
struct StillUnread {
    unread: i64,
}

/// Marks alarms as read and sends the new unread count to all sessions of the user.
#[utoipa::path(
    post, path = "/alarms/read", operation_id = "read_alarms", tag = "alarms", security(("bearer" = [])),
    request_body(content = ReadBody, description = "Either `up_to` or `ids`", examples(
        ("all" = (value = json!({"up_to": 12}))), ("some" = (value = json!({"ids": [3, 5]}))),
    )),
    responses(
        (status = 200, description = "How many are still unread", body = StillUnread), problems::Caller, problems::Body
    ),
)]
pub(super) async fn read(request: HttpRequest, payload: Payload, services: Data) -> Response {
    let user = services.user(&request).await?.user.id;
    let alarms = alarms_to_mark(body::object(&request, payload, &services).await?)?;
    let (ledger, store, hub) = (services.ledger.clone(), services.store.clone(), services.hub.clone());
    // A task of its own: once the write is stored the sessions are notified, even if the client disconnects.
    let task = actix_web::rt::spawn(mark_read(ledger, store, hub, user, alarms));
    match task.await {
        Ok(Ok((unread, _))) => Ok(json::ok(&StillUnread { unread })),
        Ok(Err(ReadError::Write(error))) => Err(error.into()),
        Ok(Err(ReadError::Count(error))) => Err(error.into()),
        Err(_) => Err(Problem::unavailable("it may have been stored; try again").into()),
    }
}

#[derive(Deserialize, ToSchema)]
struct AckBody {
    /// The newest alarm that has arrived.
    #[schema(value_type = i64, minimum = 0)]
    up_to: Value,
}

/// Proves that the user has received all alarms up to one, as the alarm socket's `ack` does.
#[utoipa::path(
    post, path = "/alarms/ack", operation_id = "acknowledge_alarms", tag = "alarms", security(("bearer" = [])),
    request_body(content = AckBody, example = json!({"up_to": 12})),
    responses((status = 204, description = "It is stored"), problems::Caller, problems::Body),
)]
pub(super) async fn acknowledge(request: HttpRequest, payload: Payload, services: Data) -> Response {
    let user = services.user(&request).await?.user.id;
    let body: AckBody = body::object(&request, payload, &services).await?;
    let up_to = alarm_id("up_to", &body.up_to)?;
    services.ledger.write(AcknowledgeAlarms { user, up_to }, WRITE_TIMEOUT).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn alarm_id(field: &str, value: &Value) -> Result<i64, Problem> {
    value.as_i64().filter(|id| *id >= 0).ok_or_else(|| Problem::invalid_value(field, "an alarm's id"))
}

fn alarms_to_mark(body: ReadBody) -> Result<ReadAlarms, Problem> {
    match (body.up_to, body.ids) {
        (Some(up_to), None) => Ok(ReadAlarms::UpTo(alarm_id("up_to", &up_to)?)),
        (None, Some(Value::Array(ids))) if ids.len() <= MAX_IDS => {
            Ok(ReadAlarms::Ids(ids.iter().map(|value| alarm_id("ids", value)).collect::<Result<_, _>>()?))
        }
        (None, Some(_)) => Err(Problem::invalid_value("ids", "a list of at most 1000 ids")),
        _ => Err(Problem::new(Code::InvalidBody, "send either `up_to` or `ids`")),
    }
}

/// What is left out stays as it is; null is a value.
#[derive(Deserialize, ToSchema)]
struct PreferencesBody {
    #[serde(default, deserialize_with = "body::present")]
    #[schema(value_type = Vec<AlarmKind>, required = false)]
    muted: Option<Value>,
    #[serde(default, deserialize_with = "body::present")]
    #[schema(value_type = Option<Locale>, required = false)]
    locale: Option<Value>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Preferences)]
struct PreferencesResponse {
    /// Alarms of these kinds are stored as read, listed, and never sent.
    #[schema(value_type = Vec<AlarmKind>)]
    muted: Vec<&'static str>,
    /// The language of the user's texts; null: that of `alarms.locale`.
    #[schema(value_type = Option<Locale>, required = true)]
    locale: Option<&'static str>,
}

impl From<Preferences> for PreferencesResponse {
    fn from(Preferences { muted, locale }: Preferences) -> Self {
        Self { muted: muted.into_iter().map(AlarmKind::name).collect(), locale: locale.map(Locale::name) }
    }
}

/// The alarm kinds that the user has muted, and the language that they have chosen.
#[utoipa::path(
    get, path = "/alarms/preferences", operation_id = "preferences", tag = "alarms", security(("bearer" = [])),
    responses((status = 200, description = "The preferences", body = PreferencesResponse), problems::Caller),
)]
pub(super) async fn preferences(request: HttpRequest, services: Data) -> Response {
    let user = services.reader(&request).await?.user.id;
    Ok(json::ok(&PreferencesResponse::from(services.store.preferences(user).await?)))
}

/// Changes the user's preferences.
#[utoipa::path(
    put, path = "/alarms/preferences", operation_id = "set_preferences", tag = "alarms", security(("bearer" = [])),
    request_body(content = PreferencesBody, example = json!({"muted": ["ending_soon"], "locale": "en"})),
    responses(
        (status = 200, description = "The preferences as they are now", body = PreferencesResponse), problems::Caller,
        problems::Body,
    ),
)]
pub(super) async fn set_preferences(request: HttpRequest, payload: Payload, services: Data) -> Response {
    let user = services.user(&request).await?.user.id;
    let body: PreferencesBody = body::object(&request, payload, &services).await?;
    let set = SetPreferences {
        user,
        muted: body.muted.map(|kinds| muted(&kinds)).transpose()?,
        locale: body.locale.map(|locale| chosen_locale(&locale)).transpose()?,
    };
    Ok(json::ok(&PreferencesResponse::from(services.ledger.write(set, WRITE_TIMEOUT).await?)))
}

/// The kinds to mute, each once.
fn muted(kinds: &Value) -> Result<Vec<AlarmKind>, Problem> {
    let kind = |value: &Value| value.as_str().and_then(AlarmKind::from_name);
    let named: Option<Vec<AlarmKind>> = kinds.as_array().and_then(|kinds| kinds.iter().map(kind).collect());
    let named = named.ok_or_else(|| Problem::invalid_value("muted", "a list of alarm kinds"))?;
    Ok(AlarmKind::ALL.into_iter().filter(|kind| named.contains(kind)).collect())
}

/// The language to choose; `None` chooses none any more.
fn chosen_locale(locale: &Value) -> Result<Option<Locale>, Problem> {
    match locale {
        Value::Null => Ok(None),
        Value::String(name) if Locale::from_name(name).is_some() => Ok(Locale::from_name(name)),
        _ => Err(Problem::invalid_value("locale", "`ko`, `en` or null")),
    }
}
