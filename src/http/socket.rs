//! How sessions open: the handshake of `/ws/alarms/` and `/ws/alram/` (one endpoint), and `/alarms/stream`. Refusals
//! here are HTTP; what comes after is the session's.

use std::{rc::Rc, sync::Arc, sync::atomic::Ordering};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HOST, HeaderName, ORIGIN},
    web,
};
use actix_web_actors::ws;

use super::{
    ApiError, Services,
    identity::{Identity, SUBPROTOCOL, offered_protocols},
    query,
};
use crate::{
    actors::{Authenticate, Judged, Judgement, SessionOpening, ShardHandle, alarm_events, alarm_socket},
    protocol::{Code, Problem},
};

/// Opens an alarm socket.
pub(super) async fn open(
    request: HttpRequest,
    payload: web::Payload,
    services: web::Data<Services>,
    shard: web::Data<LocalShard>,
) -> Result<HttpResponse, ApiError> {
    check_origin(&request, &services.config.allowed_origins)?;
    let identity = services.socket_user(&request).await?;
    let since = query::number(&request, "since")?;
    let modern = since.is_some() || offered_protocols(&request).any(|offered| offered == SUBPROTOCOL);
    let opening = opening(&services, &shard, &identity, since, modern)?;
    let handshake = ws::handshake_with_protocols(&request, &[SUBPROTOCOL])
        .map_err(|error| Problem::new(Code::InvalidBody, format!("no WebSocket handshake: {error}")))?;
    Ok(alarm_socket(opening, handshake, payload))
}

/// `GET /alarms/stream`: the same as server-sent events. `Last-Event-ID`, which a browser sends by itself when it comes
/// back, goes over `since`, which is of the page's first time.
pub(super) async fn stream(
    request: HttpRequest,
    services: web::Data<Services>,
    shard: web::Data<LocalShard>,
) -> Result<HttpResponse, ApiError> {
    let identity = services.socket_user(&request).await?;
    let last = match request.headers().get(LAST_EVENT_ID) {
        Some(value) => Some(query::parse("Last-Event-ID", value.to_str().unwrap_or_default())?),
        None => None,
    };
    let since = last.or(query::number(&request, "since")?);
    let opening = opening(&services, &shard, &identity, since, since.is_some())?;
    Ok(alarm_events(&opening))
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a session opens with, if there is room for one more.
fn opening(
    services: &web::Data<Services>,
    shard: &LocalShard,
    identity: &Identity,
    since: Option<i64>,
    modern: bool,
) -> Result<SessionOpening, Problem> {
    let is_full = services.sessions.seats.load(Ordering::Relaxed) >= services.config.max_sessions;
    if is_full || services.is_draining() {
        return Err(Problem::unavailable("no socket is free here now"));
    }
    Ok(SessionOpening {
        user: identity.user.id,
        expires_at: identity.expires_at,
        since,
        modern,
        shard: shard.0.clone(),
        hub: services.hub.clone(),
        store: services.store.clone(),
        ledger: services.ledger.clone(),
        time: Arc::clone(&services.time),
        locale: services.config.locale,
        limits: services.config.session,
        authenticate: Rc::new(ByServices(services.clone().into_inner())),
    })
}

/// The shard of the worker that a request runs on.
pub struct LocalShard(pub ShardHandle);

/// Judges tokens on live sockets like those of requests.
struct ByServices(Arc<Services>);

impl Authenticate for ByServices {
    fn authenticate(&self, token: String) -> Judged {
        let services = Arc::clone(&self.0);
        Box::pin(async move {
            match services.identify(Some(token)).await {
                Ok(Some(identity)) => Judgement::Good(identity.user.id, identity.expires_at),
                Ok(None) => Judgement::Refused,
                Err(error) if error.0.code() == Code::Unauthorized => Judgement::Refused,
                Err(_) => Judgement::Unknown,
            }
        })
    }
}

/// A browser says where its page is from: only the service's own origin and the allowed ones may open sockets.
fn check_origin(request: &HttpRequest, allowed: &[String]) -> Result<(), Problem> {
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().unwrap_or_default();
    let own = origin.split_once("://").is_some_and(|(_, of)| Some(of) == host);
    if own || allowed.iter().any(|one| one.trim_end_matches('/') == origin) {
        Ok(())
    } else {
        Err(Problem::new(Code::Forbidden, "this origin may not open sockets here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn only_the_own_and_the_allowed_origins_pass() {
        let allowed = ["https://market.example".to_owned()];
        let check = |origin: &str| {
            let request = TestRequest::default().insert_header((HOST, "api.example:8000"));
            check_origin(&request.insert_header((ORIGIN, origin)).to_http_request(), &allowed).map_err(|p| p.status())
        };
        assert_eq!(check("http://api.example:8000"), Ok(()));
        assert_eq!(check("https://market.example"), Ok(()));
        for bad in ["null", "", "http://api.example", "https://market.example.evil", "https://evil/market.example"] {
            assert_eq!(check(bad), Err(403), "{bad}");
        }
        assert!(check_origin(&TestRequest::default().to_http_request(), &allowed).is_ok(), "no browser");
    }
}
