//! The `AuctionClock`: wakes at the next stored deadline and dispatches its task. What is due is decided in
//! `deadlines`.
//!
//! Starts and `ending_soon` go straight to the ledger. An end goes through the bid router, behind the bids that arrived
//! in time. Each task checks again inside its transaction what is left to do, so doing it twice, or late, does no harm.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;

use super::deadlines::{Deadlines, Due, Task};
use crate::actors::bidding::{
    arrival_gate::ArrivalGate,
    bid_actor::EndReply,
    bid_router::{BidRouter, EndGoods},
};
use crate::{
    bus::Topology,
    domain::{GoodsId, GoodsState, Timestamp},
    metrics::{Counter, Gauge, Histogram, Registry},
    outage::{Outage, OutageReport},
    store::{
        Ledger, Store, WriteError,
        writes::{Ended, RaiseEndingSoon, StartAuction},
    },
    time_source::TimeSource,
};

/// Tasks under way at once. The limit leaves room for bids while the clock catches up after a long downtime.
const UNDER_WAY_LIMIT: usize = 256;
/// Goods of one read of deadlines.
const READ_LIMIT: i64 = 2000;
/// With this many tasks due or under way, no further deadlines are read.
const BUSY_LIMIT: usize = 1000;
/// How far ahead deadlines are read.
const HORIZON_MS: i64 = 120_000;
/// How long before the known deadlines end the next ones are read.
const MARGIN_MS: i64 = 30_000;
/// The same in a cluster, where other nodes create goods too: deadlines are read every two seconds.
const SHARED_HORIZON_MS: i64 = 12_000;
const SHARED_MARGIN_MS: i64 = 10_000;
/// How much later than the node responsible for a task the other nodes try it, in case it is still undone.
const SECONDARY_DELAY_MS: i64 = 1000;
/// Other nodes may not have read goods that start sooner than this, so the node that creates them delays no task.
const NEW_GOODS_LIMIT_MS: i64 = 5000;
/// Deadlines of new or changed goods are added directly up to this far ahead, which is beyond any read of deadlines
/// that may be under way.
const WATCH_HORIZON_MS: i64 = 4 * HORIZON_MS;
/// The pause before a failed task or read is retried.
const RETRY_INTERVAL_MS: i64 = 250;
/// The longest sleep, so that a system clock that is set forward is noticed soon.
const SLEEP_LIMIT_MS: i64 = 500;
/// After this the ledger drops a waiting task unwritten, and the clock retries it.
const TASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts and ends auctions; there is one per node.
pub struct AuctionClock {
    deadlines: Deadlines,
    /// All deadlines before this are known.
    complete_until: Option<Timestamp>,
    reading: bool,
    /// The system clock was set back during the current read, so its result is not complete.
    reading_is_stale: bool,
    /// A read has failed, and the pause before the next one is not over.
    pausing: bool,
    read_not_before: Option<Timestamp>,
    wake: Option<SpawnHandle>,
    last_tick: Option<Timestamp>,
    last_lag_ms: i64,
    stats: ClockStats,
    /// Failing tasks, for the log.
    outage: Outage,
    store: Store,
    ledger: Ledger,
    router: Addr<BidRouter>,
    gate: Arc<ArrivalGate>,
    topology: Topology,
    horizon_ms: i64,
    margin_ms: i64,
    time: Arc<dyn TimeSource>,
}

impl AuctionClock {
    /// Creates a clock, which begins with what is overdue. In a cluster all nodes try every task, and its transaction
    /// makes it happen once: one node tries it on time, the others later. Ends then wait `close_grace_ms` for bids that
    /// arrived in time at other nodes.
    pub fn new(
        store: Store,
        ledger: Ledger,
        router: Addr<BidRouter>,
        gate: Arc<ArrivalGate>,
        time: Arc<dyn TimeSource>,
        (topology, close_grace_ms): (Topology, i64),
    ) -> Self {
        let (horizon_ms, margin_ms, close_grace_ms) = match topology {
            Topology::Single => (HORIZON_MS, MARGIN_MS, 0),
            Topology::Cluster(_) => (SHARED_HORIZON_MS, SHARED_MARGIN_MS, close_grace_ms),
        };
        Self {
            deadlines: Deadlines::new(close_grace_ms),
            complete_until: None,
            reading: false,
            reading_is_stale: false,
            pausing: false,
            read_not_before: None,
            wake: None,
            last_tick: None,
            last_lag_ms: 0,
            stats: ClockStats::default(),
            outage: Outage::new(),
            store,
            ledger,
            router,
            gate,
            topology,
            horizon_ms,
            margin_ms,
            time,
        }
    }

    /// What the clock measures.
    pub(crate) fn stats(&self) -> ClockStats {
        self.stats.clone()
    }

