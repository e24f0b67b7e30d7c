//! The endpoints that open a session: `/ws/alarms/` and `/ws/alram/` (the same endpoint), `/ws/auction/{id}/`,
//! `/ws/chat/{id}/` and `/alarms/stream`. Refusals here are HTTP responses; after the handshake the session takes over.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Version, header::HeaderName},
    web::{self, Path},
};
use actix_web_actors::ws;

use super::{
    Data, Response, Services,
    bids::{goods_id, goods_not_found},
    connection_end::ConnectionEnd,
    identity::{Identity, SUBPROTOCOL, offered_protocols},
    problems, query,
    socket_auth::{RequestAuth, authenticated},
    upgraded::MayUpgrade,
};
use crate::{
    actors::{
        AlarmContext, AuctionContext, SessionContext, TradeContext, WorkerOutboxes, alarm_events, alarm_socket,
        auction_socket, trade_socket,
    },
    domain::{GoodsId, Phase},
    protocol::{Close, Code, Problem},
    store::TradeAccess,
};

/// Opens an alarm socket.
#[utoipa::path(
    get, path = "/ws/alarms/", operation_id = "open_alarms", tag = "sockets",
    security(("bearer" = []), ("query" = []), ("subprotocol" = [])),
    params(("since" = Option<i64>, Query, minimum = 0, description = "The alarms after this id, then new ones")),
    responses((status = 101, description = "The socket is open"), problems::Handshake, problems::InvalidValue),
)]
pub(super) async fn open(request: HttpRequest, services: Data, shard: web::Data<LocalShard>) -> Response {
    services.check_origin(&request)?;
    let identity = services.socket_user(&request).await?;
    let since = query::number(&request, "since")?;
    let wants_hello = since.is_some() || offered_protocols(&request).any(|offered| offered == SUBPROTOCOL);
    let context = session_context(&request, &services, &shard, Some(&identity))?;
    let alarms = alarms(&services, &identity, since, wants_hello);
    Ok(alarm_socket(context, alarms, handshake(&request)?))
}

/// `GET /alarms/stream`: the alarms as server-sent events; 204 if the user already has as many sockets as allowed.
///
/// A browser that reconnects sends `Last-Event-ID` by itself and repeats the `since` of its first request, so the
/// header wins. An invalid header is ignored, because a refusal would end the page's `EventSource` for good.
#[utoipa::path(
    get, path = "/alarms/stream", operation_id = "stream", tag = "alarms", security(("bearer" = []), ("query" = [])),
    params(
        ("since" = Option<i64>, Query, minimum = 0, description = "The alarms after this id, then new ones"),
        ("Last-Event-ID" = Option<String>, Header, description = "Wins over `since`; one that is no id counts as none"),
    ),
    responses(
        (
            status = 200, description = "Frames as in `/ws/alarms/`, as server-sent events",
            content_type = "text/event-stream", body = String,
        ),
        (status = 204, description = "The user has as many sockets as allowed: stay away"),
        problems::Caller, problems::InvalidValue,
    ),
)]
pub(super) async fn stream(request: HttpRequest, services: Data, shard: web::Data<LocalShard>) -> Response {
    let identity = services.stream_user(&request).await?;
    let last_event_id = request.headers().get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let last_event_id = last_event_id.and_then(|text| query::parse_number(LAST_EVENT_ID.as_str(), text).ok());
    let since = last_event_id.or(query::number(&request, "since")?);
    let context = session_context(&request, &services, &shard, Some(&identity))?;
    let alarms = alarms(&services, &identity, since, since.is_some());
    let connection_end = request.conn_data::<ConnectionEnd>().cloned().unwrap_or_default();
    let disconnected = Box::pin(async move { connection_end.wait().await });
    match alarm_events(&context, &alarms, authenticated(&identity), disconnected).await {
        Ok(stream) => Ok(stream),
        // An `EventSource` does not reconnect after 204.
        Err(Close::TooManySockets) => Ok(HttpResponse::NoContent().finish()),
        Err(_) => Err(Problem::unavailable("this server cannot open a stream right now; try again later").into()),
    }
}

