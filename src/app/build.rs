//! Builds a node: makes its parts, each with all that it needs, and then starts its threads and its server.

use std::{io, net::SocketAddr, sync::Arc};

use actix::prelude::*;
use actix_web::{dev::ServerHandle, web};
use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::{
    Settings, SettingsError,
    commit_counts::CommitCounts,
    commit_dispatcher::CommitDispatcher,
    jobs, logging, open_files, process_stats, restart_time,
    server::{bind, serve},
};
use crate::{
    actors::{
        AlarmHub, ArrivalGate, AuctionClock, BidIngress, BidRouter, BidStats, ClockStats, CommittedGoods, LocaleSource,
        Rooms, ShardStats,
    },
    bus::{Bus, BusThread, Topology},
    http::{CheckGauges, LiveConfig, OpenConnections, Readiness, Services, UserDirectory},
    metrics::{Metrics, ReadGauge},
    store::{LedgerThread, OpenedStore, Sharing, Store, StoreError},
    time_source::TimeSource,
};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or has a value that is not allowed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database can't be opened.
    #[error("database.url: {0}")]
    Store(#[from] StoreError),
    /// The bus's thread can't be started.
    #[error("bus.url: {0}")]
    Bus(#[source] io::Error),
    /// The address can't be bound.
    #[error("server.bind: {0}")]
    Bind(#[from] io::Error),
}

/// A node that is listening.
pub struct Node {
    pub addresses: Vec<SocketAddr>,
    pub(super) settings: Settings,
    pub(super) services: web::Data<Services>,
    pub(super) connections: OpenConnections,
    pub(super) server: ServerHandle,
    pub(super) ledger: LedgerThread,
    pub(super) bus: Option<BusThread>,
    /// The shortest time after which sockets reconnect when this node stops.
    pub(super) retry_from_ms: u64,
    /// Ends when the server has ended.
    pub(super) server_task: actix_web::rt::task::JoinHandle<io::Result<()>>,
}

impl Node {
    /// Opens the database, starts the actors and listens. Must be called inside an actix system.
    ///
    /// # Errors
    /// [`StartError`], in one line for the operator.
    pub fn start(settings: &Settings, time: Arc<dyn TimeSource>) -> Result<Self, StartError> {
        settings.check()?;
        settings.check_serve()?;
        let live = Arc::new(ArcSwap::from_pointee(settings.live(settings.auth.read_keys()?, None)?));
        let bus_url = settings.bus()?;
        let sharing = if bus_url.is_some() { Sharing::Shared } else { Sharing::Exclusive };
        let opened = Store::open_for(sharing, &settings.database()?, settings.database.pool)?;
        let (topology, bus_link) = match bus_url {
            Some(url) => {
                let (bus, link) = Bus::new(&url, opened.store.service_id()?);
                (Topology::Cluster(bus), Some(link))
            }
            None => (Topology::Single, None),
        };
        // This may fail, so it comes before any actor: an actor that is dropped with its runtime before it has run
        // panics.
        let listeners = bind(&settings.bind()?)?;

        let connections = OpenConnections::new(open_files::connection_limits(settings)?);
        let (services, dispatcher) = build_actors(settings, (live, &connections), &opened, topology, time)?;
        let bus = bus_link.map(|link| link.start(Box::new(dispatcher.clone()))).transpose().map_err(StartError::Bus)?;
        let soft_close_ms = settings.auction.soft_close_s * 1000;
        let ledger = opened.start_ledger(soft_close_ms, Arc::clone(&services.time), Box::new(dispatcher))?;

        let (server, addresses) = serve(settings, listeners, &services, &connections)?;
        let retry_from_ms = restart_time::retry_from_ms(&services)?;
        let handle = server.handle();
        let server_task = actix_web::rt::spawn(server);
        jobs::start(&services, settings.alarms.keep_days);
        let settings = settings.clone();
        Ok(Self { addresses, settings, services, connections, server: handle, ledger, bus, retry_from_ms, server_task })
    }
}

/// Makes the actors and all that handlers use, and the dispatcher that passes commits on to them. Nothing of it runs
/// before the caller awaits something.
fn build_actors(
    settings: &Settings,
    (live, connections): (Arc<ArcSwap<LiveConfig>>, &OpenConnections),
    opened: &OpenedStore,
    topology: Topology,
    time: Arc<dyn TimeSource>,
) -> Result<(web::Data<Services>, CommitDispatcher), SettingsError> {
    let config = settings.http()?;
    let (store, ledger) = (opened.store.clone(), opened.ledger.clone());
    let sessions = Arc::new(ShardStats::default());
    let locale: LocaleSource = {
        let live = Arc::clone(&live);
        Box::new(move || live.load().locale)
    };
    let hub_overflow = Arc::default();
    let hub = AlarmHub::open(
        locale,
        settings.session.max_per_user,
        Arc::clone(&sessions),
        Arc::clone(&hub_overflow),
        ledger.clone(),
        (store.clone(), &topology),
    );
    let room_overflow = Arc::default();
    let rooms = Rooms::open(
        config.draft.time_zone,
        Arc::clone(&time),
        Arc::clone(&sessions),
        Arc::clone(&room_overflow),
        settings.session.max_pending_bytes,
        (store.clone(), &topology),
    );
    let (gate, committed) = (Arc::new(ArrivalGate::default()), Arc::new(CommittedGoods::new(topology.sharing())));
    let bid_stats = BidStats::default();
    let router = BidRouter::open_counted(ledger.clone(), Arc::clone(&committed), bid_stats.clone());
    let ingress = BidIngress::new(
        router.clone(),
        Arc::clone(&committed),
        ledger.clone(),
        Arc::clone(&gate),
        Arc::clone(&time),
        bid_stats,
    );
    let in_cluster = (topology.clone(), settings.auction.close_grace_ms);
    let clock = AuctionClock::new(store.clone(), ledger.clone(), router.clone(), gate, Arc::clone(&time), in_cluster);
    let clock_stats = clock.stats();
    let clock = clock.start();
    let dispatcher = CommitDispatcher {
        hub: hub.clone(),
        hub_overflow,
        rooms: rooms.clone(),
        room_overflow,
        clock: clock.clone(),
        router: router.clone(),
        committed,
        users: Arc::new(UserDirectory::new(topology.sharing())),
        topology: topology.clone(),
        counts: CommitCounts::default(),
        store: store.clone(),
        runtime: Handle::current(),
    };
    let mut services = Services {
        started_at: time.now(),
        readiness: Readiness::default(),
        check_gauges: CheckGauges::default(),
        requests: Arc::default(),
        metrics: Metrics::default(),
        users: Arc::clone(&dispatcher.users),
        live,
        store,
        ledger,
        router,
        hub,
        clock,
        ingress,
        rooms,
        sessions,
        topology,
        time,
        config,
    };
    services.metrics = all_metrics(&services, &dispatcher.counts, &clock_stats, connections);
    Ok((web::Data::new(services), dispatcher))
}

/// What `/metrics` shows: the counters of every part.
fn all_metrics(
    services: &Services,
    commits: &CommitCounts,
    clock: &ClockStats,
    connections: &OpenConnections,
) -> Metrics {
    let mut metrics = Metrics::default();
    process_stats::register(metrics.of_process());
    let to = metrics.of_service();
    services.ingress.stats().register(to);
    services.store.register(to);
    services.ledger.register(to);
    clock.register(to);
    commits.register(to);
    services.sessions.register(to);
    services.requests.register(to);
    connections.register(to);
    logging::register(to);
    services.topology.register(to);
    services.check_gauges.register(to);
    let max = services.config.max_sessions;
    to.register("sessions_limit", "session.max", ReadGauge::new(move || max));
    metrics
}
