//! How sessions open: the handshakes of `/ws/alarms/` and `/ws/alram/` (one endpoint), of auction rooms and trade chats,
//! and `/alarms/stream`. Refusals here are HTTP; what comes after is the session's.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Version, header::HeaderName},
    web,
};
use actix_web_actors::ws;

use super::{
    ApiError, Services,
    bids::{goods_id, no_such_goods},
    connection::ConnectionEnd,
    identity::{Identity, PATIENCE, SUBPROTOCOL, offered_protocols},
    query,
    rate::Who,
    upgraded::MayUpgrade,
};
use crate::{
    actors::{
        AlarmContext, AuctionContext, AuthFuture, AuthOutcome, RateVerdict, SessionContext, ShardHandle, Signed,
        SocketAuth, TradeContext, alarm_events, alarm_socket, auction_socket, trade_socket,
    },
    domain::{Locale, Phase, User},
    protocol::{Close, Code, Problem},
    store::{TradeAccess, writes::SeeUser},
};

/// Opens an alarm socket.
pub(super) async fn open(
    request: HttpRequest,
    services: web::Data<Services>,
    shard: web::Data<LocalShard>,
) -> Result<HttpResponse, ApiError> {
    services.check_origin(&request)?;
    let identity = services.socket_user(&request).await?;
    let since = query::number(&request, "since")?;
    let modern = since.is_some() || offered_protocols(&request).any(|offered| offered == SUBPROTOCOL);
    let opening = opening(&request, &services, &shard, Some(&identity))?;
    let alarms = alarms(&services, &identity, since, modern);
    Ok(alarm_socket(opening, alarms, handshake(&request)?))
}

/// `GET /alarms/stream`: the same as server-sent events; 204 for a user who has as many sockets as they may have.
/// `Last-Event-ID`, which a browser sends by itself when it comes back, goes over `since`, which is of the page's first
/// time. One that is no id counts as none: a refusal would end the page's `EventSource` for good.
pub(super) async fn stream(
    request: HttpRequest,
    services: web::Data<Services>,
    shard: web::Data<LocalShard>,
) -> Result<HttpResponse, ApiError> {
    let identity = services.stream_user(&request).await?;
    let last = request.headers().get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let last = last.and_then(|text| query::parse(LAST_EVENT_ID.as_str(), text).ok());
    let since = last.or(query::number(&request, "since")?);
    let opening = opening(&request, &services, &shard, Some(&identity))?;
    let alarms = alarms(&services, &identity, since, since.is_some());
    let end = request.conn_data::<ConnectionEnd>().cloned().unwrap_or_default();
    let gone = Box::pin(poll_fn(move |cx| end.poll(cx)));
    match alarm_events(&opening, &alarms, signed(&identity), gone).await {
        Ok(stream) => Ok(stream),
        // After this an `EventSource` does not come back, as it would after any other end.
        Err(Close::TooManySockets) => Ok(HttpResponse::NoContent().finish()),
        Err(_) => Err(Problem::unavailable("no stream can be opened here now").into()),
    }
}

/// Opens a socket of an auction room: with a token for who takes part, without one for a visitor.
pub(super) async fn auction(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
    shard: web::Data<LocalShard>,
) -> Result<HttpResponse, ApiError> {
    services.check_origin(&request)?;
    let identity = services.socket_visitor(&request).await?;
    let goods = goods_id(&goods)?;
    let phase = services.store.phase(goods).await?.ok_or_else(no_such_goods)?;
    let handshake = handshake(&request)?;
    let opening = opening(&request, &services, &shard, identity.as_ref())?;
    let auction = AuctionContext {
        goods,
        is_over: phase == Phase::Ended,
        store: services.store.clone(),
        rooms: services.rooms.clone(),
        entrance: Arc::clone(&services.entrance),
        ledger: services.ledger.clone(),
        max_price: services.config.max_price,
    };
    Ok(auction_socket(opening, auction, handshake).await)
}

