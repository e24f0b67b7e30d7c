//! The `AuctionClock`: wakes at the next stored deadline and has it done. What is due is decided in `deadlines`.
//!
//! Starts and last minutes go straight to the ledger; an end goes through the bid desk, behind the bids that arrived
//! in time. Each task looks again inside its transaction, so doing one twice, or late, does no harm.

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
    bus::Bus,
    domain::{GoodsId, GoodsState, Timestamp},
    outage::{Failing, Outage},
    store::{
        Ledger, Store, WriteError,
        writes::{Ended, RaiseEndingSoon, StartAuction},
    },
    time_source::TimeSource,
};

/// Tasks under way at once: a long downtime is worked off beside the bids, not before them.
const MAX_UNDER_WAY: usize = 256;
/// Goods of one reading of deadlines, and tasks that are enough to do before the next one.
const PAGE: i64 = 2000;
const BUSY: usize = 1000;
/// How far ahead deadlines are read, and how early they are read again.
const HORIZON_MS: i64 = 120_000;
const MARGIN_MS: i64 = 30_000;
/// The same where other nodes make goods too: read every two seconds.
const SHARED_HORIZON_MS: i64 = 12_000;
const SHARED_MARGIN_MS: i64 = 10_000;
/// What another node is first to do, this one does so much later, should it still be undone.
const OTHERS_MS: i64 = 1000;
/// Goods that start sooner than this may be known to nobody but the node that made them.
const UNKNOWN_MS: i64 = 5000;
/// Deadlines within this are taken in directly when goods are new or have changed: farther than any reading of
/// deadlines that may be under way.
const WATCH_MS: i64 = 4 * HORIZON_MS;
/// A failed task or reading is tried again after so long.
const RETRY_MS: i64 = 250;
/// The longest sleep: a machine clock that is set forward is noticed this soon. Waking costs a look at the agenda.
const LONGEST_SLEEP_MS: i64 = 500;
/// How long the ledger may take with a task before it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// One for the whole node.
pub struct AuctionClock {
    agenda: Deadlines,
    /// Everything that is due before this is on the agenda.
    complete_until: Option<Timestamp>,
    reading: bool,
    /// The machine's clock was set back while a reading was under way: what it finds is not all there is to know.
    reading_is_stale: bool,
    /// A reading has failed, and the pause before the next one is not over.
    pausing: bool,
    read_not_before: Option<Timestamp>,
    wake: Option<SpawnHandle>,
    last_tick: Option<Timestamp>,
    last_lag_ms: i64,
    /// Of starts, last minutes and ends.
    outage: Outage,
    store: Store,
    ledger: Ledger,
    desk: Addr<BidRouter>,
    gate: Arc<ArrivalGate>,
    bus: Bus,
    horizon_ms: i64,
    margin_ms: i64,
    time: Arc<dyn TimeSource>,
}

impl AuctionClock {
    /// A clock that will begin with what is overdue.
    pub fn new(
        store: Store,
        ledger: Ledger,
        desk: Addr<BidRouter>,
        gate: Arc<ArrivalGate>,
        time: Arc<dyn TimeSource>,
    ) -> Self {
        Self {
            agenda: Deadlines::default(),
            complete_until: None,
            reading: false,
            reading_is_stale: false,
            pausing: false,
            read_not_before: None,
            wake: None,
            last_tick: None,
            last_lag_ms: 0,
            outage: Outage::new(),
            store,
            ledger,
            desk,
            gate,
            bus: Bus::off(),
            horizon_ms: HORIZON_MS,
            margin_ms: MARGIN_MS,
            time,
        }
    }

    /// The same clock beside those of other nodes, should there be any. All of them do everything that is due, which the
    /// transactions make happen once; one of them does it at its time, the others later. Ends wait for bids that arrived in
    /// time at other nodes.
    #[must_use]
    pub fn beside(mut self, bus: Bus, close_grace_ms: i64) -> Self {
        if bus.is_on() {
            self.agenda.close_grace_ms = close_grace_ms;
            (self.horizon_ms, self.margin_ms) = (SHARED_HORIZON_MS, SHARED_MARGIN_MS);
        }
        self.bus = bus;
        self
    }

    /// How much later than its time this node does what is due for these goods.
    fn later_ms(&self, goods: GoodsId) -> i64 {
        if self.bus.is_first_for(goods) { 0 } else { OTHERS_MS }
    }