    /// How long after their time this node does the tasks of these goods.
    fn delay_ms(&self, goods: GoodsId) -> i64 {
        if self.topology.bus().is_none_or(|bus| bus.is_first_for(goods)) { 0 } else { SECONDARY_DELAY_MS }
    }

    fn log_recovery(outage: Option<OutageReport>) {
        if let Some(outage) = outage {
            let (failures, lasted_s) = (outage.failures, outage.lasted_s());
            log::info!(failures, lasted_s; "starts and ends are written again");
        }
    }

    /// Dispatches what is due and sleeps until the next deadline.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.time.now();
        if self.last_tick.is_some_and(|before| now < before) {
            // All deadlines are read anew: `complete_until` was set by the old time.
            log::warn!("the system clock was set back");
            self.deadlines.forget();
            self.complete_until = None;
            self.read_not_before = None;
            self.reading_is_stale = self.reading;
        }
        self.last_tick = Some(now);
        self.stats.last_tick.set(now.secs());
        Self::log_recovery(self.outage.take_ended(Instant::now));
        let due = self.deadlines.take_due(now, UNDER_WAY_LIMIT.saturating_sub(self.deadlines.under_way()));
        if due.iter().any(|due| due.task == Task::End) {
            // From here on every bid stamped before these ends is in the router's mailbox.
            self.gate.pass();
        }
        for due in due {
            self.dispatch(due, ctx.address());
        }
        self.read_ahead(now, ctx);
        self.sleep(ctx);
    }

    fn dispatch(&self, due: Due, me: Addr<Self>) {
        let deadline = Instant::now() + TASK_TIMEOUT;
        match due.task {
            Task::Start => self.ledger.submit(StartAuction(due.goods), deadline, move |result| {
                me.do_send(TaskDone { due, result });
            }),
            Task::EndingSoon => self.ledger.submit(RaiseEndingSoon(due.goods), deadline, move |result| {
                me.do_send(TaskDone { due, result });
            }),
            Task::End => self.router.do_send(EndGoods {
                goods: due.goods,
                reply: EndReply::new(move |result| {
                    let result = result.map(|ended| match ended {
                        Ended::Yes(goods) | Ended::NotYet(goods) => Some(goods),
                        Ended::UnknownGoods => None,
                    });
                    me.do_send(TaskDone { due, result });
                }),
            }),
        }
    }

    /// When to read the next deadlines: shortly before the known ones run out. `None` while a read or its pause is
    /// under way or enough tasks are due: their end ticks the clock.
    fn next_reading(&self, now: Timestamp) -> Option<Timestamp> {
        if self.reading || self.pausing || self.deadlines.is_busy(now, BUSY_LIMIT) {
            return None;
        }
        let wanted = self.complete_until.map_or(now, |until| until.plus_ms(-self.margin_ms));
        Some(self.read_not_before.map_or(wanted, |at| at.max(wanted)))
    }

    fn read_ahead(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        if self.next_reading(now).is_none_or(|at| now < at) {
            return;
        }
        self.reading = true;
        // Also after a success: a page full of overdue goods must not be read over and over. Counted from the start of
        // the read, so that a system clock set forward meanwhile delays nothing.
        self.read_not_before = Some(now.plus_ms(RETRY_INTERVAL_MS));
        let (store, until) = (self.store.clone(), now.plus_ms(self.horizon_ms));
        let read = async move { store.next_deadlines(until, READ_LIMIT).await };
        ctx.spawn(read.into_actor(self).map(|result, clock, ctx| {
            let now = clock.time.now();
            clock.reading = false;
            let is_stale = std::mem::take(&mut clock.reading_is_stale);
            match result {
                Ok((goods, complete_until)) => {
                    if !is_stale {
                        clock.complete_until = Some(complete_until);
                    }
                    for goods in &goods {
                        let delay_ms = clock.delay_ms(goods.id);
                        clock.deadlines.watch(goods, now, complete_until, delay_ms);
                    }
                }
                Err(error) => {
                    log::debug!(error:%; "the auction clock can't read its deadlines");
                    // A real timer, because the system clock may be set meanwhile.
                    clock.pausing = true;
                    ctx.run_later(Duration::from_millis(RETRY_INTERVAL_MS.unsigned_abs()), |clock, ctx| {
                        clock.pausing = false;
                        clock.tick(ctx);
                    });
                }
            }
            clock.tick(ctx);
        }));
    }

    fn sleep(&mut self, ctx: &mut Context<Self>) {
        let count = |tasks: usize| i64::try_from(tasks).unwrap_or(i64::MAX);
        self.stats.tasks.set(count(self.deadlines.len()));
        self.stats.under_way.set(count(self.deadlines.under_way()));
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        let now = self.time.now();
        let full = self.deadlines.under_way() >= UNDER_WAY_LIMIT;
        let next = self.deadlines.next_at().filter(|_| !full);
        let next = next.into_iter().chain(self.next_reading(now));
        let until = next.fold(now.plus_ms(SLEEP_LIMIT_MS), Timestamp::min);
        let wait = self.time.wait_until(until);
        self.wake = Some(ctx.spawn(wait.into_actor(self).map(|(), clock, ctx| {
            clock.wake = None;
            clock.tick(ctx);
        })));
    }
}