/// Opens a socket of an auction room. A user with a token can bid and speak; a visitor without one can only watch.
#[utoipa::path(
    get, path = "/ws/auction/{id}/", operation_id = "open_auction", tag = "sockets",
    security((), ("bearer" = []), ("query" = []), ("subprotocol" = [])),
    params(("id" = GoodsId, Path, description = "The goods")),
    responses((status = 101, description = "The socket is open"), problems::Handshake, problems::NotFound),
)]
pub(super) async fn auction(
    request: HttpRequest,
    goods: Path<String>,
    services: Data,
    shard: web::Data<LocalShard>,
) -> Response {
    services.check_origin(&request)?;
    let identity = services.socket_visitor(&request).await?;
    let goods = goods_id(&goods)?;
    let phase = services.store.phase(goods).await?.ok_or_else(goods_not_found)?;
    let handshake = handshake(&request)?;
    let context = session_context(&request, &services, &shard, identity.as_ref())?;
    let auction = AuctionContext {
        goods,
        is_over: phase == Phase::Ended,
        store: services.store.clone(),
        rooms: services.rooms.clone(),
        ingress: Arc::clone(&services.ingress),
        ledger: services.ledger.clone(),
        max_price: services.config.max_price,
    };
    Ok(auction_socket(context, auction, handshake).await)
}

/// Opens a socket of a trade chat. Only the seller and the buyer of ended goods may open it (fault 13).
#[utoipa::path(
    get, path = "/ws/chat/{id}/", operation_id = "open_chat", tag = "sockets",
    security(("bearer" = []), ("query" = []), ("subprotocol" = [])),
    params(("id" = GoodsId, Path, description = "The goods")),
    responses((status = 101, description = "The socket is open"), problems::Handshake, problems::NotFound),
)]
pub(super) async fn trade(
    request: HttpRequest,
    goods: Path<String>,
    services: Data,
    shard: web::Data<LocalShard>,
) -> Response {
    services.check_origin(&request)?;
    let identity = services.socket_user(&request).await?;
    let goods = goods_id(&goods)?;
    let info = match services.store.trade_access(goods, identity.user.id).await? {
        TradeAccess::Yours(info) => info,
        TradeAccess::NotYours => {
            return Err(Problem::new(Code::Forbidden, "only the seller and the buyer take part in this trade").into());
        }
        TradeAccess::UnknownGoods => return Err(goods_not_found()),
    };
    let handshake = handshake(&request)?;
    let context = session_context(&request, &services, &shard, Some(&identity))?;
    let trade = TradeContext { goods, info, rooms: services.rooms.clone(), ledger: services.ledger.clone() };
    Ok(trade_socket(context, trade, handshake).await)
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The response that accepts a WebSocket handshake.
fn handshake(request: &HttpRequest) -> Result<HttpResponseBuilder, Problem> {
    let invalid = |why: String| Problem::new(Code::InvalidBody, format!("not a valid WebSocket handshake: {why}"));
    if request.version() < Version::HTTP_11 {
        return Err(invalid("HTTP/1.1 is required".to_owned()));
    }
    let response = ws::handshake_with_protocols(request, &[SUBPROTOCOL]).map_err(|error| invalid(error.to_string()))?;
    // A request that has a body or asks for other protocols too did not come through the upgrade service.
    if request.extensions().contains::<MayUpgrade>() {
        Ok(response)
    } else {
        Err(invalid("`Upgrade` must name only \"websocket\", and the request must have no body".to_owned()))
    }
}

fn alarms(services: &Services, identity: &Identity, since: Option<i64>, wants_hello: bool) -> AlarmContext {
    AlarmContext {
        user: identity.user.id,
        since,
        wants_hello,
        store: services.store.clone(),
        ledger: services.ledger.clone(),
    }
}

/// What a session needs to open. Refuses if the node is full or shutting down.
fn session_context(
    request: &HttpRequest,
    services: &Data,
    shard: &LocalShard,
    identity: Option<&Identity>,
) -> Result<SessionContext, Problem> {
    // A tenth of the places is kept for users with a token, because anybody can open many as a visitor.
    let max = services.config.max_sessions;
    let max = if identity.is_some() { max } else { max - max / 10 };
    let is_full = services.sessions.open.load(Ordering::Relaxed) >= max;
    if is_full || services.ingress.is_draining() {
        return Err(Problem::unavailable("this server cannot open a socket right now; try again later"));
    }
    Ok(SessionContext {
        authenticated: identity.map(authenticated),
        shard: shard.0.clone(),
        hub: services.hub.clone(),
        time: Arc::clone(&services.time),
        limits: services.config.session,
        auth: Rc::new(RequestAuth::new(request, services, identity)),
    })
}

/// The shard of the worker that a request runs on, as app data.
pub(crate) struct LocalShard(pub WorkerOutboxes);
