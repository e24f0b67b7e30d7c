//! HTTP: routes, identity, rate limits, errors, and the handshakes of WebSockets. This layer parses requests, passes
//! them to the actors and the store, and turns results into responses. It decides nothing about auctions.
//!
//! - Handlers: `alarms`, `bids`, `dev`, `goods`, `goods_lists`, `health`, `lines`, `media`, `trades`, `users`,
//!   `socket`.
//! - Requests: `body`, `query`, `identity` (with `token`, `token_cache`, `user_directory`), `forwarded`, `rate_limits`,
//!   `cors`.
//! - Responses: `json`, `responses`, `participants`, `error`.
//! - Connections before and after an upgrade: `connection`, `upgraded`, `open_sockets`.
//! - `services` holds what handlers use; `readiness` caches the readiness check.

mod alarms;
mod bids;
mod body;
mod connection;
mod cors;
mod dev;
mod error;
mod forwarded;
mod goods;
mod goods_lists;
mod health;
mod identity;
mod json;
mod lines;
mod media;
mod open_sockets;
mod participants;
mod query;
mod rate_limits;
mod readiness;
mod responses;
mod services;
mod socket;
mod token;
mod token_cache;
mod trades;
mod upgraded;
mod user_directory;
mod users;

use std::time::Duration;

use actix_web::{FromRequest, Handler, Responder, Route, guard, web};

pub use self::{
    connection::{Connection, ConnectionLimit, track_responses},
    cors::{cors, cors_refusal_as_problem},
    error::ApiError,
    identity::Identity,
    open_sockets::OpenSockets,
    rate_limits::{RateLimits, Rates},
    readiness::Readiness,
    services::{HttpConfig, LiveConfig, Services},
    socket::LocalShard,
    token::{Claims, Keys, MintError, NewToken},
    token_cache::TokenCache,
    upgraded::{send_and_close, take_over},
    user_directory::UserDirectory,
};

/// How long a handler waits for the ledger. Together with the reads before it, and the time that the ledger adds, this
/// stays within the 3 s in which a 503 is promised.
const WRITE_TIMEOUT: Duration = Duration::from_millis(800);

/// All routes. The app trims a trailing slash before it routes, so paths match with and without one.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            resource("/goods", "GET, HEAD, POST")
                .route(read_only(goods_lists::list))
                .route(web::post().to(goods::create)),
        )
        // These come before `/goods/{id}`, which would take their words for ids.
        .service(resource("/goods/recommend", "GET, HEAD").route(read_only(goods_lists::recommend)))
        .service(resource("/goods/user/{id}", "GET, HEAD").route(read_only(goods_lists::of_user)))
        .service(resource("/goods/like/{id}", "GET").route(web::get().to(goods::toggle_like)))
        .service(
            resource("/goods/{id}", "GET, HEAD, DELETE")
                .route(read_only(goods::show))
                .route(web::delete().to(goods::delete)),
        )
        .service(resource("/goods/{id}/chat", "GET, HEAD").route(read_only(lines::list)))
        .service(
            resource("/goods/{id}/bids", "GET, HEAD, POST")
                .route(web::post().to(bids::place))
                .route(read_only(bids::list)),
        )
        .service(
            resource("/goods/{id}/like", "PUT, DELETE")
                .route(web::put().to(goods::like))
                .route(web::delete().to(goods::unlike)),
        )
        .service(resource("/chat", "GET, HEAD").route(read_only(trades::list)))
        .service(resource("/chat/goods/{id}", "GET").route(web::get().to(trades::show)))
        .service(resource("/media/default.jpeg", "GET, HEAD").route(read_only(media::default_picture)))
        .service(resource("/media/{path:.*}", "GET, HEAD").route(read_only(media::file)))
        .service(resource("/alarms", "GET, HEAD").route(read_only(alarms::list)))
        .service(resource("/alarms/unread", "GET, HEAD").route(read_only(alarms::unread)))
        .service(resource("/alarms/stream", "GET").route(web::get().to(socket::stream)))
        .service(resource("/alarms/read", "POST").route(web::post().to(alarms::read)))
        .service(
            resource("/alarms/preferences", "GET, HEAD, PUT")
                .route(read_only(alarms::preferences))
                .route(web::put().to(alarms::set_preferences)),
        )
        .service(resource("/ws/alram", "GET").route(web::get().to(socket::open)))
        .service(resource("/ws/alarms", "GET").route(web::get().to(socket::open)))
        .service(resource("/ws/auction/{id}", "GET").route(web::get().to(socket::auction)))
        .service(resource("/ws/chat/{id}", "GET").route(web::get().to(socket::trade)))
        .service(resource("/health/live", "GET, HEAD").route(read_only(health::live)))
        .service(resource("/health/ready", "GET, HEAD").route(read_only(health::ready)))
        .service(resource("/admin/health", "GET, HEAD").route(read_only(health::admin)))
        .service(resource("/admin/users/{id}", "PUT").route(web::put().to(users::change)))
        .service(resource("/dev/token", "POST").route(web::post().to(dev::token)))
        .default_service(web::to(error::path_not_found));
}

/// A route for GET and HEAD; the server leaves out the body of a response to HEAD.
fn read_only<F, Args>(handler: F) -> Route
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler)
}

/// A path that answers 405 to all methods but those of its routes; `allow` lists these.
fn resource(path: &str, allow: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move || async move { error::method_not_allowed(allow) }))
}