impl Actor for AuctionClock {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}

/// A task is done, with the goods after it, or has failed.
#[derive(Message)]
#[rtype(result = "()")]
struct TaskDone {
    due: Due,
    result: Result<Option<GoodsState>, WriteError>,
}

impl Handler<TaskDone> for AuctionClock {
    type Result = ();

    fn handle(&mut self, TaskDone { due, result }: TaskDone, ctx: &mut Self::Context) {
        let now = self.time.now();
        match result {
            Ok(goods) => {
                Self::log_recovery(self.outage.record_success(Instant::now));
                self.last_lag_ms = now.ms_since(due.at);
                self.stats.lag.observe(Duration::from_millis(self.last_lag_ms.try_into().unwrap_or(0)));
                // Also beyond `complete_until`: a read under way may have begun before this task was done.
                let delay_ms = self.delay_ms(due.goods);
                self.deadlines.done(due, goods.as_ref(), now, now.plus_ms(WATCH_HORIZON_MS), delay_ms);
            }
            // The outcome may be unknown: the retried task checks what is left to do.
            Err(error) => {
                self.stats.failures.inc();
                if let Some(failing) = self.outage.record_failure(Instant::now()) {
                    let (failures, lasted_s) = (failing.failures, failing.lasted_s());
                    log::warn!(
                        task:% = due.task, goods = due.goods.get(), failures, lasted_s, error:%;
                        "a task of the auction clock failed, trying again"
                    );
                }
                // A retried end waits its grace again: what delayed it may have delayed bids of other nodes too.
                let grace_ms = if due.task == Task::End { self.deadlines.close_grace_ms } else { 0 };
                self.deadlines.retry(due, now.plus_ms(RETRY_INTERVAL_MS.max(grace_ms)));
            }
        }
        self.tick(ctx);
    }
}

/// Goods are new: their deadlines may come before the next read of deadlines.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WatchGoods(pub GoodsState);

impl Handler<WatchGoods> for AuctionClock {
    type Result = ();

    fn handle(&mut self, WatchGoods(goods): WatchGoods, ctx: &mut Self::Context) {
        let now = self.time.now();
        let starts_soon = goods.starts_at.ms_since(now) < NEW_GOODS_LIMIT_MS;
        let delay_ms = if starts_soon { 0 } else { self.delay_ms(goods.id) };
        self.deadlines.watch(&goods, now, now.plus_ms(WATCH_HORIZON_MS), delay_ms);
        self.tick(ctx);
    }
}

/// What the clock counts and measures. Clones share their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClockStats {
    /// How long after its due time each task was on disk.
    lag: Histogram,
    /// When the clock last checked its deadlines, in seconds.
    last_tick: Gauge,
    tasks: Gauge,
    under_way: Gauge,
    failures: Counter,
}

impl ClockStats {
    /// Adds the figures to the metrics.
    pub(crate) fn register(&self, to: &mut Registry) {
        let Self { lag, last_tick, tasks, under_way, failures } = self.clone();
        to.register("clock_lag_seconds", "Time from a task's due time until it was on disk", lag);
        to.register(
            "clock_last_tick_timestamp_seconds",
            "When the clock last checked its deadlines, as Unix time",
            last_tick,
        );
        to.register("clock_tasks", "Known starts, last minutes and ends, those under way included", tasks);
        to.register("clock_tasks_under_way", "Tasks dispatched and not yet done", under_way);
        to.register("clock_task_failures", "Failed tries of tasks", failures);
    }
}

/// Asks for [`ClockFigures`].
#[derive(Message)]
#[rtype(result = "ClockFigures")]
pub struct GetClockFigures;

/// Figures for the health endpoint.
#[derive(Debug, Clone, Copy, Default, MessageResponse)]
pub struct ClockFigures {
    /// When the clock last checked its deadlines; `None` while it has not read all that were due then.
    pub last_tick: Option<Timestamp>,
    /// How long after its due time the last task was on disk.
    pub last_lag_ms: i64,
    /// Known tasks, those under way included.
    pub agenda: usize,
    /// Tasks dispatched and not yet done.
    pub under_way: usize,
}

impl Handler<GetClockFigures> for AuctionClock {
    type Result = ClockFigures;

    fn handle(&mut self, _: GetClockFigures, _: &mut Self::Context) -> ClockFigures {
        ClockFigures {
            // After the start, or a jump of the clock, what is due may not have been read yet.
            last_tick: self.last_tick.filter(|tick| self.complete_until.is_some_and(|until| *tick <= until)),
            last_lag_ms: self.last_lag_ms,
            agenda: self.deadlines.len(),
            under_way: self.deadlines.under_way(),
        }
    }
}
