//! What the log has about requests: one access line for each if `log.access` is on, and a line for slow ones. Both name
//! the request by its id, which its response has in `X-Request-Id`.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
};

use super::Data;
use crate::{domain::UserId, outage::LogBudget};

/// The target of access lines, by which the log's filter knows them.
pub(crate) const ACCESS_LOG_TARGET: &str = "handsup::access";
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A request is slow if its response takes longer, the wait for its body left out.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// Limits how many slow requests are logged: all are slow while the database is.
static SLOW_LOG_BUDGET: LogBudget = LogBudget::new(20, Duration::from_secs(60));
/// The longest id that is taken from a client, and the longest part of a path in the log. A token is longer.
const LOGGED_WORD_BYTES: usize = 64;
/// Bytes of a path in the log.
const LOGGED_PATH_BYTES: usize = 200;

/// The id of a request, as a header value.
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// An id that is not used yet.
    pub(super) fn random() -> Self {
        let text = format!("{:016x}", rand::random::<u64>());
        // Digits alone: this can't fail.
        Self(HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("")))
    }

    /// The client's id for its request if it sends one of visible ASCII, otherwise a random one.
    fn of(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(X_REQUEST_ID);
        let is_sane = |id: &HeaderValue| {
            (1..=LOGGED_WORD_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        match (sent.next(), sent.next()) {
            (Some(id), None) if is_sane(id) => Self(id.clone()),
            _ => Self::random(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// What the log needs to know about a request, noted while it is handled.
struct Notes {
    id: RequestId,
    /// The user of the token.
    user: Cell<Option<UserId>>,
    /// How long the handler has waited for the body.
    body_wait: Cell<Duration>,
}

/// The request's id, for a line of the log.
pub(super) fn id_of(request: &HttpRequest) -> Option<String> {
    request.extensions().get::<Rc<Notes>>().map(|notes| notes.id.as_str().to_owned())
}

/// Notes whose token the request has.
pub(super) fn note_user(request: &HttpRequest, user: UserId) {
    if let Some(notes) = request.extensions().get::<Rc<Notes>>() {
        notes.user.set(Some(user));
    }
}

/// Notes how long the handler has waited for the body: that is the client's time.
pub(super) fn note_body_wait(request: &HttpRequest, wait: Duration) {
    if let Some(notes) = request.extensions().get::<Rc<Notes>>() {
        notes.body_wait.set(wait);
    }
}

/// Middleware that gives the request an id, which the response has too, and logs the request if it is slow or
/// `log.access` is on.
///
/// # Errors
/// Those of the wrapped service.
pub(crate) async fn log_request<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let begun = Instant::now();
    let id = RequestId::of(request.headers());
    let notes = Rc::new(Notes { id, user: Cell::default(), body_wait: Cell::default() });
    request.extensions_mut().insert(Rc::clone(&notes));
    let mut response = next.call(request).await?;
    response.headers_mut().insert(X_REQUEST_ID, notes.id.0.clone());
    notes.log(response.request(), response.status(), begun);
    Ok(response)
}

impl Notes {
    fn log(&self, request: &HttpRequest, status: StatusCode, begun: Instant) {
        let now = Instant::now();
        let took = now - begun;
        let slow = if is_slow(took, self.body_wait.get()) { SLOW_LOG_BUDGET.spend(now) } else { None };
        let is_access_on = log::log_enabled!(target: ACCESS_LOG_TARGET, log::Level::Info);
        if slow.is_none() && !is_access_on {
            return;
        }
        let (id, method) = (self.id.as_str(), word(request.method().as_str()));
        let (route, path) = (request.match_pattern(), logged_path(request));
        let (user, goods) = (self.user.get().map(UserId::get), goods_of(request));
        let (code, duration_ms) = (status.as_u16(), milliseconds(took));
        let address = request.app_data::<Data>().map(|services| services.address(request));
        let address = address.as_ref().map(IpAddr::to_string);
        if let Some(left_out) = slow {
            log::info!(
                request = id, method, route, path, user, goods, code, duration_ms, address, left_out;
                "a request was slow"
            );
        }
        if is_access_on {
            log::info!(
                target: ACCESS_LOG_TARGET,
                request = id, method, route, path, user, goods, code, duration_ms, address;
                "request"
            );
        }
    }
}

fn is_slow(took: Duration, body_wait: Duration) -> bool {
    took.saturating_sub(body_wait) >= SLOW_AFTER
}

/// The access line of a request that never reached the app.
pub(super) fn log_unrouted(id: &RequestId, code: u16, address: Option<SocketAddr>) {
    let address = address.map(|address| address.ip().to_canonical().to_string());
    log::info!(target: ACCESS_LOG_TARGET, request = id.as_str(), code, address; "request");
}

/// The path for the log, without its query. A client may write anything there, a token too: long parts are left out.
pub(super) fn logged_path(request: &HttpRequest) -> String {
    let mut path = String::new();
    for part in request.path().split('/').skip(1) {
        if path.len() + part.len() > LOGGED_PATH_BYTES {
            return path + "/…";
        }
        path.push('/');
        path += word(part);
    }
    path
}

fn word(text: &str) -> &str {
    if text.len() > LOGGED_WORD_BYTES { "…" } else { text }
}

/// The goods that the path names.
fn goods_of(request: &HttpRequest) -> Option<u64> {
    const OF_GOODS: [&str; 6] =
        ["/goods/{id}", "/goods/like/", "/chat/goods/", "/ws/auction/", "/ws/chat/", "/admin/goods/"];
    let route = request.match_pattern()?;
    let id = OF_GOODS.iter().any(|begin| route.starts_with(begin)).then(|| request.match_info().get("id"))??;
    id.parse().ok()
}

/// In thousandths: finer figures are noise.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_a_short_id_of_visible_ascii_is_taken_from_the_client() {
        let of = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(X_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            }
            RequestId::of(&headers).as_str().to_owned()
        };
        for id in ["7", "0b5f-a", "Root=1-67891233-abcdef012345678912345678", &"x".repeat(64)] {
            assert_eq!(of(&[id.as_bytes()]), id);
        }
        let is_random = |id: &str| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let cases: [&[&[u8]]; 8] =
            [&[], &[b""], &[&[b'x'; 65]], &[b"a b"], &[b"\xff"], &["é".as_bytes()], &[b"a\tb"], &[b"one", b"two"]];
        for values in cases {
            assert!(is_random(&of(values)), "{values:?}");
        }
        assert_ne!(of(&[]), of(&[]));
    }

    #[test]
    fn slow_is_what_the_service_takes_long_for() {
        let is_slow = |took, body_wait| is_slow(Duration::from_millis(took), Duration::from_millis(body_wait));
        assert!(is_slow(1000, 0) && is_slow(9500, 8000) && is_slow(4000, 0));
        assert!(!is_slow(999, 0) && !is_slow(9500, 9000) && !is_slow(10_001, 10_001));
    }

    #[test]
    fn a_path_in_the_log_is_short_and_has_neither_query_nor_token() {
        let token = format!("eyJhbGciOiJIUzI1NiJ9.{}.{}", "p".repeat(20), "s".repeat(43));
        let path = |uri: &str| logged_path(&TestRequest::with_uri(uri).to_http_request());
        assert_eq!(path("/goods/5/?token=secret"), "/goods/5/");
        assert_eq!(path("/"), "/");
        assert_eq!(path(&format!("/ws/alarms/{token}/x")), "/ws/alarms/…/x");
        assert_eq!(path(&format!("/ws/alarms%3Ftoken={token}")), "/ws/…");
        assert!(path(&"/abc".repeat(1000)).len() < LOGGED_PATH_BYTES + 8);
    }
}
