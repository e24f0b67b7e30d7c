//! `POST /dev/token` gives developers a token. It needs `auth.dev_login`, which the settings allow only on loopback.

use std::net::IpAddr;

use actix_web::{
    HttpRequest,
    http::{
        header::{HOST, HeaderValue},
        uri::Authority,
    },
    web::Payload,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{ApiError, Data, NewToken, Response, body, json, problems};
use crate::{
    domain::UserId,
    protocol::{Code, Problem},
};

/// Tokens are valid for a day.
const TTL_S: i64 = 86_400;

#[derive(Deserialize, ToSchema)]
struct TokenBody {
    #[schema(value_type = i64, minimum = 1)]
    user_id: Value,
    #[schema(value_type = Option<String>)]
    username: Option<Value>,
    admin: Option<bool>,
}

#[derive(Serialize, ToSchema)]
struct TokenResponse {
    token: String,
    user_id: i64,
    expires_in_s: i64,
}

/// Mints a token for any user; no authentication.
#[utoipa::path(
    post, path = "/dev/token", operation_id = "dev_token", tag = "service", security(()),
    request_body(content = TokenBody, example = json!({"user_id": 2, "username": "mina"})),
    responses(
        (status = 200, description = "A token for a day", body = TokenResponse),
        problems::Body, problems::Forbidden, problems::Unavailable, problems::NotFound,
    ),
)]
pub(super) async fn token(request: HttpRequest, payload: Payload, services: Data) -> Response {
    if !services.config.dev_login {
        return Err(ApiError::not_found("no such path"));
    }
    if !names_this_machine(request.headers().get(HOST)) {
        return Err(Problem::new(Code::Forbidden, "the dev login is for localhost alone").into());
    }
    let body: TokenBody = body::object(&request, payload, &services).await?;
    let user = body.user_id.as_i64().and_then(UserId::new);
    let user = user.ok_or_else(|| Problem::invalid_value("user_id", "a whole number from 1"))?;
    let username = body.username.map(|name| body::text("username", name)).transpose()?;
    let new = NewToken { user, username, ttl_s: TTL_S, admin: body.admin.unwrap_or(false) };
    let token = services.live.load().keys.mint(&new, services.time.now());
    let token = token.map_err(|error| Problem::unavailable(&error.to_string()))?;
    Ok(json::ok(&TokenResponse { token, user_id: user.get(), expires_in_s: TTL_S }))
}

/// Whether a `Host` names this machine as itself. The page of another site can let a name of its own lead here, and to a
/// browser that is the service's own origin.
fn names_this_machine(host: Option<&HeaderValue>) -> bool {
    let authority = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    })
}