/// Opens a socket of a trade chat: for seller and buyer of ended goods (fault 13).
pub(super) async fn trade(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
    shard: web::Data<LocalShard>,
) -> Result<HttpResponse, ApiError> {
    services.check_origin(&request)?;
    let identity = services.socket_user(&request).await?;
    let goods = goods_id(&goods)?;
    let info = match services.store.trade_access(goods, identity.user.id).await? {
        TradeAccess::Yours(info) => info,
        TradeAccess::NotYours => return Err(Problem::new(Code::Forbidden, "not your trade").into()),
        TradeAccess::UnknownGoods => return Err(no_such_goods()),
    };
    let handshake = handshake(&request)?;
    let opening = opening(&request, &services, &shard, Some(&identity))?;
    let trade = TradeContext { goods, info, rooms: services.rooms.clone(), ledger: services.ledger.clone() };
    Ok(trade_socket(opening, trade, handshake).await)
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

fn handshake(request: &HttpRequest) -> Result<HttpResponseBuilder, Problem> {
    let refused = |why: String| Problem::new(Code::InvalidBody, format!("no WebSocket handshake: {why}"));
    if request.version() < Version::HTTP_11 {
        return Err(refused("it needs HTTP/1.1".to_owned()));
    }
    let answer = ws::handshake_with_protocols(request, &[SUBPROTOCOL]).map_err(|error| refused(error.to_string()))?;
    // What has a body, or names other protocols beside, is answered as HTTP.
    if request.extensions().contains::<MayUpgrade>() {
        Ok(answer)
    } else {
        Err(refused("it asks for nothing but \"websocket\", and has no body".to_owned()))
    }
}

fn signed(identity: &Identity) -> Signed {
    Signed { user: identity.user.id, expires_at: identity.expires_at }
}

fn alarms(services: &Services, identity: &Identity, since: Option<i64>, modern: bool) -> AlarmContext {
    AlarmContext {
        user: identity.user.id,
        since,
        modern,
        store: services.store.clone(),
        ledger: services.ledger.clone(),
    }
}

/// What a session opens with, if there is room for one more.
fn opening(
    request: &HttpRequest,
    services: &web::Data<Services>,
    shard: &LocalShard,
    identity: Option<&Identity>,
) -> Result<SessionContext, Problem> {
    // A tenth is kept for who has a name: visitors cost nothing to make.
    let max = services.config.max_sessions;
    let max = if identity.is_some() { max } else { max - max / 10 };
    let is_full = services.sessions.seats.load(Ordering::Relaxed) >= max;
    if is_full || services.entrance.is_draining() {
        return Err(Problem::unavailable("no socket is free here now"));
    }
    Ok(SessionContext {
        signed: identity.map(signed),
        shard: shard.0.clone(),
        hub: services.hub.clone(),
        time: Arc::clone(&services.time),
        limits: services.config.session,
        doorkeeper: Rc::new(Door {
            services: services.clone().into_inner(),
            user: RefCell::new(identity.map(|identity| Arc::clone(&identity.user))),
            is_stored: Arc::new(AtomicBool::new(identity.is_none_or(|identity| identity.is_stored))),
            admin: identity.is_some_and(|identity| identity.admin),
            who: services.who(request, identity),
        }),
    })
}

/// The shard of the worker that a request runs on.
pub struct LocalShard(pub ShardHandle);

/// One socket's way to what requests know: tokens, users, rates.
struct Door {
    services: Arc<Services>,
    /// Who opened it, as he was last known.
    user: RefCell<Option<Arc<User>>>,
    /// Whether their row is written: at the handshake nobody waits for that.
    is_stored: Arc<AtomicBool>,
    admin: bool,
    who: Who,
}

impl SocketAuth for Door {
    fn authenticate(&self, token: String) -> AuthFuture {
        let services = Arc::clone(&self.services);
        Box::pin(async move {
            match services.identify(Some(token)).await {
                Ok(Some(identity)) => AuthOutcome::Good(signed(&identity)),
                Ok(None) => AuthOutcome::Refused,
                Err(error) if error.0.code() == Code::Unauthorized => AuthOutcome::Refused,
                Err(_) => AuthOutcome::Unknown,
            }
        })
    }

    fn user(&self) -> Option<Arc<User>> {
        let mut user = self.user.borrow_mut();
        let user = user.as_mut()?;
        if let Some(known) = self.services.users.known(user.id) {
            *user = known;
        }
        Some(Arc::clone(user))
    }

    fn may_write(&self) -> bool {
        if self.is_stored.load(Ordering::Relaxed) {
            return true;
        }
        if let Some(user) = self.user() {
            let see = SeeUser { id: user.id, name: Some(user.username.clone()), iat: Some(user.named_at) };
            let is_stored = Arc::clone(&self.is_stored);
            self.services.ledger.submit(see, Instant::now() + PATIENCE, move |seen| {
                is_stored.fetch_or(seen.is_ok(), Ordering::Relaxed);
            });
        }
        false
    }

    fn bid_pace(&self) -> RateVerdict {
        if self.admin { RateVerdict::Fine } else { self.services.live.load().rates.bid_pace(self.who) }
    }

    fn line_pace(&self) -> RateVerdict {
        if self.admin { RateVerdict::Fine } else { self.services.live.load().rates.line_pace(self.who) }
    }

    fn locale(&self) -> Locale {
        self.services.live.load().locale
    }
}
