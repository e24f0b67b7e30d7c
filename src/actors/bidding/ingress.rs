//! Where bids come in, over HTTP and over a room's socket alike: stamped with their arrival and handed to the desk in one
//! go, answered within the time that a 503 may take, and counted, so that a node that ends can finish them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix::Addr;

use super::{
    arrival_gate::ArrivalGate,
    bid_actor::{BidAnswer, BidReply},
    bid_router::{BidRouter, PlaceBid},
    committed_goods::CommittedGoods,
    load_shedder::LoadShedder,
};
use crate::{
    domain::{Bid, GoodsId, IdempotencyKey, Price, User},
    store::{
        Ledger, WriteError,
        writes::{BidVerdict, KeyedBid},
    },
    time_source::TimeSource,
};

/// A bid that still waits after this is dropped unjudged …
const DEADLINE: Duration = Duration::from_millis(2000);
/// … and its caller is told by this at the latest: a 503 comes within 3 s.
const ANSWER_BY: Duration = Duration::from_millis(2700);
/// … or after this, however long his own row took.
const LEAST: Duration = Duration::from_millis(200);

/// A bid that is about to arrive.
#[derive(Debug)]
pub struct ArrivingBid {
    /// On which goods.
    pub goods: GoodsId,
    /// Who bids.
    pub bidder: Arc<User>,
    /// What.
    pub price: Price,
    /// Its `Idempotency-Key`, if it has one.
    pub key: Option<IdempotencyKey>,
    /// What of the time for its answer has been spent already.
    pub spent: Duration,
}

/// One for the whole node.
pub struct BidIngress {
    desk: Addr<BidRouter>,
    gate: Arc<ArrivalGate>,
    time: Arc<dyn TimeSource>,
    known: Arc<CommittedGoods>,
    ledger: Ledger,
    draining: AtomicBool,
    in_flight: AtomicUsize,
    pressure: Mutex<LoadShedder>,
    shed: AtomicU64,
}

