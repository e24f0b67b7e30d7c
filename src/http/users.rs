//! `PUT /admin/users/{id}`: the marketplace's backend sets what it knows of a user.

use actix_web::{
    HttpRequest,
    web::{Path, Payload},
};
use serde::Deserialize;
use serde_json::Value;

use super::{ApiError, Data, Response, WRITE_TIMEOUT, body, json, responses::UserResponse};
use crate::{
    domain::{User, UserId},
    protocol::Problem,
    store::writes::{Audited, ChangeUser},
};

#[derive(Deserialize)]
struct UserBody {
    is_active: Option<Value>,
    username: Option<Value>,
    profile_image: Option<Value>,
    rating_score: Option<Value>,
}

/// Changes a user. When they become inactive, their tokens are refused from then on and their sockets are closed.
pub(super) async fn change(request: HttpRequest, id: Path<String>, payload: Payload, services: Data) -> Response {
    let admin = services.admin(&request).await?;
    let body: UserBody = body::object(&request, payload, &services).await?;
    let id = UserId::parse(&id).ok_or_else(|| ApiError::not_found("no such user"))?;
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
    log::info!("admin {} has changed user {id}: {changed}", admin.user.id);
    Ok(json::ok(&UserResponse::from(user)))
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
    let path = body::text("profile_image", value)?;
    let fits = path.starts_with('/') && !path.starts_with("//") && path.chars().count() <= 256;
    let fits = fits && !path.chars().any(char::is_control);
    if fits { Ok(path) } else { Err(Problem::invalid_value("profile_image", "a path from /, at most 256 characters")) }
}

fn rating_score(value: Value) -> Result<i32, Problem> {
    let score = i32::try_from(body::integer("rating_score", &value)?).ok().filter(|score| *score >= 0);
    score.ok_or_else(|| Problem::invalid_value("rating_score", "a whole number from 0"))
}
