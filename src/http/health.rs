//! Health endpoints: `/health/live` (the process runs), `/health/ready` (the node can take bids) and `/admin/health` (a
//! report for operators).
//!
//! The fields of the report are its JSON keys; `docs/operating.md#what-to-watch` says what each figure means.

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::{ApiError, Services, json};
use crate::{
    actors::{
        ClockFigures, GetClockFigures, GetHubFigures, GetRoomFigures, GetRouterFigures, HubFigures, RoomFigures,
        RouterFigures,
    },
    bus::BusFigures,
    domain::Timestamp,
    store::{LedgerFigures, writes::Probe},
};

/// A part that does not answer within this time has failed.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1000);
/// An auction that is overdue for longer than this makes the clock's status a warning.
const OVERDUE_WARNING_MS: i64 = 2000;

/// A status of the health check format for HTTP APIs (draft-inadarei-api-health-check), from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

#[derive(Serialize)]
struct StatusBody {
    status: Status,
}

/// `GET /health/live`: the process runs.
pub(super) async fn live() -> HttpResponse {
    json::ok(&StatusBody { status: Status::Pass })
}

/// `GET /health/ready`: the node can take bids and does not shut down.
pub(super) async fn ready(services: web::Data<Services>) -> HttpResponse {
    if services.readiness.check(|| can_take_bids(&services)).await && !services.ingress.is_draining() {
        json::ok(&StatusBody { status: Status::Pass })
    } else {
        json::json(HttpResponse::ServiceUnavailable(), &StatusBody { status: Status::Fail })
    }
}

/// Whether the database can be read, the ledger commits and the actors run.
async fn can_take_bids(services: &Services) -> bool {
    let (read, write) = futures_util::join!(
        services.store.oldest_overdue(services.time.now()),
        services.ledger.write(Probe::of(&services.ledger), CHECK_TIMEOUT)
    );
    let actors = services.router.connected() && services.hub.connected() && services.clock.connected();
    read.is_ok() && write.is_ok() && actors && services.rooms.connected()
}

#[derive(Serialize)]
struct Health {
    status: Status,
    version: &'static str,
    node: String,
    uptime_s: i64,
    time: Timestamp,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    database: DatabaseCheck,
    ledger: LedgerCheck,
    alarm_hub: HubCheck,
    auction_clock: ClockCheck,
    bid_actors: BidActorsCheck,
    bus: BusCheck,
    sessions: SessionsCheck,
}

#[derive(Serialize)]
struct DatabaseCheck {
    status: Status,
    engine: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ping_ms: Option<f64>,
}

#[derive(Serialize)]
struct LedgerCheck {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    ping_ms: Option<f64>,
    last_commit_ms: f64,
    queue: usize,
    overflows: u64,
    expired: u64,
    commits: u64,
    failures: u64,
    entries: u64,
    largest_batch: usize,
    open_fanouts: usize,
}

#[derive(Serialize)]
struct HubCheck {
    status: Status,
    undelivered: usize,
    delivered: u64,
    outbox_overflows: u64,
    slow_clients: u64,
    untold: u64,
    resyncs: u64,
    evicted: u64,
}

#[derive(Serialize)]
struct ClockCheck {
    status: Status,
    last_tick: Option<Timestamp>,
    lag_ms: i64,
    oldest_overdue: Option<Timestamp>,
    agenda: usize,
    under_way: usize,
}

#[derive(Serialize)]
struct BidActorsCheck {
    status: Status,
    live: usize,
    replaced: u64,
    turned_away: u64,
    shed: u64,
}

#[derive(Serialize)]
struct BusCheck {
    status: Status,
    /// `redis`, or `none` on a single node.
    kind: &'static str,
    others: usize,
    channels: usize,
    told: u64,
    heard: u64,
    untold: u64,
    garbled: u64,
    uncounted: u64,
    connections_lost: u64,
    behind: u64,
}

#[derive(Serialize)]
struct SessionsCheck {
    status: Status,
    sessions: usize,
    users: usize,
    max: usize,
    rooms: usize,
    in_rooms: usize,
    room_frames: u64,
    closed_for_missing: u64,
}

/// `GET /admin/health`: the report for operators; 503 if any part fails.
pub(super) async fn admin(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    services.operator(&request).await?;
    let health = examine(&services).await;
    let response = match health.status {
        Status::Fail => HttpResponse::ServiceUnavailable(),
        Status::Pass | Status::Warn => HttpResponse::Ok(),
    };
    Ok(json::json_as("application/health+json", response, &health))
}

