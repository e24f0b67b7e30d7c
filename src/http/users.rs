//! Users for the marketplace's backend: `GET /admin/users` lists them, `GET /admin/users/{id}` shows one, and
//! `PUT /admin/users/{id}` sets what the marketplace knows of them, `DELETE /admin/users/{id}` erases them.

use std::time::{Duration, Instant};

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Path, Payload},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    ApiError, Data, Response, Services, WRITE_TIMEOUT, body, json, problems, query, request_log::id_of,
    responses::UserResponse,
};
use crate::{
    actors::CountSockets,
    domain::{User, UserId, is_url, parse_picture},
    protocol::Problem,
    store::{
        LedGoods, UserDetail,
        writes::{Audited, BeginErasure, ChangeUser, ErasureBegun, ErasureRun},
    },
};

#[derive(Deserialize, ToSchema)]
struct UserBody {
    /// From the moment they become inactive, their requests are refused and their sockets closed.
    #[schema(value_type = Option<bool>)]
    is_active: Option<Value>,
    #[schema(value_type = Option<String>, min_length = 1, max_length = 150)]
    username: Option<Value>,
    /// A path, at most 256 characters, or an https URL, at most 2048.
    #[schema(value_type = Option<String>, max_length = 2048, pattern = "^(/|https://)")]
    profile_image: Option<Value>,
    #[schema(value_type = Option<i32>, minimum = 0)]
    rating_score: Option<Value>,
    /// Not available in this version: `false` alone is accepted.
    #[schema(value_type = Option<bool>)]
    void_bids: Option<Value>,
}

/// Users on a page if the request has no `limit`.
const DEFAULT_LIMIT: i64 = 50;
/// How long one request searches for users by a part of their names.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Serialize, ToSchema)]
struct UserPage {
    results: Vec<UserResponse>,
    next_after: Option<i64>,
}

/// One page of the users, by id; with `search` those whose name contains it, or whose id it is.
#[utoipa::path(
    get, path = "/admin/users", operation_id = "users", tag = "admin", security(("bearer" = [])),
    params(
        ("search" = Option<String>, Query, max_length = 150, description = "A part of the name, or an id"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Users after this id"),
        ("limit" = Option<i64>, Query, minimum = 1, description = "Rows on a page; above 200 counts as 200"),
    ),
    responses((status = 200, description = "By id", body = UserPage), problems::Admin, problems::InvalidValue),
)]
pub(super) async fn list(request: HttpRequest, services: Data) -> Response {
    services.admin_reader(&request).await?;
    let search = query::text(&request, "search", User::MAX_NAME_CHARS)?;
    let after = query::number(&request, "after")?.unwrap_or(0);
    let limit = query::limit(&request, DEFAULT_LIMIT)?;
    // One more than requested shows whether there is a next page.
    let (mut users, searched) = match search {
        Some(search) => find(&services, &search, after, limit + 1).await?,
        None => (services.store.users(after, limit + 1).await?, None),
    };
    let more = users.len() as i64 > limit;
    users.truncate(usize::try_from(limit).unwrap_or(0));
    let next_after = if more { users.last().map(|user| user.id.get()) } else { searched };
    Ok(json::ok(&UserPage { results: users.into_iter().map(UserResponse::from).collect(), next_after }))
}

/// Searches until `enough` users are found, there are no more, or [`SEARCH_TIMEOUT`] is over. Returns the users, and
/// after which one to go on searching.
async fn find(
    services: &Services,
    search: &str,
    mut after: i64,
    enough: i64,
) -> Result<(Vec<User>, Option<i64>), ApiError> {
    let begun = Instant::now();
    let mut found = Vec::new();
    loop {
        let (users, searched) = services.store.search_users(search.to_owned(), after).await?;
        found.extend(users);
        match searched {
            Some(last) if (found.len() as i64) < enough && begun.elapsed() < SEARCH_TIMEOUT => after = last,
            _ => return Ok((found, searched)),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = UserDetail)]
struct UserDetailResponse {
    #[serde(flatten)]
    user: UserResponse,
    sockets: usize,
    unread: i64,
    leads: Vec<LedGoods>,
}

/// One user: their state, their open sockets on all nodes, their unread alarms, and live goods that they lead.
#[utoipa::path(
    get, path = "/admin/users/{id}", operation_id = "user", tag = "admin", security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses((status = 200, description = "The user", body = UserDetailResponse), problems::Admin, problems::NotFound),
)]
pub(super) async fn show(request: HttpRequest, id: Path<String>, services: Data) -> Response {
    services.admin_reader(&request).await?;
    let id = user_id(&id)?;
    let UserDetail { user, unread, leads } = services.store.user_detail(id).await?.ok_or_else(user_not_found)?;
    let sockets = services.hub.send(CountSockets(id)).await;
    let sockets = sockets.map_err(|_| Problem::unavailable("the service is stopping; try again"))?;
    Ok(json::ok(&UserDetailResponse { user: user.into(), sockets, unread, leads }))
}

