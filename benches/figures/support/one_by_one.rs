//! The reference of the bids: the same store with one bid a transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
        mpsc::{Sender, channel},
    },
    time::{Duration, Instant},
};

use handsup::test_support::{
    domain::{Bid, GoodsId, Price, User, UserId},
    store::{
        DatabaseUrl, Ledger, Store,
        writes::{BidVerdict, KeyedBid, PlaceBids},
    },
    time_source::{SystemTime, TimeSource},
};

use super::bench_database::{BenchDatabase, FIRST_BIDDER};

struct BidLoad {
    ledger: Ledger,
    goods: Vec<i64>,
    until: Instant,
    accepted: AtomicI64,
    over: Sender<()>,
}

/// Accepted bids a second. The ledger's own thread submits each bid the moment that the one before it is answered, so
/// no thread has to be woken: this is as fast as one bid a transaction can be.
pub fn bids_per_second(lasts: Duration, goods: usize) -> f64 {
    let database = BenchDatabase::new();
    let goods = database.with_auctions(2, goods);
    let opened = Store::open(&DatabaseUrl::parse(&database.url).unwrap(), 1).unwrap();
    let thread = opened.start_ledger(0, Arc::new(SystemTime), Box::new(|_| {})).unwrap();
    let (over, receiver) = channel();
    let begun = Instant::now();
    let load = BidLoad { ledger: thread.ledger(), goods, until: begun + lasts, accepted: AtomicI64::new(0), over };
    let load = Arc::new(load);
    bid(&load);
    receiver.recv().expect("the last bid is answered");
    let rate = load.accepted.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    thread.stop();
    rate
}

fn bid(load: &Arc<BidLoad>) {
    let nth = load.accepted.load(Ordering::Relaxed);
    let goods = GoodsId::from_stored(load.goods[nth as usize % load.goods.len()]);
    // Two bidders in turn on each goods item, so that each bid outbids one.
    let user = UserId::from_stored(FIRST_BIDDER + nth / load.goods.len() as i64 % 2);
    let bid_of = Bid { goods, user, price: Price::from_stored(1000 + nth), received_at: SystemTime.now() };
    let keyed = KeyedBid { bid: bid_of, bidder: Arc::new(User::first_seen(user, None, None)), key: None };
    let next = Arc::clone(load);
    let deadline = Instant::now() + Duration::from_secs(60);
    load.ledger.submit(PlaceBids { goods, bids: vec![keyed] }, deadline, move |placed| {
        let placed = placed.expect("it is stored");
        assert!(matches!(placed.verdicts[..], [BidVerdict::Accepted(_)]), "{:?}", placed.verdicts);
        next.accepted.fetch_add(1, Ordering::Relaxed);
        if Instant::now() < next.until { bid(&next) } else { next.over.send(()).unwrap() }
    });
}
