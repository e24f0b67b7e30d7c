//! The production store, ledger, bid router and auction clock, wired as a node wires them but without a network, which
//! is why thousands of auctions fit into seconds. The test sets the time.

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix::prelude::*;
use handsup::test_support::{
    actors::{
        ArrivalGate, AuctionClock, BidAnswer, BidReply, BidRouter, CommittedGoods, GetClockFigures, PlaceBid,
        WatchGoods,
    },
    bus::Topology,
    domain::{Alarm, Bid, GoodsId, Price, Timestamp, User, UserId},
    store::{Committed, DatabaseUrl, Ledger, LedgerThread, Sharing, Store, Write, writes::KeyedBid},
    time_source::TimeSource,
};
use tokio::sync::{oneshot, watch};

use super::database;

/// The number of reading connections.
pub const READERS: u32 = 2;

/// The longest that anything may take in real time.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that stands still until the test moves it, forward or back. Like a machine's clock it may wake a sleeper early
/// when it is set, since real sleeps are short.
#[derive(Debug)]
pub struct DayTime(watch::Sender<Timestamp>);

impl DayTime {
    pub fn at(begin: Timestamp) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(begin)))
    }

    pub fn set(&self, now: Timestamp) {
        self.0.send_replace(now);
    }
}

impl TimeSource for DayTime {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn wait_until(&self, until: Timestamp) -> Pin<Box<dyn Future<Output = ()>>> {
        let mut moves = self.0.subscribe();
        let due = until <= *moves.borrow_and_update();
        Box::pin(async move {
            if !due {
                let _ = moves.changed().await;
            }
        })
    }
}

/// Alarms with their receivers, in the order in which they were dispatched.
pub type DispatchedAlarms = Arc<Mutex<Vec<(Alarm, Vec<UserId>)>>>;

/// One life of the service, between two stops. Must be opened inside an actix system that ends with it.
pub struct TestService {
    pub store: Store,
    ledger: Ledger,
    thread: LedgerThread,
    router: Addr<BidRouter>,
    clock: Addr<AuctionClock>,
    gate: Arc<ArrivalGate>,
    time: Arc<DayTime>,
}

impl TestService {
    pub fn open(database: &Path, time: Arc<DayTime>, soft_close_ms: i64, dispatched: DispatchedAlarms) -> Self {
        let url = DatabaseUrl::parse(&database::url_of(database)).unwrap();
        let opened = Store::open(&url, READERS).unwrap();
        let store = opened.store.clone();
        let node_time: Arc<dyn TimeSource> = time.clone();
        let ledger = opened.ledger.clone();
        let router = BidRouter::open(ledger.clone(), Arc::new(CommittedGoods::new(Sharing::Exclusive)));
        let gate = Arc::new(ArrivalGate::default());
        let clock = AuctionClock::new(
            store.clone(),
            ledger.clone(),
            router.clone(),
            Arc::clone(&gate),
            Arc::clone(&node_time),
            (Topology::Single, 0),
        )
        .start();
        let clock_of = clock.clone();
        let observer = Box::new(move |all: Vec<Committed>| {
            for committed in all {
                match committed {
                    Committed::Alarm { alarm, receivers } => {
                        dispatched.lock().unwrap().push((alarm, receivers.iter().map(|to| to.user).collect()))
                    }
                    Committed::GoodsMade(goods) => clock_of.do_send(WatchGoods(goods)),
                    Committed::UserChanged(_) | Committed::LocaleChanged(_) | Committed::Room(_) => {}
                }
            }
        });
        let thread = opened.start_ledger(soft_close_ms, node_time, observer).unwrap();
        Self { store, ledger, thread, router, clock, gate, time }
    }

    /// Finishes what is queued and stops.
    pub fn stop(self) {
        self.thread.stop();
    }

    pub async fn write<W: Write>(&self, write: W) -> W::Out {
        self.ledger.write(write, STEP_TIMEOUT).await.expect("it is stored")
    }

    /// A bid arrives now; the answer comes over the channel.
    pub fn bid(&self, goods: i64, user: i64, price: i64) -> oneshot::Receiver<BidAnswer> {
        let (reply, answer) = BidReply::new();
        self.gate.arrive(self.time.as_ref(), |received_at| {
            let bid = Bid {
                goods: GoodsId::from_stored(goods),
                user: UserId::from_stored(user),
                price: Price::from_stored(price),
                received_at,
            };
            let bidder = Arc::new(User::first_seen(bid.user, None, None));
            let bid = KeyedBid { bid, bidder, key: None };
            let place = PlaceBid { bid, deadline: Instant::now() + STEP_TIMEOUT, reply };
            assert!(self.router.try_send(place).is_ok(), "the router takes it");
        });
        answer
    }

    /// Waits until everything that is due now is done.
    pub async fn settle(&self) {
        let give_up = Instant::now() + STEP_TIMEOUT;
        // A change during the first check is seen by the second one.
        let mut settled_checks = 0;
        while settled_checks < 2 {
            let now = self.time.now();
            let clock = self.clock.send(GetClockFigures).await.unwrap();
            let overdue = self.store.oldest_overdue(now).await.unwrap();
            let fanouts = self.ledger.figures().open_fanouts;
            let done = clock.last_tick == Some(now) && clock.under_way == 0 && fanouts == 0;
            if done && overdue.is_none() {
                settled_checks += 1;
                continue;
            }
            settled_checks = 0;
            assert!(Instant::now() < give_up, "at {now:?} not settled: {overdue:?}, {clock:?}, {fanouts} fan-outs");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
}
