//! The end of the day: what is stored is what was sent and what the model says.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use handsup::test_support::{
    domain::{AlarmId, AlarmKind, GoodsId, Phase, UserId},
    store::{AlarmQuery, GoodsDetail, Store},
};

use super::{
    Day,
    model::Auction,
    test_service::{READERS, TestService},
};

/// Concurrent reads: one for each connection, so that none waits on a slow machine.
const CONCURRENT_READS: usize = READERS as usize;
const PAGE: i64 = 200;

impl Day {
    pub async fn check_stored(&self) {
        let service = TestService::open(&self.database(), Arc::clone(&self.time), 0, Arc::clone(&self.dispatched));
        service.settle().await;
        assert!(self.dispatched.lock().unwrap().is_empty(), "nothing is sent again");
        let store = &service.store;
        let all: Vec<_> = self.auctions.values().collect();
        let mut rooms = BTreeSet::new();
        for some in all.chunks(CONCURRENT_READS) {
            let details = join_all(some.iter().map(|auction| check_goods(store, auction))).await;
            for room in details.iter().filter_map(|goods| goods.card.facts.trade_room) {
                assert!(rooms.insert(room), "trade room {room} has two auctions");
            }
        }
        let inboxes: Vec<_> = self.inboxes.iter().collect();
        for some in inboxes.chunks(CONCURRENT_READS) {
            join_all(some.iter().map(|(user, sent)| check_inbox(store, **user, sent))).await;
        }
        service.stop();
    }
}

async fn check_goods(store: &Store, auction: &Auction) -> GoodsDetail {
    let id = GoodsId::from_stored(auction.id);
    let goods = store.goods_detail(id, None).await.unwrap().unwrap();
    let buyer = auction.bids.last().map(|bid| bid.0);
    assert_eq!((goods.card.facts.phase, goods.card.facts.ends_at), (Phase::Ended, auction.ends_at), "{auction:?}");
    assert_eq!(goods.card.buyer.as_ref().map(|buyer| buyer.id.get()), buyer, "{auction:?}");
    assert_eq!(goods.card.facts.trade_room.is_some(), buyer.is_some(), "a room is for a buyer: {auction:?}");
    assert_eq!((goods.card.facts.high_price, goods.card.facts.bid_seq), (auction.high(), auction.bids.len() as i64));
    let (mut stored, mut after) = (Vec::new(), 0);
    loop {
        let page = store.bids_after(id, after, PAGE).await.unwrap().unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        stored.extend(page.into_iter().map(|bid| (bid.seq, (bid.user_id, bid.price, bid.created_at))));
    }
    assert!(stored.is_sorted_by(|a, b| a.1.1 < b.1.1), "prices strictly rise: {stored:?}");
    assert_eq!(stored, (1..).zip(auction.bids.iter().copied()).collect::<Vec<_>>(), "{auction:?}");
    goods
}

async fn check_inbox(store: &Store, user: i64, sent: &[(AlarmId, AlarmKind, i64)]) {
    let (mut stored, mut after) = (Vec::new(), 0);
    loop {
        let query = AlarmQuery { after: Some(after), before: None, unread: false, limit: PAGE };
        let page = store.inbox(UserId::from_stored(user), query).await.unwrap().alarms;
        let Some(last) = page.last() else { break };
        after = last.alarm.id.get();
        stored.extend(page.into_iter().map(|row| (row.alarm.id, row.alarm.kind, row.alarm.goods.unwrap().get())));
    }
    assert!(stored.is_sorted_by(|a, b| a.0 < b.0), "ids strictly rise in the inbox of {user}");
    assert_eq!(stored, sent, "the alarms of user {user}");
}
