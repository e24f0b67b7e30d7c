//! One node: everything wired, listening, and ended in order.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_cors::Cors;
use actix_web::{
    App, HttpServer,
    dev::ServerHandle,
    http::{Method, header},
    middleware::{Condition, DefaultHeaders, NormalizePath},
    web,
};
use tokio::runtime::Handle;

use super::{Settings, SettingsError, adoption, housekeeping::Housekeeping, watch::Watch};
use crate::{
    actors::{
        AlarmHub, ArrivalGate, AuctionClock, BidDesk, BidEntrance, CloseAll, JoinHub, JoinRooms, Missed, Rooms,
        ShardStats, UseLedger, attach_worker,
    },
    bus::{Bus, BusError},
    http::{self, Keys, LocalShard, RateLimits, Readiness, Services, UserDirectory},
    store::{LedgerThread, Nodes, Observer, Store, StoreError},
    time_source::TimeSource,
};

/// How long bids that are being answered may take when the node ends.
const DRAIN: Duration = Duration::from_secs(4);
/// How long the ledger's queue may take to be written at the end.
const WRITE_OUT: Duration = Duration::from_millis(2500);
/// How long connections may take to close after that, in seconds.
const CLOSE_S: u64 = 3;
/// Sessions come back within this time, each at a moment of its own.
const RETRY_SPREAD_MS: u64 = 5000;
/// Connections that may wait to be accepted: everybody comes back at once after a restart.
const BACKLOG: i32 = 2048;
/// How often rates of who has been quiet are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// What the kernel may hold for one client that doesn't read: the default would be megabytes.
const SEND_BUFFER: usize = 64 * 1024;
/// What waits for one connection between a body and the kernel.
const WRITE_BUFFER: usize = 16 * 1024;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting can't be taken.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// The database can't be opened.
    #[error("database.url: {0}")]
    Store(#[from] StoreError),
    /// The bus can't be used.
    #[error("bus.url: {0}")]
    Bus(#[from] BusError),
    /// The address can't be bound.
    #[error("server.bind: {0}")]
    Bind(#[from] io::Error),
}

/// A node that is listening.
pub struct Node {
    /// Where.
    pub addresses: Vec<SocketAddr>,
    services: web::Data<Services>,
    server: ServerHandle,
    ledger: LedgerThread,
    stopped: actix_web::rt::task::JoinHandle<io::Result<()>>,
}

/// Settings that `serve` has checked, turned into a running node. Must be called inside an actix system.
impl Node {
    /// Opens the database, starts the actors and listens.
    ///
    /// # Errors
    /// [`StartError`], in one line for the operator.
    pub fn start(settings: &Settings, time: Arc<dyn TimeSource>) -> Result<Self, StartError> {
        settings.check()?;
        settings.check_serve()?;
        let config = settings.http()?;
        let previous = settings.auth.jwt_secret_previous.as_ref().map(|secret| secret.reveal());
        let keys = Keys::new(settings.jwt_secret()?, previous);
        let bus_url = settings.bus()?;
        let nodes = if bus_url.is_some() { Nodes::Several } else { Nodes::One };
        let opened = Store::open_for(nodes, &settings.database()?, settings.database.pool)?;
        let store = opened.store.clone();
        // Before any actor is started: one that is dropped again with the runtime that should have run it panics.
        let listeners = bind(&settings.bind()?)?;

        let sessions = Arc::new(ShardStats::default());
        let users = Arc::new(UserDirectory::default());
        let gate = Arc::new(ArrivalGate::default());
        let missed = Arc::new(AtomicBool::new(false));
        let hub =
            AlarmHub::open(config.locale, settings.session.max_per_user, Arc::clone(&sessions), Arc::clone(&missed));
        let missed_rooms = Arc::new(Missed::default());
        let rooms = Rooms::open(
            config.draft.time_zone,
            Arc::clone(&time),
            Arc::clone(&sessions),
            Arc::clone(&missed_rooms),
            settings.session.max_pending_bytes,
        );
        let clock_address = Arc::new(OnceLock::new());
        let desk_address = Arc::new(OnceLock::new());
        let watch = Watch {
            hub: hub.clone(),
            missed,
            rooms: rooms.clone(),
            missed_rooms,
            clock: Arc::clone(&clock_address),
            desk: Arc::clone(&desk_address),
            users: Arc::clone(&users),
            several: bus_url.is_some().then(|| (store.clone(), Handle::current())),
        };
        let bus = match bus_url {
            Some(url) => {
                let ears = watch.clone();
                let bus = Bus::open(&url, store.service_id()?, Box::new(move |heard| ears.heard(heard)))?;
                hub.do_send(JoinHub { bus: bus.clone(), store: store.clone() });
                rooms.do_send(JoinRooms { bus: bus.clone(), store: store.clone() });
                bus
            }
            None => Bus::off(),
        };
        let observer: Observer = {
            let bus = bus.clone();
            Box::new(move |all| watch.committed(all, &bus))
        };
        let ledger_thread = opened.start_ledger(settings.ledger_rules(), Arc::clone(&time), observer)?;
        let ledger = ledger_thread.ledger();
        hub.do_send(UseLedger(ledger.clone()));
        let desk = BidDesk::open(nodes, ledger.clone());
        let _ = desk_address.set(desk.clone());
        let entrance = BidEntrance::new(desk.clone(), Arc::clone(&gate), Arc::clone(&time));
        let clock = AuctionClock::new(store.clone(), ledger.clone(), desk.clone(), gate, Arc::clone(&time));
        let clock = clock.beside(bus.clone(), settings.auction.close_grace_ms).start();
        // Nothing is committed before the server listens but what the clock itself begins.
        let _ = clock_address.set(clock.clone());

        let services = web::Data::new(Services {
            started_at: time.now(),
            readiness: Readiness::default(),
            keys,
            users,
            rates: RateLimits::new(&settings.rates()),
            store,
            ledger,
            desk,
            hub: hub.clone(),
            clock,
            entrance,
            rooms: rooms.clone(),
            sessions: Arc::clone(&sessions),
            bus: bus.clone(),
            time,
            config,
        });
        let (server, addresses) = listen(settings, listeners, &services, hub, rooms, sessions)?;
        let handle = server.handle();
        let stopped = actix_web::rt::spawn(server);
        actix_web::rt::spawn(forget_quiet(services.clone()));
        let housekeeping = Housekeeping {
            store: services.store.clone(),
            ledger: services.ledger.clone(),
            time: Arc::clone(&services.time),
            keep_days: settings.alarms.keep_days,
        };
        actix_web::rt::spawn(housekeeping.keep_house());
        if bus.is_on() {
            actix_web::rt::spawn(adoption::adopt(services.store.clone(), services.ledger.clone()));
        }
        Ok(Self { addresses, services, server: handle, ledger: ledger_thread, stopped })
    }

    /// Ends in order, within 10 s: no new bids, answered ones finished, sockets told when to come back, the queue of
    /// the ledger written.
    pub async fn stop(self) {
        self.services.entrance.drain();
        let deadline = Instant::now() + DRAIN;
        while self.services.entrance.in_flight() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Answered when the shards have been told.
        let _ = self.services.hub.send(CloseAll { spread_ms: RETRY_SPREAD_MS }).await;
        self.server.stop(true).await;
        if let Ok(Err(error)) = self.stopped.await {
            log::error!("the server ended with an error: {error}");
        }
        let (ledger, (tell, told)) = (self.ledger, tokio::sync::oneshot::channel());
        // On a thread that nobody waits for at the end: a database that is silent must not keep the process.
        std::thread::spawn(move || {
            ledger.stop();
            let _ = tell.send(());
        });
        if tokio::time::timeout(WRITE_OUT, told).await.is_err() {
            log::error!("the ledger does not come to an end; what it held was not answered as stored");
        }
        // Behind everything that was committed.
        self.services.bus.stop().await;
    }

    /// Resolves if a part that there is only one of ends by itself, which it should not: whoever watches over the
    /// process starts it anew, which is safe at any moment, and better than a node that takes no bids.
    pub async fn failed(&mut self) {
        let services = self.services.clone();
        let ledger = &self.ledger;
        let missing = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let parts = [
                    ("bid desk", services.desk.connected()),
                    ("alarm hub", services.hub.connected()),
                    ("rooms", services.rooms.connected()),
                    ("auction clock", services.clock.connected()),
                    ("ledger", ledger.is_running()),
                ];
                if let Some((part, _)) = parts.iter().find(|(_, lives)| !lives) {
                    break *part;
                }
            }
        };
        tokio::select! {
            part = missing => log::error!("the {part} has died"),
            ended = &mut self.stopped => match ended {
                Ok(Ok(())) | Err(_) => log::error!("the server has ended"),
                Ok(Err(error)) => log::error!("the server has ended: {error}"),
            },
        }
    }
}

