//! Which pages of other origins may call (`server.allowed_origins`): the marketplace's come from another one than this
//! service. For WebSockets the handshake looks itself (`socket`).

use std::time::{Duration, Instant};

use actix_cors::{Cors, CorsError};
use actix_web::{
    Error, HttpRequest, ResponseError,
    body::MessageBody,
    dev::{RequestHead, ServiceRequest, ServiceResponse},
    http::{
        Method, Uri,
        header::{self, HeaderValue},
    },
    middleware::Next,
    web,
};

use super::{Services, error::ApiError};
use crate::{
    outage::Budget,
    protocol::{Code, Problem},
};

/// Refused origins in the log: so many, and of each so much.
static REFUSED: Budget = Budget::new(20, Duration::from_secs(60));
const SHOWN: usize = 200;

/// What pages of `server.allowed_origins`, as it is set now, may send and read of the answers.
pub fn cors(services: web::Data<Services>) -> Cors {
    Cors::default()
        .allowed_origin_fn(move |origin, head| is_own_origin(origin, head) || services.allows_origin(origin))
        .allowed_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .allowed_header("idempotency-key")
        .allowed_header("last-event-id")
        .expose_headers([header::RETRY_AFTER])
        .expose_headers(["idempotent-replayed"])
        .max_age(3600)
}

impl Services {
    /// Whether this is one of `server.allowed_origins`.
    fn allows_origin(&self, origin: &HeaderValue) -> bool {
        self.live.load().allowed_origins.iter().any(|one| one.as_bytes() == origin.as_bytes())
    }

    /// A browser says where its page is from: only the service's own origin and the allowed ones may open sockets.
    ///
    /// # Errors
    /// 403 for a page of another origin.
    pub(super) fn check_origin(&self, request: &HttpRequest) -> Result<(), Problem> {
        let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
        if is_own_origin(origin, request.head()) || self.allows_origin(origin) {
            return Ok(());
        }
        self.say_refused(request);
        Err(Problem::new(Code::Forbidden, "this origin may not open sockets here"))
    }

    /// Whoever has forgotten an origin in `server.allowed_origins` finds it in the log; whoever sends many does not fill it.
    fn say_refused(&self, request: &HttpRequest) {
        if let Some(left_out) = REFUSED.spend(Instant::now()) {
            let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
            let origin = String::from_utf8_lossy(&origin[..origin.len().min(SHOWN)]);
            let (path, address) = (request.path(), self.address(request));
            log::info!("refused {path:.SHOWN$} to a page of {origin:?}, from {address}{left_out}");
        }
    }
}

/// Whether a page is of the service's own origin: the origin's host and port are those that the request was sent to. A
/// browser leaves a scheme's own port out, a proxy may name it.
fn is_own_origin(origin: &HeaderValue, head: &RequestHead) -> bool {
    let host = head.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let (Some(host), Some(origin)) = (host, origin) else { return false };
    let own_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let place = |uri: &Uri| Some((uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(own_port)));
    let host = Uri::builder().scheme("http").authority(host).path_and_query("/").build();
    host.is_ok_and(|host| place(&host).is_some() && place(&host) == place(&origin))
}

/// Refuses what [`cors`] refuses with a problem, as everything else is refused.
///
/// # Errors
/// Those of the service.
pub async fn refused_as_problem<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let answered = next.call(request).await?;
    let refused = answered.response().error().is_some_and(|error| error.as_error::<CorsError>().is_some());
    if let (true, Some(services)) = (refused, answered.request().app_data::<web::Data<Services>>()) {
        services.say_refused(answered.request());
    }
    Ok(if refused {
        let problem = Problem::new(Code::Forbidden, "pages of this origin may not ask for this");
        answered.into_response(ApiError(problem).error_response()).map_into_right_body()
    } else {
        answered.map_into_left_body()
    })
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
