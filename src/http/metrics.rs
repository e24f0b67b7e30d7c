//! `GET /metrics`: what the node counts and measures, for Prometheus.

use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web};

use super::{ApiError, Data, Response, health::is_ready, problems};
use crate::{metrics::TEXT_TYPE, protocol::Problem};

/// All metrics of this node. With `auth.metrics_token` it takes that as bearer token, and no other.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "service", security((), ("bearer" = [])),
    responses(
        (
            status = 200, description = "Prometheus' text format",
            content_type = "text/plain; version=0.0.4; charset=utf-8", body = String,
        ),
        problems::Scraper,
    ),
)]
pub(super) async fn show(request: HttpRequest, services: Data) -> Response {
    services.scraper(&request)?;
    // Sets the gauges of the checks.
    is_ready(&services).await;
    // On a thread of its own: it reads files of the process, whose list of open files is long.
    let text = web::block(move || services.metrics.to_text()).await;
    let text = text.map_err(|_| ApiError::from(Problem::unavailable("the server is stopping")))?;
    Ok(HttpResponse::Ok().content_type(TEXT_TYPE).insert_header((CACHE_CONTROL, "no-store")).body(text))
}
