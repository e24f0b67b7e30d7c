//! A crowd in one room, on one thread: what its sockets hear is bounded however many come at once, and one bid is encoded
//! once for all of them.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::Addr;

use super::rooms::{Enter, OpenToShard, Rooms, TellRooms};
use crate::actors::delivery::{
    outbox::{Outbox, OutboxLimits},
    received::Receipts,
    shard::{Shard, ShardHandle, ShardStats},
};
use crate::actors::room_id::RoomId;
use crate::{
    domain::{Bid, BidId, GoodsId, Price, Timestamp, User, UserId},
    store::{RoomEvent, writes::StoredBid},
    time_source::SystemTime,
};

/// As the settings have it.
const LIMITS: OutboxLimits = OutboxLimits { frames: 1024, bytes: 1 << 20 };
const GOODS: GoodsId = GoodsId::from_stored(1);
const ROOM: RoomId = RoomId::Auction(GOODS);

fn user(id: i64) -> Arc<User> {
    Arc::new(User::first_seen(UserId::from_stored(id), None, None))
}

fn bid(seq: i64) -> RoomEvent {
    let (at, price) = (Timestamp::from_secs(100), Price::from_stored(1000 + seq));
    let bid = Bid { goods: GOODS, user: user(1).id, price, received_at: at };
    RoomEvent::Bid {
        bid: StoredBid { id: BidId::from_stored(seq), bid, high_price: price, seq, ends_at: at },
        bidder: user(1),
    }
}

/// The rooms of a node with so many workers.
fn rooms(workers: usize) -> (Addr<Rooms>, Vec<ShardHandle>) {
    let stats = Arc::new(ShardStats::default());
    let rooms = Rooms::open(chrono_tz::UTC, Arc::new(SystemTime), Arc::clone(&stats), Arc::default(), LIMITS.bytes);
    let shards = (0..workers).map(|index| {
        let (shard, link) = Shard::start(index, 60, Arc::clone(&stats), Receipts::told_to(|_| {}));
        rooms.do_send(OpenToShard(link));
        shard
    });
    let shards = shards.collect();
    (rooms, shards)
}

/// A visitor's socket in the room; `waiting` counts what waits for it.
async fn enter(
    rooms: &Addr<Rooms>,
    shard: &ShardHandle,
    connection: u64,
    waiting: &Arc<AtomicUsize>,
) -> Rc<RefCell<Outbox>> {
    let outbox = Rc::new(RefCell::new(Outbox::of_room(LIMITS, Arc::clone(waiting))));
    shard.seat(connection, Rc::clone(&outbox), Some(ROOM));
    assert!(rooms.send(Enter { room: ROOM, user: None, connection, is_over: false }).await.unwrap());
    outbox
}

/// Whoever has something to do has done it.
async fn all_is_quiet() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn nobody_who_reads_is_too_slow_for_news_behind_a_crowd() {
    let (rooms, shards) = rooms(1);
    let waiting = Arc::<AtomicUsize>::default();
    let witness = enter(&rooms, &shards[0], 0, &waiting).await;
    let read = |heard: &mut Vec<u8>| {
        while let Some(chunk) = witness.borrow_mut().take() {
            heard.extend_from_slice(&chunk.bytes());
        }
    };
    let mut heard = Vec::new();
    // Only some of them are told by themselves before the bids come, and the others are more than may wait for a socket.
    for id in 1..=25_000 {
        let enter = Enter { room: ROOM, user: Some(user(id)), connection: id.cast_unsigned(), is_over: false };
        assert!(rooms.send(enter).await.unwrap());
        read(&mut heard);
    }
    // From here on he reads nothing until the room has told of them by itself once more, between the bids.
    for seq in [1, 3, 5] {
        if seq == 5 {
            let before = waiting.load(Ordering::Relaxed);
            let tick = async {
                while waiting.load(Ordering::Relaxed) == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), tick).await.expect("it is told");
        }
        rooms.send(TellRooms(vec![bid(seq), bid(seq + 1)])).await.unwrap();
        all_is_quiet().await;
    }
    assert!(!witness.borrow().is_closed());
    read(&mut heard);
    assert_eq!(String::from_utf8_lossy(&heard).matches("\"response_type\":\"bid\"").count(), 6);
}

#[actix::test]
async fn one_bid_is_encoded_once_for_everybody() {
    let (rooms, shards) = rooms(2);
    let mut outboxes = Vec::new();
    for connection in 0..50 {
        let shard = &shards[usize::from(connection % 2 == 0)];
        outboxes.push(enter(&rooms, shard, connection, &Arc::default()).await);
    }
    rooms.send(TellRooms(vec![bid(1)])).await.unwrap();
    all_is_quiet().await;
    let frames: Vec<_> = outboxes.iter().map(|outbox| outbox.borrow_mut().take().unwrap().bytes()).collect();
    assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()), "the same bytes, not equal ones");
}
