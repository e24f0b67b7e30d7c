//! HTTP and the WebSocket handshake: routes, identity, limits, errors. Decides nothing about auctions; it parses,
//! hands on, and turns answers into responses.

mod alarms;
mod answer;
mod bids;
mod body;
mod dev;
mod error;
mod goods;
mod goods_lists;
mod health;
mod identity;
mod lines;
mod media;
mod participants;
mod query;
mod rate;
mod services;
mod shapes;
mod socket;
mod token;
mod trades;
mod upgraded;
mod users;

use actix_web::web;

pub use self::{
    error::ApiError,
    health::Readiness,
    identity::{Identity, KnownTokens, UserDirectory},
    rate::{RateLimits, Rates},
    services::{HttpConfig, Services},
    socket::LocalShard,
    token::{Claims, Keys, MintError, NewToken},
    upgraded::{OpenSockets, take_over},
};

/// All routes. Paths answer with and without their last slash (the app trims it before it routes).
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(at("/goods", "GET, POST").route(web::get().to(goods_lists::list)).route(web::post().to(goods::make)))
        // Before `/goods/{id}` and what is below it: these words are no ids.
        .service(at("/goods/recommend", "GET").route(web::get().to(goods_lists::recommend)))
        .service(at("/goods/user/{id}", "GET").route(web::get().to(goods_lists::of_user)))
        .service(at("/goods/like/{id}", "GET").route(web::get().to(goods::toggle_like)))
        .service(
            at("/goods/{id}", "GET, DELETE").route(web::get().to(goods::show)).route(web::delete().to(goods::delete)),
        )
        .service(at("/goods/{id}/chat", "GET").route(web::get().to(lines::list)))
        .service(
            at("/goods/{id}/bids", "GET, POST").route(web::post().to(bids::place)).route(web::get().to(bids::list)),
        )
        .service(
            at("/goods/{id}/like", "PUT, DELETE")
                .route(web::put().to(goods::like))
                .route(web::delete().to(goods::unlike)),
        )
        .service(at("/chat", "GET").route(web::get().to(trades::list)))
        .service(at("/chat/goods/{id}", "GET").route(web::get().to(trades::show)))
        .service(
            at("/media/default.jpeg", "GET, HEAD")
                .route(web::get().to(media::default_picture))
                .route(web::head().to(media::default_picture)),
        )
        .service(
            at("/media/{path:.*}", "GET, HEAD").route(web::get().to(media::file)).route(web::head().to(media::file)),
        )
        .service(at("/alarms", "GET").route(web::get().to(alarms::list)))
        .service(at("/alarms/unread", "GET").route(web::get().to(alarms::unread)))
        .service(at("/alarms/stream", "GET").route(web::get().to(socket::stream)))
        .service(at("/alarms/read", "POST").route(web::post().to(alarms::read)))
        .service(
            at("/alarms/preferences", "GET, PUT")
                .route(web::get().to(alarms::preferences))
                .route(web::put().to(alarms::set_preferences)),
        )
        .service(at("/ws/alram", "GET").route(web::get().to(socket::open)))
        .service(at("/ws/alarms", "GET").route(web::get().to(socket::open)))
        .service(at("/ws/auction/{id}", "GET").route(web::get().to(socket::auction)))
        .service(at("/ws/chat/{id}", "GET").route(web::get().to(socket::trade)))
        .service(at("/health/live", "GET").route(web::get().to(health::live)))
        .service(at("/health/ready", "GET").route(web::get().to(health::ready)))
        .service(at("/admin/health", "GET").route(web::get().to(health::admin)))
        .service(at("/admin/users/{id}", "PUT").route(web::put().to(users::change)))
        .service(at("/dev/token", "POST").route(web::post().to(dev::token)))
        .default_service(web::to(error::no_such_path));
}

/// A path whose other methods are refused as problems that name the ones there are.
fn at(path: &str, allow: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move || async move { error::wrong_method(allow) }))
}
