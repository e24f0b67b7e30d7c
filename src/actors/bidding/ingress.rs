//! The entry of every bid, from HTTP and from a room's socket. It stamps a bid with its arrival and sends it to the
//! router in one step, answers it within the time that the contract allows for a 503, and counts it, so that a node
//! that shuts down can finish its bids.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix::Addr;

use super::{
    arrival_gate::ArrivalGate,
    bid_actor::{BidAnswer, BidReply},
    bid_router::{BidRouter, PlaceBid},
    bid_stats::{BidStats, Door},
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

/// A bid that waits longer than this is dropped unjudged.
const BID_TIMEOUT: Duration = Duration::from_millis(2000);
/// A bid that has no answer by then is answered "unknown": the contract wants a 503 within 3 s.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2700);
/// The least time for an answer, however much `spent` leaves.
const MIN_ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// A bid that is read and authenticated but not stamped yet.
#[derive(Debug)]
pub(crate) struct ArrivingBid {
    pub door: Door,
    pub goods: GoodsId,
    pub bidder: Arc<User>,
    pub price: Price,
    pub key: Option<IdempotencyKey>,
    /// How much of the time for its answer is spent already.
    pub spent: Duration,
}

/// Takes in every bid; there is one per node.
pub(crate) struct BidIngress {
    router: Addr<BidRouter>,
    gate: Arc<ArrivalGate>,
    time: Arc<dyn TimeSource>,
    committed: Arc<CommittedGoods>,
    ledger: Ledger,
    draining: AtomicBool,
    in_flight: AtomicUsize,
    shedder: Mutex<LoadShedder>,
    stats: BidStats,
}

/// Counts a bid as in flight as long as it lives, and then its answer.
struct InFlight {
    ingress: Arc<BidIngress>,
    door: Door,
    since: Instant,
    is_answered: bool,
}

impl InFlight {
    fn answered(mut self, answer: BidAnswer) -> BidAnswer {
        self.is_answered = true;
        self.ingress.stats.answered(self.door, Some(&answer), self.since.elapsed());
        answer
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.ingress.in_flight.fetch_sub(1, Ordering::AcqRel);
        if !self.is_answered {
            self.ingress.stats.answered(self.door, None, self.since.elapsed());
        }
    }
}

impl BidIngress {
    /// Creates the ingress of `router`. `committed` is what the router's actors share; `stats` counts for both.
    pub(crate) fn new(
        router: Addr<BidRouter>,
        committed: Arc<CommittedGoods>,
        ledger: Ledger,
        gate: Arc<ArrivalGate>,
        time: Arc<dyn TimeSource>,
        stats: BidStats,
    ) -> Arc<Self> {
        let (draining, in_flight) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { router, gate, time, committed, ledger, draining, in_flight, shedder: Mutex::default(), stats })
    }

    /// The answer to a bid that need not be sent on. A bid with an idempotency key is never refused from committed
    /// facts: the ledger may hold its first answer.
    fn answer_at_once(&self, bid: &KeyedBid) -> Option<BidAnswer> {
        if self.is_draining() || self.ledger.is_lost() {
            return Some(BidAnswer::Failed(WriteError::NotStored));
        }
        if bid.key.is_none()
            && let Some(refusal) = self.committed.certain_refusal(&bid.bid)
        {
            return Some(BidAnswer::Verdict(BidVerdict::Refused(refusal)));
        }
        let (waiting, each) = (self.in_flight(), self.ledger.time_per_write());
        // A panic of another holder leaves the shedder usable.
        let mut shedder = self.shedder.lock().unwrap_or_else(PoisonError::into_inner);
        shedder.should_shed(waiting, each, Instant::now()).then(|| {
            self.stats.shed.inc();
            BidAnswer::Failed(WriteError::NotStored)
        })
    }

    /// What this and the router count.
    pub(crate) fn stats(&self) -> &BidStats {
        &self.stats
    }

    /// Stamps the bid and answers it or sends it on before this returns. The future gives the answer.
    pub(crate) fn arrive(self: &Arc<Self>, bid: ArrivingBid) -> impl Future<Output = BidAnswer> + use<> {
        // Counted before `is_draining` is checked, so that a drain that waits for bids in flight sees this one.
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let ArrivingBid { door, goods, bidder, price, key, spent } = bid;
        let in_flight = InFlight { ingress: Arc::clone(self), door, since: Instant::now(), is_answered: false };
        // Nothing waits between the stamp and the router's mailbox. A full mailbox drops the reply: "not stored".
        let (at_once, answer) = self.gate.arrive(self.time.as_ref(), |received_at| {
            let bid = Bid { goods, user: bidder.id, price, received_at };
            let bid = KeyedBid { bid, bidder, key };
            if let Some(answer) = self.answer_at_once(&bid) {
                return (Some(answer), None);
            }
            let (reply, answer) = BidReply::new();
            let deadline = Instant::now() + BID_TIMEOUT.saturating_sub(spent);
            if self.router.try_send(PlaceBid { bid, deadline, reply }).is_err() {
                self.stats.turned_away.inc();
            }
            (None, Some(answer))
        });
        async move {
            let Some(answer) = answer else {
                return in_flight.answered(at_once.unwrap_or(BidAnswer::Failed(WriteError::NotStored)));
            };
            let answer_timeout = ANSWER_TIMEOUT.saturating_sub(spent).max(MIN_ANSWER_TIMEOUT);
            in_flight.answered(match tokio::time::timeout(answer_timeout, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => BidAnswer::Failed(WriteError::Unknown),
            })
        }
    }

    /// Answers every further bid "not stored": the node is shutting down.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node is shutting down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Number of bids without an answer yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::{
        domain::UserId,
        store::{self, Sharing, StoreError, Tx, Write},
        time_source::SystemTime,
    };

    /// Takes as long as many bids on a slow disk.
    struct SlowWrite;

    impl Write for SlowWrite {
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
    async fn bids_that_would_wait_too_long_are_refused_at_once_and_the_others_are_judged() {
        let (_folder, opened) = store::test_support::open();
        let ledger = opened.ledger.clone();
        let _thread = opened.start_ledger(0, Arc::new(SystemTime), Box::new(|_| {})).unwrap();
        let (committed, gate) = (Arc::new(CommittedGoods::new(Sharing::Exclusive)), Arc::new(ArrivalGate::default()));
        let router = BidRouter::open(ledger.clone(), Arc::clone(&committed));
        let stats = BidStats::default();
        let ingress = BidIngress::new(router, committed, ledger.clone(), gate, Arc::new(SystemTime), stats);
        ledger.write(SlowWrite, Duration::from_secs(5)).await.unwrap();
        assert!(ledger.time_per_write() >= Duration::from_millis(1));

        let arrive = |goods| {
            let user = User::first_seen(UserId::from_stored(2), None, None);
            let (goods, price) = (GoodsId::from_stored(goods), Price::from_stored(1000));
            let spent = Duration::ZERO;
            ingress.arrive(ArrivingBid { door: Door::Http, goods, bidder: Arc::new(user), price, key: None, spent })
        };
        // Nothing else runs on this thread before an await, so all bids arrive at once.
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
        // 41 of them take longer than a burst may, but one batch is always admitted.
        assert_eq!((waiting.len(), refused, ingress.stats().shed.get()), (127, 173, 173));
        let answers = join_all(waiting).await;
        assert!(answers.iter().all(|answer| *answer == BidAnswer::Verdict(BidVerdict::UnknownGoods)), "{answers:?}");
        assert_eq!(ingress.in_flight(), 0);
        assert_eq!(arrive(301).await, BidAnswer::Verdict(BidVerdict::UnknownGoods), "admitted again at once");
    }
}
