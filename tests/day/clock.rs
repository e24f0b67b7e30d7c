//! Two situations in which the auction clock once missed deadlines, found by the day.

use std::{path::Path, sync::Arc};

use futures_util::future::join_all;
use handsup::test_support::{
    domain::{AlarmKind, GoodsId, NewGoods, Phase, Price, Timestamp, UserId},
    store::writes::{CreateGoods, EnsureUser},
};

use super::{
    begin,
    test_service::{DayTime, DispatchedAlarms, TestService},
};

const HOUR_MS: i64 = 3_600_000;
const SELLER: i64 = 1;

async fn service(folder: &Path, time: &Arc<DayTime>, dispatched: &DispatchedAlarms) -> TestService {
    let service = TestService::open(&folder.join("x.db"), Arc::clone(time), 0, Arc::clone(dispatched));
    service.write(EnsureUser { id: UserId::from_stored(SELLER), name: None, iat: None }).await;
    service.settle().await;
    service
}

async fn make(service: &TestService, starts_at: Timestamp, lasts_ms: i64) -> GoodsId {
    let price = Price::from_stored(1);
    let goods = NewGoods {
        title: "t".into(),
        content: String::new(),
        category: String::new(),
        start_price: price,
        predict_price: price,
        min_increment: price,
        starts_at,
        ends_at: starts_at.plus_ms(lasts_ms),
        images: Vec::new(),
    };
    service.write(CreateGoods { seller: UserId::from_stored(SELLER), goods }).await.0
}

async fn phase(service: &TestService, goods: GoodsId) -> Phase {
    service.store.goods_detail(goods, None).await.unwrap().unwrap().card.facts.phase
}

/// Moves the time in steps of at most a minute, as a running clock would see it.
async fn advance(service: &TestService, time: &DayTime, from: Timestamp, ms: i64) {
    for minute in 1..=ms / 60_000 {
        time.set(from.plus_ms(minute * 60_000));
        service.settle().await;
    }
}

#[actix::test]
async fn goods_made_after_the_clock_was_set_back_start_and_end_in_time() {
    let (folder, dispatched) = (tempfile::tempdir().unwrap(), DispatchedAlarms::default());
    let time = DayTime::at(begin());
    let service = service(folder.path(), &time, &dispatched).await;
    let set_back = begin().plus_ms(-HOUR_MS);
    time.set(set_back);
    service.settle().await;
    let goods = make(&service, set_back.plus_ms(HOUR_MS / 3), HOUR_MS / 6).await;
    advance(&service, &time, set_back, HOUR_MS / 3).await;
    assert_eq!(phase(&service, goods).await, Phase::Live);
    advance(&service, &time, set_back.plus_ms(HOUR_MS / 3), HOUR_MS / 6).await;
    assert_eq!(phase(&service, goods).await, Phase::Ended);
    let kinds: Vec<_> = dispatched.lock().unwrap().iter().map(|(alarm, _)| alarm.kind).collect();
    assert_eq!(kinds, [AlarmKind::AuctionUnsold]);
    service.stop();
}

#[actix::test]
async fn the_next_auctions_start_and_end_in_time_however_many_are_live() {
    let (folder, dispatched) = (tempfile::tempdir().unwrap(), DispatchedAlarms::default());
    let time = DayTime::at(begin());
    let service = service(folder.path(), &time, &dispatched).await;
    join_all((0..1500).map(|_| make(&service, begin(), 24 * HOUR_MS))).await;
    let next = make(&service, begin().plus_ms(HOUR_MS / 2), HOUR_MS / 6).await;
    service.settle().await;
    advance(&service, &time, begin(), HOUR_MS / 2).await;
    assert_eq!(phase(&service, next).await, Phase::Live);
    advance(&service, &time, begin().plus_ms(HOUR_MS / 2), HOUR_MS / 6).await;
    assert_eq!(phase(&service, next).await, Phase::Ended);
    service.stop();
}