    /// Hands out what is due and sleeps until the next deadline.
    fn say_over(over: Option<Failing>) {
        if let Some(over) = over {
            log::info!("starts and ends are written again after {}", over.in_all());
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.time.now();
        if self.last_tick.is_some_and(|before| now < before) {
            // The machine's clock was set back: what was known until when means nothing any more.
            log::warn!("the clock was set back");
            self.agenda.forget();
            self.complete_until = None;
            self.read_not_before = None;
            self.reading_is_stale = self.reading;
        }
        self.last_tick = Some(now);
        Self::say_over(self.outage.ended(Instant::now));
        let due = self.agenda.take_due(now, MAX_UNDER_WAY.saturating_sub(self.agenda.under_way()));
        if due.iter().any(|due| due.task == Task::End) {
            // Every bid that was stamped before these ends is in its line from here on.
            self.gate.pass();
        }
        for due in due {
            self.hand_out(due, ctx.address());
        }
        self.read_ahead(now, ctx);
        self.sleep(ctx);
    }

    fn hand_out(&self, due: Due, me: Addr<Self>) {
        let deadline = Instant::now() + PATIENCE;
        match due.task {
            Task::Start => self.ledger.submit(StartAuction(due.goods), deadline, move |result| {
                me.do_send(Done { due, result });
            }),
            Task::EndingSoon => self.ledger.submit(RaiseEndingSoon(due.goods), deadline, move |result| {
                me.do_send(Done { due, result });
            }),
            Task::End => self.desk.do_send(EndGoods {
                goods: due.goods,
                reply: EndReply::new(move |result| {
                    let result = result.map(|ended| match ended {
                        Ended::Yes(goods) | Ended::NotYet(goods) => Some(goods),
                        Ended::UnknownGoods => None,
                    });
                    me.do_send(Done { due, result });
                }),
            }),
        }
    }

    /// When the deadlines ahead are to be read next: when the known ones come to their end, and not while there is
    /// enough to do. `None` while that is so: its end ticks the clock.
    fn next_reading(&self, now: Timestamp) -> Option<Timestamp> {
        if self.reading || self.pausing || self.agenda.is_busy(now, BUSY) {
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
        // Also after a success: a page full of the same overdue goods must not be read in a circle. From the beginning, so
        // that a clock that is set forward meanwhile puts nothing off.
        self.read_not_before = Some(now.plus_ms(RETRY_MS));
        let (store, until) = (self.store.clone(), now.plus_ms(self.horizon_ms));
        let read = async move { store.next_deadlines(until, PAGE).await };
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
                        let later_ms = clock.later_ms(goods.id);
                        clock.agenda.watch(goods, now, complete_until, later_ms);
                    }
                }
                Err(error) => {
                    log::debug!("the auction clock can't read its deadlines: {error}");
                    // By the time that passes, not by the clock, which may be set meanwhile.
                    clock.pausing = true;
                    ctx.run_later(Duration::from_millis(RETRY_MS.unsigned_abs()), |clock, ctx| {
                        clock.pausing = false;
                        clock.tick(ctx);
                    });
                }
            }
            clock.tick(ctx);
        }));
    }

    fn sleep(&mut self, ctx: &mut Context<Self>) {
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        let now = self.time.now();
        let full = self.agenda.under_way() >= MAX_UNDER_WAY;
        let next = self.agenda.next_at().filter(|_| !full);
        let next = next.into_iter().chain(self.next_reading(now));
        let until = next.fold(now.plus_ms(LONGEST_SLEEP_MS), Timestamp::min);
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

/// A task is done or has failed; with the goods as they are now.
#[derive(Message)]
#[rtype(result = "()")]
struct Done {
    due: Due,
    result: Result<Option<GoodsState>, WriteError>,
}

impl Handler<Done> for AuctionClock {
    type Result = ();

    fn handle(&mut self, Done { due, result }: Done, ctx: &mut Self::Context) {
        let now = self.time.now();
        match result {
            Ok(goods) => {
                Self::say_over(self.outage.worked(Instant::now));
                self.last_lag_ms = now.ms_since(due.at);
                // Also beyond what is known to be complete: a reading under way may have looked before this was done.
                let later_ms = self.later_ms(due.goods);
                self.agenda.done(due, goods.as_ref(), now, now.plus_ms(WATCH_MS), later_ms);
            }
            // Not done, or not known to be: the task looks for itself what is left to do.
            Err(error) => {
                if let Some(failing) = self.outage.failed(Instant::now()) {
                    log::warn!("{} of goods {} failed, trying again{failing}: {error}", due.task, due.goods);
                }
                // An end waits for bids of other nodes each time: what held it up may have held them up.
                let grace_ms = if due.task == Task::End { self.agenda.close_grace_ms } else { 0 };
                self.agenda.again(due, now.plus_ms(RETRY_MS.max(grace_ms)));
            }
        }
        self.tick(ctx);
    }
}

/// Goods are new: their times may be nearer than the next reading of deadlines.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WatchGoods(pub GoodsState);

impl Handler<WatchGoods> for AuctionClock {
    type Result = ();

    fn handle(&mut self, WatchGoods(goods): WatchGoods, ctx: &mut Self::Context) {
        let now = self.time.now();
        let is_unknown = goods.starts_at.ms_since(now) < UNKNOWN_MS;
        let later_ms = if is_unknown { 0 } else { self.later_ms(goods.id) };
        self.agenda.watch(&goods, now, now.plus_ms(WATCH_MS), later_ms);
        self.tick(ctx);
    }
}

/// Asks for [`ClockFigures`].
#[derive(Message)]
#[rtype(result = "ClockFigures")]
pub struct GetClockFigures;

/// Figures for the health endpoint.
#[derive(Debug, Clone, Copy, MessageResponse)]
pub struct ClockFigures {
    /// When the clock last looked.
    pub last_tick: Option<Timestamp>,
    /// How long after its time the last task was on disk, in ms.
    pub last_lag_ms: i64,
    /// Tasks on the agenda.
    pub agenda: usize,
    /// Tasks handed out and not yet done.
    pub under_way: usize,
}

impl Handler<GetClockFigures> for AuctionClock {
    type Result = ClockFigures;

    fn handle(&mut self, _: GetClockFigures, _: &mut Self::Context) -> ClockFigures {
        ClockFigures {
            last_tick: self.last_tick,
            last_lag_ms: self.last_lag_ms,
            agenda: self.agenda.len(),
            under_way: self.agenda.under_way(),
        }
    }
}
