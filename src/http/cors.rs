//! Which web pages may call this service: those of its own origin and of `server.allowed_origins`, such as the
//! marketplace's. CORS does not cover WebSockets, so handshakes call `check_origin`.

use std::time::{Duration, Instant};

use actix_cors::Cors;
use actix_web::{
    HttpRequest,
    dev::RequestHead,
    http::{
        Method, Uri,
        header::{self, HeaderValue},
    },
    web,
};

use super::{
    Services,
    request_log::{X_REQUEST_ID, id_of, logged_path},
};
use crate::{
    outage::LogBudget,
    protocol::{Code, Problem},
};

/// Limits how many refused origins are logged.
static REFUSAL_LOG_BUDGET: LogBudget = LogBudget::new(20, Duration::from_secs(60));
/// Bytes of an origin in the log.
const LOGGED_BYTES_LIMIT: usize = 200;

/// The methods and headers that allowed pages may send, and the headers that they may read. A reload of
/// `server.allowed_origins` takes effect at once.
pub(crate) fn cors(services: web::Data<Services>) -> Cors {
    Cors::default()
        .allowed_origin_fn(move |origin, head| is_own_origin(origin, head) || services.allows_origin(origin))
        .allowed_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .allowed_header("idempotency-key")
        .allowed_header("last-event-id")
        .allowed_header(X_REQUEST_ID)
        .expose_headers([header::RETRY_AFTER])
        .expose_headers(["idempotent-replayed", X_REQUEST_ID.as_str()])
        .max_age(3600)
}

impl Services {
    /// Whether this is one of `server.allowed_origins`.
    fn allows_origin(&self, origin: &HeaderValue) -> bool {
        self.live.load().allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }

    /// Checks the `Origin` of a WebSocket handshake. Clients other than browsers send none and pass.
    /// Errors: 403 for a page that is neither of the service's own origin nor of an allowed one.
    pub(super) fn check_origin(&self, request: &HttpRequest) -> Result<(), Problem> {
        let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
        if is_own_origin(origin, request.head()) || self.allows_origin(origin) {
            return Ok(());
        }
        self.log_refused_origin(request);
        Err(Problem::new(Code::Forbidden, "pages of this origin may not open sockets"))
    }

    /// Logs a refused origin, which may be missing in `server.allowed_origins`. Many refusals do not fill the log.
    pub(super) fn log_refused_origin(&self, request: &HttpRequest) {
        if let Some(left_out) = REFUSAL_LOG_BUDGET.spend(Instant::now()) {
            let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
            let origin = String::from_utf8_lossy(&origin[..origin.len().min(LOGGED_BYTES_LIMIT)]);
            let (path, address) = (logged_path(request), self.address(request));
            log::info!(
                request = id_of(request), path, origin:%, address:%, left_out;
                "refused a page of another origin"
            );
        }
    }
}

/// Whether a page is of the service's own origin: its host and port equal those of the `Host` header. A browser leaves
/// out the default port of the scheme, a proxy may add it.
fn is_own_origin(origin: &HeaderValue, head: &RequestHead) -> bool {
    let host = head.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let (Some(host), Some(origin)) = (host, origin) else { return false };
    let default_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let host_and_port = |uri: &Uri| Some((uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(default_port)));
    let host = Uri::builder().scheme("http").authority(host).path_and_query("/").build();
    host.is_ok_and(|host| host_and_port(&host).is_some() && host_and_port(&host) == host_and_port(&origin))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_page_is_of_the_services_own_origin_by_host_and_port() {
        let own = |host: &'static str, origin: &'static str| {
            let request = TestRequest::default().insert_header((header::HOST, host)).to_http_request();
            is_own_origin(&HeaderValue::from_static(origin), request.head())
        };
        for (host, origin) in [
            ("api.example:8000", "http://api.example:8000"),
            ("api.example", "https://api.example"),
            ("api.example:443", "https://api.example"),
            ("api.example:80", "http://api.example"),
            ("api.example", "http://api.example:80"),
            ("API.example", "http://api.example"),
            ("[::1]:8000", "http://[::1]:8000"),
        ] {
            assert!(own(host, origin), "{origin} at {host}");
        }
        for (host, origin) in [
            ("api.example:8000", "http://api.example"),
            ("api.example:80", "https://api.example"),
            ("api.example", "http://api.example:8000"),
            ("api.example", "http://api.example.evil"),
            ("api.example", "http://evil/api.example"),
            ("api.example", "http://user@evil"),
            ("api.example", "evil://api.example"),
            ("api.example", "api.example"),
            ("api.example", "null"),
            ("", "http://"),
            ("", ""),
        ] {
            assert!(!own(host, origin), "{origin} at {host}");
        }
    }
}
