//! Two ways to blind the auction clock that the day found, each by itself.

use std::{path::Path, sync::Arc};

use futures_util::future::join_all;
use handsup::{
    domain::{AlarmKind, GoodsId, NewGoods, Phase, Price, Timestamp, UserId},
    store::writes::{MakeGoods, SeeUser},
};

use super::{
    begin,
    house::{DayTime, Heard, House},
};

const HOUR_MS: i64 = 3_600_000;
const SELLER: i64 = 1;

async fn house(folder: &Path, time: &Arc<DayTime>, heard: &Heard) -> House {
    let house = House::open(&folder.join("x.db"), Arc::clone(time), 0, Arc::clone(heard));
    house.write(SeeUser { id: UserId::from_stored(SELLER), name: None, iat: None }).await;
    house.settle().await;
    house
}

async fn make(house: &House, starts_at: Timestamp, lasts_ms: i64) -> GoodsId {
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
    house.write(MakeGoods { seller: UserId::from_stored(SELLER), goods }).await.0
}

async fn phase(house: &House, goods: GoodsId) -> Phase {
    house.store.goods_detail(goods, None).await.unwrap().unwrap().facts.phase
}

/// Moves on in steps that a clock of its own would see, at least.
async fn go_on(house: &House, time: &DayTime, from: Timestamp, ms: i64) {
    for minute in 1..=ms / 60_000 {
        time.set(from.plus_ms(minute * 60_000));
        house.settle().await;
    }
}

#[actix::test]
async fn goods_made_after_the_clock_was_set_back_start_and_end_in_time() {
    let (folder, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let time = DayTime::at(begin());
    let house = house(folder.path(), &time, &heard).await;
    let set_back = begin().plus_ms(-HOUR_MS);
    time.set(set_back);
    house.settle().await;
    let goods = make(&house, set_back.plus_ms(HOUR_MS / 3), HOUR_MS / 6).await;
    go_on(&house, &time, set_back, HOUR_MS / 3).await;
    assert_eq!(phase(&house, goods).await, Phase::Live);
    go_on(&house, &time, set_back.plus_ms(HOUR_MS / 3), HOUR_MS / 6).await;
    assert_eq!(phase(&house, goods).await, Phase::Ended);
    let told: Vec<_> = heard.lock().unwrap().iter().map(|(alarm, _)| alarm.kind).collect();
    assert_eq!(told, [AlarmKind::AuctionUnsold]);
    house.stop();
}

#[actix::test]
async fn however_many_auctions_are_live_the_next_ones_start_and_end_in_time() {
    let (folder, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let time = DayTime::at(begin());
    let house = house(folder.path(), &time, &heard).await;
    join_all((0..1500).map(|_| make(&house, begin(), 24 * HOUR_MS))).await;
    let next = make(&house, begin().plus_ms(HOUR_MS / 2), HOUR_MS / 6).await;
    house.settle().await;
    go_on(&house, &time, begin(), HOUR_MS / 2).await;
    assert_eq!(phase(&house, next).await, Phase::Live);
    go_on(&house, &time, begin().plus_ms(HOUR_MS / 2), HOUR_MS / 6).await;
    assert_eq!(phase(&house, next).await, Phase::Ended);
    house.stop();
}
