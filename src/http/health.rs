//! Health: whether the process runs, whether it can take bids, and for the operator how it does.

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::{ApiError, Services, json};
use crate::{
    actors::{GetClockFigures, GetHubFigures, GetRoomFigures, GetRouterFigures},
    bus::BusFigures,
    domain::Timestamp,
    store::{LedgerFigures, writes::Probe},
};

/// How long a part may take to answer before it counts as failed.
const PATIENCE: Duration = Duration::from_millis(1000);
/// An overdue auction is a warning after so long: the clock is late.
const LATE_MS: i64 = 2000;

/// RFC draft-inadarei-api-health-check's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Pass,
    Warn,
    Fail,
}

#[derive(Serialize)]
struct Brief {
    status: Status,
}

/// The process runs.
pub(super) async fn live() -> HttpResponse {
    json::ok(&Brief { status: Status::Pass })
}

/// The database is read, the ledger commits, the actors are there.
async fn can_take_bids(services: &Services) -> bool {
    let (read, write) = futures_util::join!(
        services.store.oldest_overdue(services.time.now()),
        services.ledger.write(Probe::of(&services.ledger), PATIENCE)
    );
    let actors = services.desk.connected() && services.hub.connected() && services.clock.connected();
    read.is_ok() && write.is_ok() && actors && services.rooms.connected()
}

/// The node can take bids: the database is read, the ledger commits, the actors are there.
pub(super) async fn ready(services: web::Data<Services>) -> HttpResponse {
    if services.readiness.look(|| can_take_bids(&services)).await && !services.entrance.is_draining() {
        json::ok(&Brief { status: Status::Pass })
    } else {
        json::json(HttpResponse::ServiceUnavailable(), &Brief { status: Status::Fail })
    }
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
    database: Database,
    ledger: LedgerCheck,
    alarm_hub: HubCheck,
    auction_clock: ClockCheck,
    bid_actors: BidActors,
    bus: Bus,
    sessions: Sessions,
}

