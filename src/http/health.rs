//! Health endpoints: `/health/live` (the process runs), `/health/ready` (the node can take bids) and `/admin/health` (a
//! report for operators).
//!
//! The fields of the report are its JSON keys; `docs/operating.md#what-to-watch` says what each figure means.

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Data, Response, Services, json, problems};
use crate::{
    actors::{
        ClockFigures, GetClockFigures, GetHubFigures, GetRoomFigures, GetRouterFigures, HubFigures, RoomFigures,
        RouterFigures,
    },
    bus::{Bus, BusFigures},
    domain::Timestamp,
    store::{LedgerFigures, writes::Probe},
};

/// A part that does not answer within this time has failed.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1000);
/// An auction that is overdue for longer than this makes the clock's status a warning.
const OVERDUE_WARNING_MS: i64 = 2000;

/// A status of the health check format for HTTP APIs (draft-inadarei-api-health-check), from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Pass,
    Warn,
    Fail,
}

impl Status {
    fn fail_unless(is_good: bool) -> Self {
        if is_good { Self::Pass } else { Self::Fail }
    }

    fn warn_if(is_bad: bool) -> Self {
        if is_bad { Self::Warn } else { Self::Pass }
    }
}

#[derive(Serialize, ToSchema)]
struct StatusResponse {
    status: Status,
}

/// `GET /health/live`: the process runs.
#[utoipa::path(
    get, path = "/health/live", operation_id = "live", tag = "service", security(()),
    responses((status = 200, description = "The process runs", body = StatusResponse)),
)]
pub(super) async fn live() -> HttpResponse {
    json::ok(&StatusResponse { status: Status::Pass })
}

/// `GET /health/ready`: the node can take bids and does not shut down.
#[utoipa::path(
    get, path = "/health/ready", operation_id = "ready", tag = "service", security(()),
    responses(
        (status = 200, description = "The node can take bids", body = StatusResponse),
        (status = 503, description = "It can't", body = StatusResponse),
    ),
)]
pub(super) async fn ready(services: Data) -> HttpResponse {
    if is_ready(&services).await {
        json::ok(&StatusResponse { status: Status::Pass })
    } else {
        json::json(HttpResponse::ServiceUnavailable(), &StatusResponse { status: Status::Fail })
    }
}

/// Whether no part fails and the node does not shut down. However often it is asked, the parts are asked four times a
/// second at most, and nothing is written as long as writes succeed.
pub(super) async fn is_ready(services: &Services) -> bool {
    let check = || async { examine(services, Probe::of(&services.ledger)).await.status < Status::Fail };
    let is_ready = services.readiness.check(check).await && !services.ingress.is_draining();
    services.check_gauges.set_ready(is_ready);
    is_ready
}

#[derive(Serialize, ToSchema)]
struct Health {
    status: Status,
    version: &'static str,
    node: String,
    uptime_s: i64,
    time: Timestamp,
    /// For each part its status and its figures (`docs/operating.md#what-to-watch`).
    #[schema(value_type = HashMap<String, StatusResponse>)]
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    database: Check<DatabaseCheck>,
    ledger: Check<LedgerCheck>,
    alarm_hub: Check<HubFigures>,
    auction_clock: Check<ClockCheck>,
    bid_actors: Check<BidActorsCheck>,
    bus: Check<BusCheck>,
    sessions: Check<SessionsCheck>,
}

/// One part: its status and its figures.
#[derive(Serialize)]
struct Check<F> {
    status: Status,
    #[serde(flatten)]
    figures: F,
}

#[derive(Serialize)]
struct DatabaseCheck {
    engine: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ping_ms: Option<f64>,
}

#[derive(Serialize)]
struct LedgerCheck {
    #[serde(skip_serializing_if = "Option::is_none")]
    ping_ms: Option<f64>,
    last_commit_ms: f64,
    #[serde(flatten)]
    figures: LedgerFigures,
}

#[derive(Serialize)]
struct ClockCheck {
    last_tick: Option<Timestamp>,
    lag_ms: i64,
    oldest_overdue: Option<Timestamp>,
    agenda: usize,
    under_way: usize,
}

#[derive(Serialize)]
struct BidActorsCheck {
    #[serde(flatten)]
    figures: RouterFigures,
    shed: u64,
}

#[derive(Serialize)]
struct BusCheck {
    /// `redis`, or `none` on a single node.
    kind: &'static str,
    #[serde(flatten)]
    figures: BusFigures,
    behind: u64,
}

#[derive(Serialize)]
struct SessionsCheck {
    sessions: usize,
    users: usize,
    max: usize,
    #[serde(flatten)]
    figures: RoomFigures,
}

/// `GET /admin/health`: the report for operators; 503 if any part fails.
#[utoipa::path(
    get, path = "/admin/health", operation_id = "health", tag = "admin", security(("bearer" = [])),
    responses(
        (
            status = 200, description = "The service can take bids", body = Health,
            content_type = "application/health+json",
        ),
        (status = 503, description = "It can't", body = Health, content_type = "application/health+json"),
        problems::AdminReport,
    ),
)]
pub(super) async fn admin(request: HttpRequest, services: Data) -> Response {
    services.operator(&request).await?;
    let health = examine(&services, Probe::writing(&services.ledger)).await;
    let response = match health.status {
        Status::Fail => HttpResponse::ServiceUnavailable(),
        Status::Pass | Status::Warn => HttpResponse::Ok(),
    };
    Ok(json::json_as("application/health+json", response, &health))
}