/// Takes the addresses; of a name with several, those that can be had.
fn bind(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let take = |address: &SocketAddr| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(*address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&(*address).into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    let (taken, refused): (Vec<_>, Vec<_>) = addresses.iter().map(take).partition(Result::is_ok);
    match refused.into_iter().next() {
        Some(Err(error)) if taken.is_empty() => Err(error),
        _ => Ok(taken.into_iter().flatten().collect()),
    }
}

fn listen(
    settings: &Settings,
    listeners: Vec<TcpListener>,
    services: &web::Data<Services>,
    hub: Addr<AlarmHub>,
    rooms: Addr<Rooms>,
    stats: Arc<ShardStats>,
) -> Result<(actix_web::dev::Server, Vec<SocketAddr>), StartError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = settings.server.workers.unwrap_or(cores);
    let origins = services.config.allowed_origins.clone();
    let services = services.clone();
    let shards = Arc::new(AtomicUsize::new(0));
    let slow_after_s = u32::try_from(settings.session.timeout_s).unwrap_or(u32::MAX);
    let dead_after = Duration::from_secs(settings.session.timeout_s);
    let mut server = HttpServer::new(move || {
        // Each worker has its own shard of the hub, on its own thread.
        let index = shards.fetch_add(1, Ordering::Relaxed);
        let shard = attach_worker(index, slow_after_s, &hub, &rooms, Arc::clone(&stats));
        let shard = web::Data::new(LocalShard(shard));
        App::new()
            .app_data(services.clone())
            .app_data(shard)
            .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
            .wrap(NormalizePath::trim())
            .wrap(DefaultHeaders::new().add((header::X_CONTENT_TYPE_OPTIONS, "nosniff")))
            .configure(http::routes)
    })
    .workers(workers)
    .disable_signals()
    .h1_write_buffer_size(WRITE_BUFFER)
    .shutdown_timeout(CLOSE_S)
    .on_connect(move |connection, _| {
        if let Some(tcp) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() {
            set_up_socket(tcp, dead_after);
        }
    });
    for listener in listeners {
        server = server.listen(listener)?;
    }
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

/// A close frame can't pass a full window, and nothing else times a write out: the kernel ends a socket whose peer
/// takes nothing for so long. Failing to set this up costs a slow end of dead sockets, not the connection.
fn set_up_socket(tcp: &actix_web::rt::net::TcpStream, dead_after: Duration) {
    let descriptor = tcp.as_fd();
    let socket = socket2::SockRef::from(&descriptor);
    let done = socket
        .set_tcp_user_timeout(Some(dead_after))
        .and_then(|()| socket.set_send_buffer_size(SEND_BUFFER))
        .and_then(|()| socket.set_tcp_nodelay(true));
    if let Err(error) = done {
        log::debug!("a socket could not be set up: {error}");
    }
}

/// Pages of the marketplace call from their own origin.
fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .allowed_header("idempotency-key")
        .allowed_header("last-event-id")
        .expose_headers([header::RETRY_AFTER])
        .expose_headers(["idempotent-replayed"])
        .max_age(3600);
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

async fn forget_quiet(services: web::Data<Services>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        services.rates.forget_quiet();
    }
}
