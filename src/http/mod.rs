//! HTTP and the WebSocket handshake: routes, identity, limits, errors. Decides nothing about auctions; it parses,
//! hands on, and turns answers into responses.

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
mod known_tokens;
mod lines;
mod media;
mod open_sockets;
mod participants;
mod query;
mod rate;
mod readiness;
mod responses;
mod services;
mod socket;
mod token;
mod trades;
mod upgraded;
mod user_directory;
mod users;

use actix_web::{FromRequest, Handler, Responder, Route, guard, web};

pub use self::{
    connection::{Connection, ConnectionLimit, in_turn},
    cors::{cors, refused_as_problem},
    error::ApiError,
    identity::Identity,
    known_tokens::KnownTokens,
    open_sockets::OpenSockets,
    rate::{RateLimits, Rates},
    readiness::Readiness,
    services::{HttpConfig, LiveConfig, Services},
    socket::LocalShard,
    token::{Claims, Keys, MintError, NewToken},
    upgraded::{part, take_over},
    user_directory::UserDirectory,
};

/// All routes. Paths answer with and without their last slash (the app trims it before it routes).
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(at("/goods", "GET, HEAD, POST").route(reading(goods_lists::list)).route(web::post().to(goods::make)))
        // Before `/goods/{id}` and what is below it: these words are no ids.
        .service(at("/goods/recommend", "GET, HEAD").route(reading(goods_lists::recommend)))
        .service(at("/goods/user/{id}", "GET, HEAD").route(reading(goods_lists::of_user)))
        .service(at("/goods/like/{id}", "GET").route(web::get().to(goods::toggle_like)))
        .service(
            at("/goods/{id}", "GET, HEAD, DELETE").route(reading(goods::show)).route(web::delete().to(goods::delete)),
        )
        .service(at("/goods/{id}/chat", "GET, HEAD").route(reading(lines::list)))
        .service(
            at("/goods/{id}/bids", "GET, HEAD, POST").route(web::post().to(bids::place)).route(reading(bids::list)),
        )
        .service(
            at("/goods/{id}/like", "PUT, DELETE")
                .route(web::put().to(goods::like))
                .route(web::delete().to(goods::unlike)),
        )
        .service(at("/chat", "GET, HEAD").route(reading(trades::list)))
        .service(at("/chat/goods/{id}", "GET").route(web::get().to(trades::show)))
        .service(at("/media/default.jpeg", "GET, HEAD").route(reading(media::default_picture)))
        .service(at("/media/{path:.*}", "GET, HEAD").route(reading(media::file)))
        .service(at("/alarms", "GET, HEAD").route(reading(alarms::list)))
        .service(at("/alarms/unread", "GET, HEAD").route(reading(alarms::unread)))
        .service(at("/alarms/stream", "GET").route(web::get().to(socket::stream)))
        .service(at("/alarms/read", "POST").route(web::post().to(alarms::read)))
        .service(
            at("/alarms/preferences", "GET, HEAD, PUT")
                .route(reading(alarms::preferences))
                .route(web::put().to(alarms::set_preferences)),
        )
        .service(at("/ws/alram", "GET").route(web::get().to(socket::open)))
        .service(at("/ws/alarms", "GET").route(web::get().to(socket::open)))
        .service(at("/ws/auction/{id}", "GET").route(web::get().to(socket::auction)))
        .service(at("/ws/chat/{id}", "GET").route(web::get().to(socket::trade)))
        .service(at("/health/live", "GET, HEAD").route(reading(health::live)))
        .service(at("/health/ready", "GET, HEAD").route(reading(health::ready)))
        .service(at("/admin/health", "GET, HEAD").route(reading(health::admin)))
        .service(at("/admin/users/{id}", "PUT").route(web::put().to(users::change)))
        .service(at("/dev/token", "POST").route(web::post().to(dev::token)))
        .default_service(web::to(error::no_such_path));
}

/// What only reads, and therefore answers HEAD as well (the server leaves the body out).
fn reading<F, Args>(handler: F) -> Route
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler)
}

/// A path whose other methods are refused as problems that name the ones there are.
fn at(path: &str, allow: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move || async move { error::wrong_method(allow) }))
}