#[derive(Serialize)]
struct Database {
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
struct BidActors {
    status: Status,
    live: usize,
    replaced: u64,
    turned_away: u64,
    /// Bids refused at once because too many waited.
    shed: u64,
}

#[derive(Serialize)]
struct Bus {
    status: Status,
    /// `none`, or how nodes tell each other.
    kind: &'static str,
    /// Other nodes that live.
    others: usize,
    channels: usize,
    told: u64,
    heard: u64,
    untold: u64,
    garbled: u64,
    /// Sockets let in that could not be counted.
    uncounted: u64,
    connections_lost: u64,
    /// Sessions that found out by themselves what they had not been told.
    behind: u64,
}

#[derive(Serialize)]
struct Sessions {
    status: Status,
    sessions: usize,
    users: usize,
    max: usize,
    /// Auction rooms and trade chats that somebody is in, their sockets, and the frames handed to them.
    rooms: usize,
    in_rooms: usize,
    room_frames: u64,
    /// Sockets closed because their room missed something when a mailbox was full.
    closed_for_missing: u64,
}

/// Everything that the operator wants to know at night.
pub(super) async fn admin(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    services.operator(&request).await?;
    let health = examine(&services).await;
    let response = match health.status {
        Status::Fail => HttpResponse::ServiceUnavailable(),
        Status::Pass | Status::Warn => HttpResponse::Ok(),
    };
    Ok(json::json_as("application/health+json", response, &health))
}

fn ms(since: Instant) -> f64 {
    round(since.elapsed().as_secs_f64() * 1e3)
}

fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

async fn timed<T, E>(work: impl Future<Output = Result<T, E>>) -> Option<(T, f64)> {
    let begun = Instant::now();
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.ok().and_then(Result::ok).map(|done| (done, ms(begun)))
}

async fn examine(services: &Services) -> Health {
    let now = services.time.now();
    let (read, write, hub, clock, desk, rooms) = futures_util::join!(
        timed(services.store.oldest_overdue(now)),
        // Handed in only when its time begins.
        timed(async { services.ledger.write(Probe::writing(&services.ledger), PATIENCE).await }),
        timed(services.hub.send(GetHubFigures)),
        timed(services.clock.send(GetClockFigures)),
        timed(services.desk.send(GetRouterFigures)),
        timed(services.rooms.send(GetRoomFigures)),
    );
    let or_fail = |found: bool| if found { Status::Pass } else { Status::Fail };
    let figures = services.ledger.figures();
    let hub = hub.map(|(figures, _)| figures);
    let clock = clock.map(|(figures, _)| figures);
    let desk = desk.map(|(figures, _)| figures);
    let rooms = rooms.map(|(figures, _)| figures);
    let visitors = rooms.map_or(0, |rooms| rooms.visitors);
    let (sessions, users) = hub.map_or((0, 0), |hub| (hub.sessions + visitors, hub.users));
    let checks = Checks {
        database: Database {
            status: or_fail(read.is_some()),
            engine: services.store.engine(),
            ping_ms: read.as_ref().map(|(_, ms)| *ms),
        },
        ledger: ledger_check(&figures, write.map(|((), ms)| ms)),
        alarm_hub: HubCheck {
            status: or_fail(hub.is_some()),
            undelivered: hub.map_or(0, |hub| hub.undelivered),
            delivered: hub.map_or(0, |hub| hub.delivered),
            slow_clients: hub.map_or(0, |hub| hub.slow_clients),
            outbox_overflows: hub.map_or(0, |hub| hub.outbox_overflows),
            untold: hub.map_or(0, |hub| hub.untold),
            resyncs: hub.map_or(0, |hub| hub.resyncs),
            evicted: hub.map_or(0, |hub| hub.evicted),
        },
        auction_clock: {
            let overdue = read.and_then(|(oldest, _)| oldest);
            let late = overdue.is_some_and(|at| now.ms_since(at) > LATE_MS);
            ClockCheck {
                status: or_fail(clock.is_some()).max(if late { Status::Warn } else { Status::Pass }),
                last_tick: clock.and_then(|clock| clock.last_tick),
                lag_ms: clock.map_or(0, |clock| clock.last_lag_ms),
                oldest_overdue: overdue,
                agenda: clock.map_or(0, |clock| clock.agenda),
                under_way: clock.map_or(0, |clock| clock.under_way),
            }
        },
        bid_actors: BidActors {
            status: or_fail(desk.is_some()),
            live: desk.map_or(0, |desk| desk.live),
            replaced: desk.map_or(0, |desk| desk.replaced),
            turned_away: desk.map_or(0, |desk| desk.turned_away),
            shed: services.entrance.shed(),
        },
        bus: bus_check(services, hub.map_or(0, |hub| hub.behind)),
        sessions: Sessions {
            status: or_fail(rooms.is_some()).max(if sessions >= services.config.max_sessions {
                Status::Warn
            } else {
                Status::Pass
            }),
            sessions,
            users,
            max: services.config.max_sessions,
            rooms: rooms.map_or(0, |rooms| rooms.rooms),
            in_rooms: rooms.map_or(0, |rooms| rooms.sockets),
            room_frames: rooms.map_or(0, |rooms| rooms.heard),
            closed_for_missing: rooms.map_or(0, |rooms| rooms.closed_for_missing),
        },
    };
    let parts = [
        checks.database.status,
        checks.ledger.status,
        checks.alarm_hub.status,
        checks.auction_clock.status,
        checks.bid_actors.status,
        checks.bus.status,
        checks.sessions.status,
        if services.entrance.is_draining() { Status::Fail } else { Status::Pass },
    ];
    Health {
        status: parts.into_iter().max().unwrap_or(Status::Fail),
        version: env!("CARGO_PKG_VERSION"),
        node: match services.bus.me() {
            Some(node) => format!("{node}-pid-{}", std::process::id()),
            None => format!("pid-{}", std::process::id()),
        },
        uptime_s: now.ms_since(services.started_at) / 1000,
        time: now,
        checks,
    }
}

/// Without its bus a node goes on; others hear later.
fn bus_check(services: &Services, behind: u64) -> Bus {
    let (kind, figures) = match services.bus.figures() {
        Some(figures) => ("redis", figures),
        None => ("none", BusFigures { is_up: true, ..BusFigures::default() }),
    };
    Bus {
        status: if figures.is_up { Status::Pass } else { Status::Warn },
        kind,
        others: figures.others,
        channels: figures.channels,
        told: figures.told,
        heard: figures.heard,
        untold: figures.untold,
        garbled: figures.garbled,
        uncounted: figures.uncounted,
        connections_lost: figures.lost,
        behind,
    }
}

#[allow(clippy::cast_precision_loss)] // Microseconds of one commit are far below 2^52.
fn ledger_check(figures: &LedgerFigures, ping_ms: Option<f64>) -> LedgerCheck {
    LedgerCheck {
        status: if ping_ms.is_some() { Status::Pass } else { Status::Fail },
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
