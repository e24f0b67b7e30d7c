//! One node: everything wired, listening, and ended in order.

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
        AlarmHub, ArrivalGate, AuctionClock, BidIngress, BidRouter, CloseAll, CommittedGoods, JoinHub, JoinRooms,
        LocaleSource, OverflowFlag, Rooms, ShardStats, UseLedger, WriteMarks,
    },
    bus::{Bus, BusError, BusThread},
    http::{OpenSockets, Readiness, Services, UserDirectory},
    store::{
        LedgerThread, Nodes, Observer, Store, StoreError,
        writes::{ForgetStop, NoteStop},
    },
    time_source::TimeSource,
};

/// How long bids that are being answered may take when the node ends.
const DRAIN: Duration = Duration::from_secs(4);
/// How long sockets may take to close after that: the client's answer and its end of the connection.
const PART: Duration = Duration::from_millis(1750);
/// How long it may take until what the sockets have proved is written down.
const MARKS: Duration = Duration::from_millis(250);
/// How often it is looked whether what is waited for is over.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long the ledger's queue may take to be written at the end.
const WRITE_OUT: Duration = Duration::from_millis(2500);
/// When sessions come back: not before this, nor before a restart as long as the last one is over …
const RETRY_LEAST_MS: u64 = 1000;
/// … and then within this time, each at a moment of its own.
const RETRY_SPREAD_MS: u64 = 5000;
/// A node that was down for longer was not restarted, but stopped and started.
const LONGEST_RESTART_MS: i64 = 60_000;
/// How long the note of when the sockets were told may take.
const NOTE_PATIENCE: Duration = Duration::from_millis(300);
/// How often rates of who has been quiet are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether a database that was away is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    /// As they are in force.
    settings: Settings,
    services: web::Data<Services>,
    sockets: OpenSockets,
    server: ServerHandle,
    ledger: LedgerThread,
    bus: Option<BusThread>,
    /// How long sockets are to wait at least when the node ends.
    retry_from_ms: u64,
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
        let live = Arc::new(ArcSwap::from_pointee(settings.live(None)?));
        let bus_url = settings.bus()?;
        let nodes = if bus_url.is_some() { Nodes::Several } else { Nodes::One };
        let opened = Store::open_for(nodes, &settings.database()?, settings.database.pool)?;
        let store = opened.store.clone();
        // Before any actor is started: one that is dropped again with the runtime that should have run it panics.
        let listeners = bind(&settings.bind()?)?;

        let sessions = Arc::new(ShardStats::default());
        let users = Arc::new(UserDirectory::new(nodes));
        let gate = Arc::new(ArrivalGate::default());
        let missed = Arc::new(AtomicBool::new(false));
        let locale: LocaleSource = {
            let live = Arc::clone(&live);
            Box::new(move || live.load().locale)
        };
        let hub = AlarmHub::open(locale, settings.session.max_per_user, Arc::clone(&sessions), Arc::clone(&missed));
        let missed_rooms = Arc::new(OverflowFlag::default());
        let rooms = Rooms::open(
            config.draft.time_zone,
            Arc::clone(&time),
            Arc::clone(&sessions),
            Arc::clone(&missed_rooms),
            settings.session.max_pending_bytes,
        );
        let clock_address = Arc::new(OnceLock::new());
        let desk_address = Arc::new(OnceLock::new());
        let watch = CommitDispatcher {
            hub: hub.clone(),
            missed,
            rooms: rooms.clone(),
            missed_rooms,
            clock: Arc::clone(&clock_address),
            desk: Arc::clone(&desk_address),
            users: Arc::clone(&users),
            store: store.clone(),
            runtime: Handle::current(),
        };
        let (bus, bus_thread) = match bus_url {
            Some(url) => {
                let ears = watch.clone();
                let (bus, thread) = Bus::open(&url, store.service_id()?, Box::new(move |heard| ears.heard(heard)))?;
                hub.do_send(JoinHub { bus: bus.clone(), store: store.clone() });
                rooms.do_send(JoinRooms { bus: bus.clone(), store: store.clone() });
                (bus, Some(thread))
            }
            None => (Bus::off(), None),
        };
        let observer: Observer = {
            let bus = bus.clone();
            Box::new(move |all| watch.committed(all, &bus))
        };
        let ledger_thread = opened.start_ledger(settings.ledger_rules(), Arc::clone(&time), observer)?;
        let ledger = ledger_thread.ledger();
        hub.do_send(UseLedger(ledger.clone()));
        let known = Arc::new(CommittedGoods::default());
        let desk = BidRouter::open(ledger.clone(), nodes, Arc::clone(&known));
        let _ = desk_address.set(desk.clone());
        let entrance = BidIngress::new(desk.clone(), known, ledger.clone(), Arc::clone(&gate), Arc::clone(&time));
        let clock = AuctionClock::new(store.clone(), ledger.clone(), desk.clone(), gate, Arc::clone(&time));
        let clock = clock.beside(bus.clone(), settings.auction.close_grace_ms).start();
        // Nothing is committed before the server listens but what the clock itself begins.
        let _ = clock_address.set(clock.clone());

        let services = web::Data::new(Services {
            started_at: time.now(),
            readiness: Readiness::default(),
            live,
            users,
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
        let sockets = OpenSockets::default();
        let house = WorkerContext { services: services.clone(), hub, rooms, stats: sessions, sockets: sockets.clone() };
        let (server, addresses) = serve(settings, listeners, &house)?;
        let retry_from_ms = if bus.is_on() { RETRY_LEAST_MS } else { retry_from_ms(&services)? };
        let handle = server.handle();
        let stopped = actix_web::rt::spawn(server);
        actix_web::rt::spawn(forget_quiet(services.clone()));
        actix_web::rt::spawn(look_again(services.clone()));
        let housekeeping = Retention {
            store: services.store.clone(),
            ledger: services.ledger.clone(),
            time: Arc::clone(&services.time),
            keep_days: settings.alarms.keep_days,
        };
        actix_web::rt::spawn(housekeeping.keep_house());
        if bus.is_on() {
            actix_web::rt::spawn(fanout_recovery::adopt(services.store.clone(), services.ledger.clone()));
        }
        let (settings, ledger, bus) = (settings.clone(), ledger_thread, bus_thread);
        Ok(Self { addresses, settings, services, sockets, server: handle, ledger, bus, retry_from_ms, stopped })
    }

    /// Puts in force what of these settings can change while the node runs.
    ///
    /// # Errors
    /// They can't be taken; nothing is changed.
    pub fn change_settings(&mut self, new: &Settings) -> Result<SettingsChange, SettingsError> {
        new.check()?;
        new.check_serve()?;
        let merged = self.settings.with_live_of(new);
        // Not only all of the new ones together, but also these beside those that stay.
        merged.check()?;
        merged.check_serve()?;
        let live = merged.live(Some((&self.settings, &self.services.live.load())))?;
        let change =
            SettingsChange { in_force: self.settings.differences(&merged), need_restart: merged.differences(new) };
        self.services.live.store(Arc::new(live));
        self.settings = merged;
        Ok(change)
    }

    /// Ends in order, within 10 s: no new bids, answered ones finished, sockets told when to come back, the queue of
    /// the ledger written.
    pub async fn stop(self) {
        self.services.entrance.drain();
        let deadline = Instant::now() + DRAIN;
        while self.services.entrance.in_flight() > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        // Answered when the shards have been told.
        let (from_ms, spread_ms) = (self.retry_from_ms, RETRY_SPREAD_MS);
        let _ = self.services.hub.send(CloseAll { from_ms, spread_ms }).await;
        if self.bus.is_none() {
            // Without it the next restart is as long as none is known to be.
            let _ = self.services.ledger.write(NoteStop, NOTE_PATIENCE).await;
        }
        // The server doesn't wait for what is no longer its own.
        let deadline = Instant::now() + PART;
        while self.sockets.count() > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.server.stop(true).await;
        if let Ok(Err(error)) = self.stopped.await {
            log::error!("the server ended with an error: {error}");
        }
        // Who comes back without `since` is not to be sent again what he has proved to have.
        let deadline = Instant::now() + MARKS;
        while let Ok(false) = self.services.hub.send(WriteMarks).await
            && Instant::now() < deadline
        {
            tokio::time::sleep(LOOK_AGAIN).await;
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
        let (ledger, bus) = (&self.ledger, &self.bus);
        let missing = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let parts = [
                    ("bid desk", services.desk.connected()),
                    ("alarm hub", services.hub.connected()),
                    ("rooms", services.rooms.connected()),
                    ("auction clock", services.clock.connected()),
                    ("ledger", ledger.is_running()),
                    ("bus", bus.as_ref().is_none_or(BusThread::is_running)),
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

/// How long sockets are to wait at least when this node ends: as long as the restart has taken that brought it up. With
/// other nodes beside it nobody has to wait for it.
fn retry_from_ms(services: &Services) -> Result<u64, StoreError> {
    let Some(at) = services.store.stopped_at()? else { return Ok(RETRY_LEAST_MS) };
    services.ledger.submit(ForgetStop, Instant::now() + FORGET_EVERY, |_| {});
    let took_ms = services.time.now().ms_since(at);
    if !(0..=LONGEST_RESTART_MS).contains(&took_ms) {
        return Ok(RETRY_LEAST_MS);
    }
    log::info!("listening again {took_ms} ms after the sockets were told to come back");
    Ok(took_ms.unsigned_abs().max(RETRY_LEAST_MS))
}

/// Looks whether the database is back, also when nobody uses it.
async fn look_again(services: web::Data<Services>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        services.ledger.look_again();
        services.store.look_again().await;
    }
}

async fn forget_quiet(services: web::Data<Services>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        services.live.load().rates.forget_quiet();
    }
}