/// Counts a bid as being answered for as long as it lives.
struct InFlight(Arc<BidIngress>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl BidIngress {
    /// The entrance to this desk, whose actors know `known`, before this ledger.
    pub fn new(
        desk: Addr<BidRouter>,
        known: Arc<CommittedGoods>,
        ledger: Ledger,
        gate: Arc<ArrivalGate>,
        time: Arc<dyn TimeSource>,
    ) -> Arc<Self> {
        let (draining, in_flight, shed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { desk, gate, time, known, ledger, draining, in_flight, pressure: Mutex::default(), shed })
    }

    /// What can be said of a bid at once, without handing it on. One with a key always goes to the ledger: its first answer
    /// may be kept there.
    fn answer_at_once(&self, bid: &KeyedBid) -> Option<BidAnswer> {
        if self.is_draining() || self.ledger.is_lost() {
            return Some(BidAnswer::Failed(WriteError::NotStored));
        }
        if bid.key.is_none()
            && let Some(refusal) = self.known.certain_refusal(&bid.bid)
        {
            return Some(BidAnswer::Verdict(BidVerdict::Refused(refusal)));
        }
        let (waiting, each) = (self.in_flight(), self.ledger.time_each());
        // What stands inside is whole between any two statements.
        let mut pressure = self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        pressure.is_too_much(waiting, each, Instant::now()).then(|| {
            self.shed.fetch_add(1, Ordering::Relaxed);
            BidAnswer::Failed(WriteError::NotStored)
        })
    }

    /// Bids refused because too many waited already.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// The bid arrives now: it is stamped, and answered or handed on before this returns. What becomes of it is awaited.
    pub fn arrive(self: &Arc<Self>, bid: ArrivingBid) -> impl Future<Output = BidAnswer> + use<> {
        // Counted before it is looked whether the node is about to end: who waits for those on their way sees this one.
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let in_flight = InFlight(Arc::clone(self));
        let ArrivingBid { goods, bidder, price, key, spent } = bid;
        // Nothing waits between the stamp and the desk's mailbox. A full one drops the reply, which says so.
        let (at_once, answer) = self.gate.arrive(self.time.as_ref(), |received_at| {
            let bid = Bid { goods, user: bidder.id, price, received_at };
            let bid = KeyedBid { bid, bidder, key };
            if let Some(answer) = self.answer_at_once(&bid) {
                return (Some(answer), None);
            }
            let (reply, answer) = BidReply::new();
            let deadline = Instant::now() + DEADLINE.saturating_sub(spent);
            let _ = self.desk.try_send(PlaceBid { bid, deadline, reply });
            (None, Some(answer))
        });
        async move {
            let _in_flight = in_flight;
            let Some(answer) = answer else {
                return at_once.unwrap_or(BidAnswer::Failed(WriteError::NotStored));
            };
            match tokio::time::timeout(ANSWER_BY.saturating_sub(spent).max(LEAST), answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => BidAnswer::Failed(WriteError::Unknown),
            }
        }
    }

    /// No new bids from here on: the node is about to end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Bids that are being answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::{
        domain::UserId,
        store::{DatabaseUrl, LedgerRules, Nodes, Store, StoreError, Tx, Write},
        time_source::SystemTime,
    };

    /// Takes as long as a slow disk takes for many bids.
    struct Slow;

    impl Write for Slow {
        type Out = ();

        fn weight(&self) -> Option<usize> {
            Some(1000)
        }

        fn run(&self, _: &mut Tx<'_>) -> Result<(), StoreError> {
            let until = Instant::now() + Duration::from_secs(1);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
            }
            Ok(())
        }
    }

    #[actix::test]
    async fn bids_that_would_wait_for_too_long_are_refused_at_once_and_the_others_are_judged() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::parse(&format!("sqlite://{}", folder.path().join("x.db").display())).unwrap();
        let rules = LedgerRules { soft_close_ms: 0, several_writers: false };
        let opened = Store::open(&url, 1).unwrap();
        let thread = opened.start_ledger(rules, Arc::new(SystemTime), Box::new(|_| {})).unwrap();
        let ledger = thread.ledger();
        let desk = BidRouter::open(ledger.clone(), Nodes::One, Arc::default());
        let (known, gate) = (Arc::default(), Arc::new(ArrivalGate::default()));
        let entrance = BidIngress::new(desk, known, ledger.clone(), gate, Arc::new(SystemTime));
        ledger.write(Slow, Duration::from_secs(5)).await.unwrap();
        assert!(ledger.time_each() >= Duration::from_millis(1));

        let arrive = |goods| {
            let user = User::first_seen(UserId::from_stored(2), None, None);
            let (goods, price) = (GoodsId::from_stored(goods), Price::from_stored(1000));
            let spent = Duration::ZERO;
            entrance.arrive(ArrivingBid { goods, bidder: Arc::new(user), price, key: None, spent })
        };
        // Nobody else runs on this thread before something is awaited: they come at once.
        let (mut waiting, mut refused) = (Vec::new(), 0);
        for goods in 1..=300 {
            let mut bid = Box::pin(arrive(goods));
            match futures_util::poll!(&mut bid) {
                std::task::Poll::Pending => waiting.push(bid),
                std::task::Poll::Ready(answer) => {
                    assert_eq!(answer, BidAnswer::Failed(WriteError::NotStored));
                    refused += 1;
                }
            }
        }
        // 41 of them take longer than a burst may, but a batch is always taken.
        assert_eq!((waiting.len(), refused, entrance.shed()), (127, 173, 173));
        let answers = join_all(waiting).await;
        assert!(answers.iter().all(|answer| *answer == BidAnswer::Verdict(BidVerdict::UnknownGoods)), "{answers:?}");
        assert_eq!(entrance.in_flight(), 0);
        assert_eq!(arrive(301).await, BidAnswer::Verdict(BidVerdict::UnknownGoods), "taken again at once");
    }
}
