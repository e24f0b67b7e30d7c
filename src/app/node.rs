//! One node of the service: builds and wires its parts, starts them, watches over them, and stops them in order.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_web::{dev::ServerHandle, web};
use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::{
    Settings, SettingsChange, SettingsError,
    commit_dispatcher::CommitDispatcher,
    fanout_recovery,
    retention::Retention,
    server::{WorkerContext, bind, serve},
};
use crate::{
    actors::{
        AlarmHub, ArrivalGate, AuctionClock, BidIngress, BidRouter, CloseAll, CommittedGoods, FlushReceived, JoinHub,
        JoinRooms, LocaleSource, OverflowFlag, Rooms, ShardStats, UseLedger,
    },
    bus::{Bus, BusError, BusThread},
    http::{OpenSockets, Readiness, Services, UserDirectory},
    store::{
        LedgerThread, Observer, Store, StoreError, Topology,
        writes::{ClearStop, RecordStop},
    },
    time_source::TimeSource,
};

/// How long a stopping node waits for the bids that are under way.
const BIDS_TIMEOUT: Duration = Duration::from_secs(4);
/// How long it then waits for its sockets to close, which takes an answer of the client.
const SOCKETS_TIMEOUT: Duration = Duration::from_millis(1750);
/// How long it then waits until the received cursors of its users are on disk.
const CURSORS_TIMEOUT: Duration = Duration::from_millis(250);
/// How long it then waits for the writes in the ledger's queue.
const LEDGER_TIMEOUT: Duration = Duration::from_millis(2500);
/// Time between two polls while it waits for any of these.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Sessions reconnect no sooner than this after they are closed …
const MIN_RETRY_MS: u64 = 1000;
/// … and are spread over this time, so that they don't all reconnect at once.
const RETRY_SPREAD_MS: u64 = 5000;
/// A longer downtime was no restart: it says nothing about how long the next restart takes.
const MAX_RESTART_MS: i64 = 60_000;
/// How long recording the time of the stop may take.
const RECORD_STOP_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the record of the last stop may take to be cleared.
const CLEAR_STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two removals of idle rate limits.
const FORGET_IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Time between two probes of a database that fails.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two checks whether all parts of the node are alive.
const CHECK_PARTS_INTERVAL: Duration = Duration::from_secs(1);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or has a value that is not allowed.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// The database can't be opened.
    #[error("database.url: {0}")]
    Store(#[from] StoreError),
    /// The bus can't be started.
    #[error("bus.url: {0}")]
    Bus(#[from] BusError),
    /// The address can't be bound.
    #[error("server.bind: {0}")]
    Bind(#[from] io::Error),
}

/// A node that is listening.
pub struct Node {
    /// The addresses it listens on.
    pub addresses: Vec<SocketAddr>,
    /// The settings in force.
    settings: Settings,
    services: web::Data<Services>,
    sockets: OpenSockets,
    server: ServerHandle,
    ledger: LedgerThread,
    bus: Option<BusThread>,
    /// The shortest time after which sockets reconnect when this node stops.
    retry_from_ms: u64,
    /// Ends when the server has ended.
    server_task: actix_web::rt::task::JoinHandle<io::Result<()>>,
}

impl Node {
    /// Opens the database, starts the actors and listens. Must be called inside an actix system.
    ///
    /// # Errors
    /// [`StartError`], in one line for the operator.
    pub fn start(settings: &Settings, time: Arc<dyn TimeSource>) -> Result<Self, StartError> {
        settings.check()?;
        settings.check_serve()?;
        let config = settings.http()?;
        let live = Arc::new(ArcSwap::from_pointee(settings.live(None)?));
        let bus_url = settings.bus()?;
        let topology = if bus_url.is_some() { Topology::Cluster } else { Topology::Single };
        let opened = Store::open_for(topology, &settings.database()?, settings.database.pool)?;
        let store = opened.store.clone();
        // This may fail, so it comes before any actor: an actor that is dropped with its runtime before it has run
        // panics.
        let listeners = bind(&settings.bind()?)?;

        let sessions = Arc::new(ShardStats::default());
        let users = Arc::new(UserDirectory::new(topology));
        let gate = Arc::new(ArrivalGate::default());
        let hub_overflow = Arc::new(AtomicBool::new(false));
        let locale: LocaleSource = {
            let live = Arc::clone(&live);
            Box::new(move || live.load().locale)
        };
        let hub =
            AlarmHub::open(locale, settings.session.max_per_user, Arc::clone(&sessions), Arc::clone(&hub_overflow));
        let room_overflow = Arc::new(OverflowFlag::default());
        let rooms = Rooms::open(
            config.draft.time_zone,
            Arc::clone(&time),
            Arc::clone(&sessions),
            Arc::clone(&room_overflow),
            settings.session.max_pending_bytes,
        );
        let clock_address = Arc::new(OnceLock::new());
        let router_address = Arc::new(OnceLock::new());
        let dispatcher = CommitDispatcher {
            hub: hub.clone(),
            hub_overflow,
            rooms: rooms.clone(),
            room_overflow,
            clock: Arc::clone(&clock_address),
            router: Arc::clone(&router_address),
            users: Arc::clone(&users),
            store: store.clone(),
            runtime: Handle::current(),
        };
        let (bus, bus_thread) = match bus_url {
            Some(url) => {
                let receiver = dispatcher.clone();
                let (bus, thread) =
                    Bus::open(&url, store.service_id()?, Box::new(move |event| receiver.on_bus_event(event)))?;
                hub.do_send(JoinHub { bus: bus.clone(), store: store.clone() });
                rooms.do_send(JoinRooms { bus: bus.clone(), store: store.clone() });
                (bus, Some(thread))
            }
            None => (Bus::off(), None),
        };
        let observer: Observer = {
            let bus = bus.clone();
            Box::new(move |all| dispatcher.on_commit(all, &bus))
        };
        let ledger_thread = opened.start_ledger(settings.ledger_rules(), Arc::clone(&time), observer)?;
        let ledger = ledger_thread.ledger();
        hub.do_send(UseLedger(ledger.clone()));
        let committed_goods = Arc::new(CommittedGoods::default());
        let router = BidRouter::open(ledger.clone(), topology, Arc::clone(&committed_goods));
        let _ = router_address.set(router.clone());
        let ingress =
            BidIngress::new(router.clone(), committed_goods, ledger.clone(), Arc::clone(&gate), Arc::clone(&time));
        let clock = AuctionClock::new(store.clone(), ledger.clone(), router.clone(), gate, Arc::clone(&time));
        let clock = clock.with_bus(bus.clone(), settings.auction.close_grace_ms).start();
        // Set in time: before the server listens, only the clock itself commits anything.
        let _ = clock_address.set(clock.clone());

        let services = web::Data::new(Services {
            started_at: time.now(),
            readiness: Readiness::default(),
            live,
            users,
            store,
            ledger,
            router,
            hub: hub.clone(),
            clock,
            ingress,
            rooms: rooms.clone(),
            sessions: Arc::clone(&sessions),
            bus: bus.clone(),
            time,
            config,
        });
        let sockets = OpenSockets::default();
        let context =
            WorkerContext { services: services.clone(), hub, rooms, stats: sessions, sockets: sockets.clone() };
        let (server, addresses) = serve(settings, listeners, &context)?;
        let retry_from_ms = if bus.is_on() { MIN_RETRY_MS } else { retry_from_ms(&services)? };
        let handle = server.handle();
        let server_task = actix_web::rt::spawn(server);
        actix_web::rt::spawn(forget_idle(services.clone()));
        actix_web::rt::spawn(probe_if_failing(services.clone()));
        let retention = Retention {
            store: services.store.clone(),
            ledger: services.ledger.clone(),
            time: Arc::clone(&services.time),
            keep_days: settings.alarms.keep_days,
        };
        actix_web::rt::spawn(retention.run());
        if bus.is_on() {
            actix_web::rt::spawn(fanout_recovery::run(services.store.clone(), services.ledger.clone()));
        }
        let (settings, ledger, bus) = (settings.clone(), ledger_thread, bus_thread);
        Ok(Self { addresses, settings, services, sockets, server: handle, ledger, bus, retry_from_ms, server_task })
    }

    /// Applies those of the new settings that can change while the node runs.
    ///
    /// # Errors
    /// A new setting is invalid, by itself or beside those that stay. Then nothing is changed.
    pub fn change_settings(&mut self, new: &Settings) -> Result<SettingsChange, SettingsError> {
        new.check()?;
        new.check_serve()?;
        let merged = self.settings.with_live_values_of(new);
        // The new live values must also fit the old values that stay until a restart.
        merged.check()?;
        merged.check_serve()?;
        let live = merged.live(Some((&self.settings, &self.services.live.load())))?;
        let change =
            SettingsChange { applied: self.settings.differences(&merged), needs_restart: merged.differences(new) };
        self.services.live.store(Arc::new(live));
        self.settings = merged;
        Ok(change)
    }

    /// Stops in order, within 10 s: refuses new bids, waits for those under way, closes the sockets with a time to
    /// reconnect, ends the server, and writes what is in the ledger's queue.
    pub async fn stop(self) {
        self.services.ingress.drain();
        let deadline = Instant::now() + BIDS_TIMEOUT;
        while self.services.ingress.in_flight() > 0 && Instant::now() < deadline {
            tokio::time::sleep(STOP_POLL_INTERVAL).await;
        }
        // The answer comes when all shards have been notified.
        let (from_ms, spread_ms) = (self.retry_from_ms, RETRY_SPREAD_MS);
        let _ = self.services.hub.send(CloseAll { from_ms, spread_ms }).await;
        if self.bus.is_none() {
            // If this fails, the next stop sends sockets away for the shortest time.
            let _ = self.services.ledger.write(RecordStop, RECORD_STOP_TIMEOUT).await;
        }
        // The server itself does not wait for connections that were upgraded.
        let deadline = Instant::now() + SOCKETS_TIMEOUT;
        while self.sockets.count() > 0 && Instant::now() < deadline {
            tokio::time::sleep(STOP_POLL_INTERVAL).await;
        }
        self.server.stop(true).await;
        if let Ok(Err(error)) = self.server_task.await {
            log::error!("the server ended with an error: {error}");
        }
        // A user who comes back without `since` then gets nothing again that they have received already.
        let deadline = Instant::now() + CURSORS_TIMEOUT;
        while let Ok(false) = self.services.hub.send(FlushReceived).await
            && Instant::now() < deadline
        {
            tokio::time::sleep(STOP_POLL_INTERVAL).await;
        }
        let (ledger, (done, stopped)) = (self.ledger, tokio::sync::oneshot::channel());
        // On a thread of its own, which may outlive this call: a database that hangs must not keep the process alive.
        std::thread::spawn(move || {
            ledger.stop();
            let _ = done.send(());
        });
        if tokio::time::timeout(LEDGER_TIMEOUT, stopped).await.is_err() {
            log::error!("the ledger did not stop in time; no write that it still held was answered as stored");
        }
        // Last, so that the other nodes get everything that was committed.
        self.services.bus.stop().await;
    }

    /// Resolves if a part ends by itself that the node can't replace. The process should then end and be started again,
    /// which is safe at any moment, and better than a node that takes no bids.
    pub async fn failed(&mut self) {
        let services = self.services.clone();
        let (ledger, bus) = (&self.ledger, &self.bus);
        let dead_part = async {
            loop {
                tokio::time::sleep(CHECK_PARTS_INTERVAL).await;
                let parts = [
                    ("bid router", services.router.connected()),
                    ("alarm hub", services.hub.connected()),
                    ("rooms", services.rooms.connected()),
                    ("auction clock", services.clock.connected()),
                    ("ledger", ledger.is_running()),
                    ("bus", bus.as_ref().is_none_or(BusThread::is_running)),
                ];
                if let Some((part, _)) = parts.iter().find(|(_, is_alive)| !is_alive) {
                    break *part;
                }
            }
        };
        tokio::select! {
            part = dead_part => log::error!("the {part} has stopped unexpectedly"),
            ended = &mut self.server_task => match ended {
                Ok(Ok(())) | Err(_) => log::error!("the server has stopped unexpectedly"),
                Ok(Err(error)) => log::error!("the server has stopped: {error}"),
            },
        }
    }
}

/// The shortest time after which sockets reconnect when this node stops: the duration of the restart that has just
/// ended, since the next one will take about as long. Only for a node without others: with them, clients reconnect to
/// another node.
fn retry_from_ms(services: &Services) -> Result<u64, StoreError> {
    let Some(at) = services.store.stopped_at()? else { return Ok(MIN_RETRY_MS) };
    services.ledger.submit(ClearStop, Instant::now() + CLEAR_STOP_TIMEOUT, |_| {});
    let took_ms = services.time.now().ms_since(at);
    if !(0..=MAX_RESTART_MS).contains(&took_ms) {
        return Ok(MIN_RETRY_MS);
    }
    log::info!("restarted: listening again {took_ms} ms after the sockets were closed");
    Ok(took_ms.unsigned_abs().max(MIN_RETRY_MS))
}

/// Notices that a failing database works again, even if nobody uses it.
async fn probe_if_failing(services: web::Data<Services>) {
    loop {
        tokio::time::sleep(PROBE_INTERVAL).await;
        services.ledger.probe_if_failing();
        services.store.probe_if_failing().await;
    }
}

/// Removes rate limits that nobody has used for a while.
async fn forget_idle(services: web::Data<Services>) {
    loop {
        tokio::time::sleep(FORGET_IDLE_INTERVAL).await;
        services.live.load().rates.forget_idle();
    }
}
