//! HTTP: routes, identity, rate limits, errors, and the handshakes of WebSockets. This layer parses requests, passes
//! them to the actors and the store, and turns results into responses. It decides nothing about auctions.
//!
//! - Handlers: `admin_alarms`, `alarms`, `audit`, `bids`, `dev`, `export`, `goods`, `goods_lists`, `health`, `lines`, `media`,
//!   `metrics`, `trades`, `users`, `socket` (with `socket_auth`).
//! - Requests: `body`, `query`, `identity` (with `token`, `token_algorithm`, `public_key`, `user_directory`), `forwarded`,
//!   `rate_limits`, `cors`.
//! - Responses: `json`, `responses`, `security_headers`, `error`. `request_log` logs requests.
//! - Descriptions of the API: `openapi` (with `problems`) and `asyncapi`, and the page `docs` that draws them; each served as a `document`, as
//!   are the `client_library` and the `pages`.
//! - Connections: `http_connection` (with `refusal` and `responding`), `upgraded` (with `plain_response`),
//!   `connection_end`, `open_connections`. After an upgrade `actors::Connection` takes over.
//! - `services` holds what handlers use; `readiness` caches the readiness check; `request_stats` counts requests, `check_gauges`
//!   has what the last checks found.

mod admin_alarms;
mod alarms;
mod asyncapi;
mod audit;
mod bids;
mod body;
mod check_gauges;
mod client_library;
mod connection_end;
mod cors;
mod dev;
mod docs;
mod document;
mod error;
mod export;
mod external_goods;
mod forwarded;
mod goods;
mod goods_lists;
mod health;
mod http_connection;
mod identity;
mod json;
mod lines;
mod media;
mod metrics;
mod open_connections;
mod openapi;
mod pages;
mod plain_response;
mod problems;
mod public_key;
mod query;
mod rate_limits;
mod readiness;
mod refusal;
mod request_log;
mod request_stats;
mod responding;
mod responses;
mod security_headers;
mod services;
mod socket;
mod socket_auth;
mod token;
mod token_algorithm;
mod trades;
mod upgraded;
mod user_directory;
mod users;

use std::time::Duration;

use actix_web::{FromRequest, Handler, HttpResponse, Responder, Route, guard, web};

pub(crate) use self::token::{Claims, MintError, TokenRules};
pub use self::token::{Keys, NewToken};
pub use self::token_algorithm::TokenAlgorithm;
pub(crate) use self::{
    check_gauges::CheckGauges,
    cors::cors,
    error::{ApiError, refusal_as_problem},
    http_connection::HttpConnection,
    open_connections::{Admission, ConnectionLimits, OpenConnections},
    public_key::PublicKey,
    rate_limits::{RateLimits, Rates},
    readiness::Readiness,
    request_log::{ACCESS_LOG_TARGET, log_request},
    request_stats::RequestStats,
    responding::track_responses,
    security_headers::security_headers,
    services::{HttpConfig, LiveConfig, Services},
    socket::LocalShard,
    upgraded::take_over,
    user_directory::UserDirectory,
};

/// How long a handler waits for the ledger. Together with the reads before it, and the time that the ledger adds, this
/// stays within the 3 s in which a 503 is promised.
const WRITE_TIMEOUT: Duration = Duration::from_millis(800);

/// What a handler returns.
type Response = Result<HttpResponse, ApiError>;
type Data = web::Data<Services>;

/// All routes. The app trims a trailing slash before it routes, so paths match with and without one. Methods that a path
/// has no route for are answered by [`refusal_as_problem`].
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let at = web::resource::<&str>;
    config
        .service(at("/").route(read_only(pages::home)))
        .service(at("/app/{path:.*}").route(read_only(pages::file)))
        .service(at("/admin").route(read_only(pages::admin)))
        .service(at("/goods").route(read_only(goods_lists::list)).post(goods::create))
        // These come before `/goods/{id}`, which would take their words for ids.
        .service(at("/goods/recommend").route(read_only(goods_lists::recommend)))
        .service(at("/goods/user/{id}").route(read_only(goods_lists::of_user)))
        .service(at("/goods/like/{id}").get(goods::toggle_like))
        .service(at("/goods/{id}").route(read_only(goods::show)).delete(goods::delete))
        .service(at("/goods/{id}/chat").route(read_only(lines::list)))
        .service(at("/goods/{id}/bids").route(read_only(bids::list)).post(bids::place))
        .service(at("/goods/{id}/like").put(goods::like).delete(goods::unlike))
        .service(at("/chat").route(read_only(trades::list)))
        .service(at("/chat/goods/{id}").get(trades::show))
        .service(at("/media/default.jpeg").route(read_only(media::default_picture)))
        .service(at("/media/x/{id}").route(read_only(media::elsewhere)))
        .service(at("/media/{path:.*}").route(read_only(media::file)))
        .service(at("/alarms").route(read_only(alarms::list)))
        .service(at("/alarms/unread").route(read_only(alarms::unread)))
        .service(at("/alarms/stream").get(socket::stream))
        .service(at("/alarms/read").post(alarms::read))
        .service(at("/alarms/ack").post(alarms::acknowledge))
        .service(at("/alarms/preferences").route(read_only(alarms::preferences)).put(alarms::set_preferences))
        .service(at("/ws/alram").get(socket::open))
        .service(at("/ws/alarms").get(socket::open))
        .service(at("/ws/auction/{id}").get(socket::auction))
        .service(at("/ws/chat/{id}").get(socket::trade))
        .service(at("/health/live").route(read_only(health::live)))
        .service(at("/health/ready").route(read_only(health::ready)))
        .service(at("/metrics").route(read_only(metrics::show)))
        .service(at("/admin/health").route(read_only(health::admin)))
        .service(at("/admin/goods/by-external-id/{external_id}").put(external_goods::put))
        .service(at("/admin/goods/{id}/cancel").post(goods::cancel))
        .service(at("/admin/lines/{id}").delete(lines::remove))
        .service(at("/admin/audit").route(read_only(audit::list)))
        .service(at("/admin/alarms").post(admin_alarms::raise))
        .service(at("/admin/alarms/{event_id}/deliveries").route(read_only(admin_alarms::deliveries)))
        .service(at("/admin/users").route(read_only(users::list)))
        .service(at("/admin/users/{id}").route(read_only(users::show)).put(users::change).delete(users::erase))
        .service(at("/admin/users/{id}/export").route(read_only(export::export)))
        .service(at("/asyncapi.json").route(read_only(asyncapi::show)))
        .service(at("/client/handsup.js").route(read_only(client_library::library)))
        .service(at("/client/handsup.d.ts").route(read_only(client_library::types)))
        .service(at("/docs").route(read_only(docs::page)))
        .service(at("/docs/docs.css").route(read_only(docs::style)))
        .service(at("/docs/docs.js").route(read_only(docs::script)))
        .service(at("/openapi.json").route(read_only(openapi::show)))
        .service(at("/dev/token").post(dev::token))
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
