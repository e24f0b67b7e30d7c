//! The `AuctionClock`: wakes at the next stored deadline and has it done. What is due is decided in `agenda`.
//!
//! Starts and last minutes go straight to the ledger; an end goes through the bid desk, behind the bids that arrived
//! in time. Each task looks again inside its transaction, so doing one twice, or late, does no harm.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;

use super::{
    agenda::{Agenda, Due, Task},
    arrival_gate::ArrivalGate,
    bid_desk::{BidDesk, EndGoods},
};
use crate::{
    domain::{GoodsState, Timestamp},
    store::{
        Ledger, Store, WriteError,
        writes::{Ended, RaiseEndingSoon, StartAuction},
    },
    time_source::TimeSource,
};

/// Tasks under way at once: a long downtime is worked off beside the bids, not before them.
const MAX_UNDER_WAY: usize = 256;
/// Goods of one reading of deadlines.
const PAGE: i64 = 2000;
/// Tasks of the time that is known beyond which no further deadlines are read.
const MAX_KNOWN: usize = 1000;
/// How far ahead deadlines are read, and how early they are read again.
const HORIZON_MS: i64 = 120_000;
const MARGIN_MS: i64 = 30_000;
/// New goods that start within this are taken in directly: longer than any reading of deadlines takes.
const WATCH_MS: i64 = 4 * HORIZON_MS;
/// A failed task or reading is tried again after so long.
const RETRY_MS: i64 = 250;
/// The longest sleep: a machine clock that is set forward is noticed this soon. Waking costs a look at the agenda.
const LONGEST_SLEEP_MS: i64 = 500;
/// How long the ledger may take with a task before it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// One for the whole node.
pub struct AuctionClock {
    agenda: Agenda,
    /// Everything that is due before this is on the agenda.
    complete_until: Option<Timestamp>,
    reading: bool,
    read_not_before: Option<Timestamp>,
    wake: Option<SpawnHandle>,
    last_tick: Option<Timestamp>,
    last_lag_ms: i64,
    store: Store,
    ledger: Ledger,
    desk: Addr<BidDesk>,
    gate: Arc<ArrivalGate>,
    time: Arc<dyn TimeSource>,
}

impl AuctionClock {
    /// A clock that will begin with what is overdue.
    pub fn new(
        store: Store,
        ledger: Ledger,
        desk: Addr<BidDesk>,
        gate: Arc<ArrivalGate>,
        time: Arc<dyn TimeSource>,
    ) -> Self {
        Self {
            agenda: Agenda::default(),
            complete_until: None,
            reading: false,
            read_not_before: None,
            wake: None,
            last_tick: None,
            last_lag_ms: 0,
            store,
            ledger,
            desk,
            gate,
            time,
        }
    }

    /// Hands out what is due and sleeps until the next deadline.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.time.now();
        self.last_tick = Some(now);
        self.know_no_further_than(now);
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
                reply: Box::new(move |result| {
                    let result = result.map(|ended| match ended {
                        Ended::Yes(goods) | Ended::NotYet(goods) => Some(goods),
                        Ended::UnknownGoods => None,
                    });
                    me.do_send(Done { due, result });
                }),
            }),
        }
    }

    /// After the machine's clock was set back, "complete" would reach hours ahead, and goods made in those hours would
    /// neither be near enough to be taken in directly nor be read in time.
    fn know_no_further_than(&mut self, now: Timestamp) {
        self.complete_until = self.complete_until.map(|until| until.min(now.plus_ms(HORIZON_MS)));
        self.read_not_before = self.read_not_before.map(|at| at.min(now.plus_ms(RETRY_MS)));
    }

    /// Reads the deadlines ahead when the known ones come to their end.
    fn read_ahead(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        let known_enough = self.complete_until.is_some_and(|until| until.ms_since(now) > MARGIN_MS);
        if self.reading || known_enough || self.is_busy() || self.read_not_before.is_some_and(|at| now < at) {
            return;
        }
        self.reading = true;
        let store = self.store.clone();
        let read = async move { store.next_deadlines(now.plus_ms(HORIZON_MS), PAGE).await };
        ctx.spawn(read.into_actor(self).map(|result, clock, ctx| {
            let now = clock.time.now();
            clock.reading = false;
            // Also after a success: a page full of the same overdue goods must not be read in a circle.
            clock.read_not_before = Some(now.plus_ms(RETRY_MS));
            match result {
                Ok((goods, complete_until)) => {
                    clock.complete_until = Some(complete_until);
                    for goods in &goods {
                        clock.agenda.watch(goods, now);
                    }
                }
                Err(error) => log::error!("the auction clock can't read its deadlines: {error}"),
            }
            clock.tick(ctx);
        }));
    }

    /// So much is left to do of what is known that reading on would only fill the memory. What lies beyond (the ends
    /// of all live auctions) does not count: it can stay for days, and reading must not wait for it.
    fn is_busy(&self) -> bool {
        let until = self.complete_until.unwrap_or_else(|| self.time.now());
        self.agenda.has_until(until, MAX_KNOWN)
    }

    fn sleep(&mut self, ctx: &mut Context<Self>) {
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        let read_at = self.complete_until.map(|until| until.plus_ms(-MARGIN_MS));
        // While it is busy, it is the tasks that wake it.
        let read_at = read_at.max(self.read_not_before).filter(|_| !self.reading && !self.is_busy());
        let full = self.agenda.under_way() >= MAX_UNDER_WAY;
        let next = self.agenda.next_at().filter(|_| !full);
        let longest = self.time.now().plus_ms(LONGEST_SLEEP_MS);
        let until = next.into_iter().chain(read_at).fold(longest, Timestamp::min);
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
                self.last_lag_ms = now.ms_since(due.at);
                self.agenda.done(due, goods.as_ref(), now);
            }
            // Not done, or not known to be: the task looks for itself what is left to do.
            Err(error) => {
                log::warn!("{:?} of goods {} failed, trying again: {error}", due.task, due.goods);
                self.agenda.again(due, now.plus_ms(RETRY_MS));
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
        if goods.starts_at.ms_since(now) <= WATCH_MS {
            self.agenda.watch(&goods, now);
            self.tick(ctx);
        }
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
