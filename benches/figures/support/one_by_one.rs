//! The reference of the bids: the same store, one bid a transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
        mpsc::{Sender, channel},
    },
    time::{Duration, Instant},
};

use handsup::{
    domain::{Bid, GoodsId, Price, User, UserId},
    store::{
        DatabaseUrl, Ledger, LedgerRules, Store,
        writes::{BidVerdict, KeyedBid, PlaceBids},
    },
    time_source::{SystemTime, TimeSource},
};

use super::bench_database::{BenchDatabase, FIRST_BIDDER};

struct Course {
    ledger: Ledger,
    goods: Vec<i64>,
    until: Instant,
    accepted: AtomicI64,
    over: Sender<()>,
}

/// Accepted bids a second. Each is handed in the moment that the one before it is answered, by the ledger's own thread:
/// nobody has to be woken in between, so this is as fast as one bid a transaction can be.
pub fn bids_per_second(lasts: Duration, goods: usize) -> f64 {
    let database = BenchDatabase::new();
    let goods = database.with_auctions(2, goods);
    let opened = Store::open(&DatabaseUrl::parse(&database.url).unwrap(), 1).unwrap();
    let rules = LedgerRules { soft_close_ms: 0, several_writers: false };
    let thread = opened.start_ledger(rules, Arc::new(SystemTime), Box::new(|_| {})).unwrap();
    let (over, told) = channel();
    let begun = Instant::now();
    let course = Course { ledger: thread.ledger(), goods, until: begun + lasts, accepted: AtomicI64::new(0), over };
    let course = Arc::new(course);
    bid(&course);
    told.recv().expect("the last bid is answered");
    let rate = course.accepted.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    thread.stop();
    rate
}

fn bid(course: &Arc<Course>) {
    let nth = course.accepted.load(Ordering::Relaxed);
    let goods = GoodsId::from_stored(course.goods[nth as usize % course.goods.len()]);
    // Two bidders in turn on each of the goods: somebody is always outbid.
    let user = UserId::from_stored(FIRST_BIDDER + nth / course.goods.len() as i64 % 2);
    let bid_of = Bid { goods, user, price: Price::from_stored(1000 + nth), received_at: SystemTime.now() };
    let keyed = KeyedBid { bid: bid_of, bidder: Arc::new(User::first_seen(user, None, None)), key: None };
    let next = Arc::clone(course);
    let deadline = Instant::now() + Duration::from_secs(60);
    course.ledger.submit(PlaceBids { goods, bids: vec![keyed] }, deadline, move |placed| {
        let placed = placed.expect("it is stored");
        assert!(matches!(placed.verdicts[..], [BidVerdict::Accepted(_)]), "{:?}", placed.verdicts);
        next.accepted.fetch_add(1, Ordering::Relaxed);
        if Instant::now() < next.until { bid(&next) } else { next.over.send(()).unwrap() }
    });
}