pub(super) fn user_id(path: &str) -> Result<UserId, ApiError> {
    UserId::parse(path).ok_or_else(user_not_found)
}

pub(super) fn user_not_found() -> ApiError {
    ApiError::not_found("no such user")
}

/// Changes a user. When they become inactive, their tokens are refused from then on and their sockets are closed.
#[utoipa::path(
    put, path = "/admin/users/{id}", operation_id = "change_user", tag = "admin", security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    request_body(content = UserBody, example = json!({"rating_score": 45})),
    responses(
        (status = 200, description = "The user as they are now", body = UserResponse),
        problems::Admin, problems::Body, problems::NotFound,
    ),
)]
pub(super) async fn change(request: HttpRequest, id: Path<String>, payload: Payload, services: Data) -> Response {
    let admin = services.admin(&request).await?;
    let body: UserBody = body::object(&request, payload, &services).await?;
    let id = user_id(&id)?;
    if body.void_bids.is_some_and(|value| value != Value::Bool(false)) {
        return Err(Problem::invalid_value("void_bids", "left out: bids can't be voided").into());
    }
    let change = ChangeUser {
        id,
        is_active: body.is_active.map(is_active).transpose()?,
        username: body.username.map(username).transpose()?,
        profile_image: body.profile_image.map(profile_image).transpose()?,
        rating_score: body.rating_score.map(rating_score).transpose()?,
    };
    let changed = changed_fields(&change);
    let change = Audited { admin: admin.user.id, write: change };
    let user = services.ledger.write(change, WRITE_TIMEOUT).await?;
    let admin = admin.user.id.get();
    log::info!(request = id_of(&request), admin, user = id.get(), changed; "an admin has changed a user");
    Ok(json::ok(&UserResponse::from(user)))
}

/// How long an erasure may take before the answer says that it goes on.
const ERASE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Erases a user: 204 when everything is gone, 202 when much is left and the rest goes by and by. From the first moment
/// on they have no name, their tokens are refused and their sockets closed.
#[utoipa::path(
    delete, path = "/admin/users/{id}", operation_id = "erase_user", tag = "admin", security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses(
        (status = 204, description = "Erased"),
        (status = 202, description = "They are inactive and have no name; the rest is being erased"),
        problems::Admin, problems::NotFound,
    ),
)]
pub(super) async fn erase(request: HttpRequest, id: Path<String>, services: Data) -> Response {
    let admin = services.admin(&request).await?.user.id;
    let id = user_id(&id)?;
    match services.ledger.write(Audited { admin, write: BeginErasure(id) }, WRITE_TIMEOUT).await? {
        ErasureBegun::Yes => {
            log::info!(request = id_of(&request), admin = admin.get(), user = id.get(); "an admin erases a user")
        }
        ErasureBegun::UnknownUser => return Err(user_not_found()),
    }
    let ledger = services.ledger.clone();
    // A task of its own: it goes on when the client is gone. If it fails, the job of unfinished erasures goes on.
    let erased = actix_web::rt::spawn(async move { ledger.erase(id, ErasureRun::First).await });
    Ok(match tokio::time::timeout(ERASE_TIMEOUT, erased).await {
        Ok(Ok(Ok(()))) => HttpResponse::NoContent().finish(),
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => HttpResponse::Accepted().finish(),
    })
}

/// The changed fields, for the log. Their values are personal and stay out of it.
fn changed_fields(change: &ChangeUser) -> String {
    let active = change.is_active.map(|is_active| if is_active { "active" } else { "inactive" });
    let fields = [
        active,
        change.username.as_ref().map(|_| "username"),
        change.profile_image.as_ref().map(|_| "profile_image"),
        change.rating_score.map(|_| "rating_score"),
    ];
    fields.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn is_active(value: Value) -> Result<bool, Problem> {
    value.as_bool().ok_or_else(|| Problem::invalid_value("is_active", "true or false"))
}

fn username(value: Value) -> Result<String, Problem> {
    let name = body::text("username", value)?;
    let fits = (1..=User::MAX_NAME_CHARS).contains(&name.trim().chars().count()) && !name.chars().any(char::is_control);
    if fits { Ok(name) } else { Err(Problem::invalid_value("username", "1 to 150 characters")) }
}

fn profile_image(value: Value) -> Result<String, Problem> {
    let picture = parse_picture(&body::text("profile_image", value)?);
    picture.filter(|picture| picture.starts_with('/') || is_url(picture)).ok_or_else(|| {
        Problem::invalid_value("profile_image", "a path from /, at most 256 characters, or an https URL")
    })
}

fn rating_score(value: Value) -> Result<i32, Problem> {
    let score = i32::try_from(body::integer("rating_score", &value)?).ok().filter(|score| *score >= 0);
    score.ok_or_else(|| Problem::invalid_value("rating_score", "a whole number from 0"))
}