async fn examine(services: &Services) -> Health {
    let now = services.time.now();
    let (read, write, hub, clock, router, rooms) = futures_util::join!(
        timed(services.store.oldest_overdue(now)),
        // Inside `async`, so that the write is queued only once its time is measured.
        timed(async { services.ledger.write(Probe::writing(&services.ledger), CHECK_TIMEOUT).await }),
        timed(services.hub.send(GetHubFigures)),
        timed(services.clock.send(GetClockFigures)),
        timed(services.router.send(GetRouterFigures)),
        timed(services.rooms.send(GetRoomFigures)),
    );
    let hub = hub.map(|(figures, _)| figures);
    let rooms = rooms.map(|(figures, _)| figures);
    let checks = Checks {
        database: DatabaseCheck {
            status: Status::fail_unless(read.is_some()),
            engine: services.store.engine(),
            ping_ms: read.map(|(_, ping_ms)| ping_ms),
        },
        ledger: ledger_check(&services.ledger.figures(), write.map(|((), ping_ms)| ping_ms)),
        alarm_hub: hub_check(hub),
        auction_clock: clock_check(clock.map(|(figures, _)| figures), read.and_then(|(overdue, _)| overdue), now),
        bid_actors: bid_actors_check(router.map(|(figures, _)| figures), services.ingress.shed()),
        bus: bus_check(services.bus.figures(), hub.map_or(0, |hub| hub.behind)),
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
        Status::fail_unless(!services.ingress.is_draining()),
    ];
    Health {
        status: statuses.into_iter().max().unwrap_or(Status::Fail),
        version: env!("CARGO_PKG_VERSION"),
        node: match services.bus.node_id() {
            Some(node) => format!("{node}-pid-{}", std::process::id()),
            None => format!("pid-{}", std::process::id()),
        },
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
fn ledger_check(figures: &LedgerFigures, ping_ms: Option<f64>) -> LedgerCheck {
    LedgerCheck {
        status: Status::fail_unless(ping_ms.is_some()),
        ping_ms,
        last_commit_ms: round(figures.last_commit_us as f64 / 1e3),
        queue: figures.queued,
        overflows: figures.overflows,
        expired: figures.expired,
        commits: figures.commits,
        failures: figures.failures,
        entries: figures.entries,
        largest_batch: figures.largest_batch,
        open_fanouts: figures.open_fanouts,
    }
}

fn hub_check(figures: Option<HubFigures>) -> HubCheck {
    HubCheck {
        status: Status::fail_unless(figures.is_some()),
        undelivered: figures.map_or(0, |hub| hub.undelivered),
        delivered: figures.map_or(0, |hub| hub.delivered),
        slow_clients: figures.map_or(0, |hub| hub.slow_clients),
        outbox_overflows: figures.map_or(0, |hub| hub.outbox_overflows),
        untold: figures.map_or(0, |hub| hub.untold),
        resyncs: figures.map_or(0, |hub| hub.resyncs),
        evicted: figures.map_or(0, |hub| hub.evicted),
    }
}

fn clock_check(figures: Option<ClockFigures>, oldest_overdue: Option<Timestamp>, now: Timestamp) -> ClockCheck {
    let is_late = oldest_overdue.is_some_and(|at| now.ms_since(at) > OVERDUE_WARNING_MS);
    ClockCheck {
        status: Status::fail_unless(figures.is_some()).max(Status::warn_if(is_late)),
        last_tick: figures.and_then(|clock| clock.last_tick),
        lag_ms: figures.map_or(0, |clock| clock.last_lag_ms),
        oldest_overdue,
        agenda: figures.map_or(0, |clock| clock.agenda),
        under_way: figures.map_or(0, |clock| clock.under_way),
    }
}

fn bid_actors_check(figures: Option<RouterFigures>, shed: u64) -> BidActorsCheck {
    BidActorsCheck {
        status: Status::fail_unless(figures.is_some()),
        live: figures.map_or(0, |router| router.live),
        replaced: figures.map_or(0, |router| router.replaced),
        turned_away: figures.map_or(0, |router| router.turned_away),
        shed,
    }
}

/// No figures: there is no bus. A bus that is down is only a warning: the node goes on, and other nodes read its events
/// from the store, later.
fn bus_check(figures: Option<BusFigures>, behind: u64) -> BusCheck {
    let (kind, figures) = match figures {
        Some(figures) => ("redis", figures),
        None => ("none", BusFigures { is_up: true, ..BusFigures::default() }),
    };
    BusCheck {
        status: Status::warn_if(!figures.is_up),
        kind,
        others: figures.others,
        channels: figures.channels,
        told: figures.sent,
        heard: figures.received,
        untold: figures.dropped,
        garbled: figures.unreadable,
        uncounted: figures.uncounted,
        connections_lost: figures.connections_lost,
        behind,
    }
}

fn sessions_check(hub: Option<HubFigures>, rooms: Option<RoomFigures>, max: usize) -> SessionsCheck {
    // The hub does not know visitors; without its answer the counts are 0.
    let visitors = rooms.map_or(0, |rooms| rooms.visitors);
    let (sessions, users) = hub.map_or((0, 0), |hub| (hub.sessions + visitors, hub.users));
    SessionsCheck {
        status: Status::fail_unless(rooms.is_some()).max(Status::warn_if(sessions >= max)),
        sessions,
        users,
        max,
        rooms: rooms.map_or(0, |rooms| rooms.rooms),
        in_rooms: rooms.map_or(0, |rooms| rooms.sockets),
        room_frames: rooms.map_or(0, |rooms| rooms.frames),
        closed_for_missing: rooms.map_or(0, |rooms| rooms.closed_for_missing),
    }
}