/// Asks every part. The ledger is asked by this write.
async fn examine(services: &Services, probe: Probe) -> Health {
    let now = services.time.now();
    let (read, write, hub, clock, router, rooms) = futures_util::join!(
        timed(services.store.oldest_overdue(now)),
        // Inside `async`, so that the write is queued only once its time is measured.
        timed(async { services.ledger.write(probe, CHECK_TIMEOUT).await }),
        timed(services.hub.send(GetHubFigures)),
        timed(services.clock.send(GetClockFigures)),
        timed(services.router.send(GetRouterFigures)),
        timed(services.rooms.send(GetRoomFigures)),
    );
    let (hub, rooms) = (hub.map(|(figures, _)| figures), rooms.map(|(figures, _)| figures));
    let (overdue, ping_ms) = read.unzip();
    let checks = Checks {
        database: Check {
            status: Status::fail_unless(ping_ms.is_some()),
            figures: DatabaseCheck { engine: services.store.engine(), ping_ms },
        },
        ledger: ledger_check(services.ledger.figures(), write.map(|((), ping_ms)| ping_ms)),
        alarm_hub: Check { status: Status::fail_unless(hub.is_some()), figures: hub.unwrap_or_default() },
        auction_clock: clock_check(clock.map(|(figures, _)| figures), overdue.flatten(), now),
        bid_actors: Check {
            status: Status::fail_unless(router.is_some()),
            figures: BidActorsCheck {
                figures: router.map(|(figures, _)| figures).unwrap_or_default(),
                shed: services.ingress.stats().shed.get(),
            },
        },
        bus: bus_check(services.topology.bus().map(Bus::figures), hub.map_or(0, |hub| hub.behind)),
        sessions: sessions_check(hub, rooms, services.config.max_sessions),
    };
    let statuses = [
        checks.database.status,
        checks.ledger.status,
        checks.alarm_hub.status,
        checks.auction_clock.status,
        checks.bid_actors.status,
        checks.bus.status,
        checks.sessions.status,
    ];
    services.check_gauges.set(statuses.map(|status| status as u64));
    let draining = Status::fail_unless(!services.ingress.is_draining());
    let pid = std::process::id();
    Health {
        status: statuses.into_iter().fold(draining, Status::max),
        version: env!("CARGO_PKG_VERSION"),
        node: services
            .topology
            .bus()
            .map(Bus::node_id)
            .map_or_else(|| format!("pid-{pid}"), |node| format!("{node}-pid-{pid}")),
        uptime_s: now.ms_since(services.started_at) / 1000,
        time: now,
        checks,
    }
}

/// The result and how long it took in ms; `None` after an error or [`CHECK_TIMEOUT`].
async fn timed<T, E>(work: impl Future<Output = Result<T, E>>) -> Option<(T, f64)> {
    let started = Instant::now();
    let result = tokio::time::timeout(CHECK_TIMEOUT, work).await;
    result.ok().and_then(Result::ok).map(|value| (value, round(started.elapsed().as_secs_f64() * 1e3)))
}

/// Rounds to three decimals.
fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

#[allow(clippy::cast_precision_loss)] // Microseconds of one commit are far below 2^52.
fn ledger_check(figures: LedgerFigures, ping_ms: Option<f64>) -> Check<LedgerCheck> {
    let last_commit_ms = round(figures.last_commit_us as f64 / 1e3);
    Check { status: Status::fail_unless(ping_ms.is_some()), figures: LedgerCheck { ping_ms, last_commit_ms, figures } }
}

fn clock_check(figures: Option<ClockFigures>, oldest_overdue: Option<Timestamp>, now: Timestamp) -> Check<ClockCheck> {
    let is_late = oldest_overdue.is_some_and(|at| now.ms_since(at) > OVERDUE_WARNING_MS);
    let status = Status::fail_unless(figures.is_some()).max(Status::warn_if(is_late));
    let ClockFigures { last_tick, last_lag_ms: lag_ms, agenda, under_way } = figures.unwrap_or_default();
    Check { status, figures: ClockCheck { last_tick, lag_ms, oldest_overdue, agenda, under_way } }
}

/// No figures: there is no bus. A bus that is down is only a warning: the node goes on, and other nodes read its events
/// from the store, later.
fn bus_check(figures: Option<BusFigures>, behind: u64) -> Check<BusCheck> {
    let kind = if figures.is_some() { "redis" } else { "none" };
    let status = Status::warn_if(figures.is_some_and(|figures| !figures.is_up));
    Check { status, figures: BusCheck { kind, figures: figures.unwrap_or_default(), behind } }
}

fn sessions_check(hub: Option<HubFigures>, rooms: Option<RoomFigures>, max: usize) -> Check<SessionsCheck> {
    let (status, figures) = (Status::fail_unless(rooms.is_some()), rooms.unwrap_or_default());
    // The hub does not know visitors; without its answer the counts are 0.
    let (sessions, users) = hub.map_or((0, 0), |hub| (hub.sessions + figures.visitors, hub.users));
    let status = status.max(Status::warn_if(sessions >= max));
    Check { status, figures: SessionsCheck { sessions, users, max, figures } }
}
