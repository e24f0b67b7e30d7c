//! Tests of one large room, on one thread: what waits for its sockets is bounded however many users join at once, and
//! one bid is encoded once for all sockets.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::Addr;

use super::rooms::{AttachShardToRooms, BroadcastRoomEvents, EnterRoom, Rooms};
use crate::actors::delivery::{
    outbox::{Outbox, OutboxLimits},
    receipts::Receipts,
    shard::Shard,
    shard_stats::{ShardStats, WorkerStats},
    worker_outboxes::WorkerOutboxes,
};
use crate::actors::room_id::RoomId;
use crate::{
    bus::{ConnectionId, Topology},
    domain::{Bid, BidId, BidSeq, GoodsId, Price, Timestamp, User, UserId},
    store::{self, RoomEvent, writes::StoredBid},
    time_source::SystemTime,
};

/// The defaults of the settings.
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
        bid: StoredBid {
            id: BidId::from_stored(seq),
            bid,
            high_price: price,
            seq: BidSeq::from_stored(seq),
            ends_at: at,
        },
        bidder: user(1),
    }
}

/// The rooms of a node with this many workers, and the workers' shards.
fn rooms(workers: usize) -> (Addr<Rooms>, Vec<WorkerOutboxes>) {
    let stats = Arc::new(ShardStats::default());
    let (_folder, opened) = store::test_support::open();
    let rooms = Rooms::open(
        chrono_tz::UTC,
        Arc::new(SystemTime),
        Arc::clone(&stats),
        Arc::default(),
        LIMITS.bytes,
        (opened.store, &Topology::Single),
    );
    let shards = (0..workers).map(|index| {
        let (shard, link) = Shard::start(index, 60, Arc::clone(&stats), Receipts::new(|_| {}));
        rooms.do_send(AttachShardToRooms(link));
        shard
    });
    let shards = shards.collect();
    (rooms, shards)
}

/// Opens a visitor's socket in the room; `worker` counts the frames that wait for it.
async fn enter(
    rooms: &Addr<Rooms>,
    shard: &WorkerOutboxes,
    connection: ConnectionId,
    worker: &Arc<WorkerStats>,
) -> Rc<RefCell<Outbox>> {
    let outbox = Rc::new(RefCell::new(Outbox::of_room(LIMITS, Arc::clone(worker))));
    shard.add_session(connection, Rc::clone(&outbox), Some(ROOM));
    assert!(rooms.send(EnterRoom { room: ROOM, user: None, connection, is_over: false }).await.unwrap());
    outbox
}

/// Lets every actor handle the messages it has.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn a_client_that_reads_is_not_too_slow_for_events_behind_many_joins() {
    let (rooms, shards) = rooms(1);
    let worker = Arc::<WorkerStats>::default();
    let witness = enter(&rooms, &shards[0], ConnectionId(0), &worker).await;
    let read = |received: &mut Vec<u8>| {
        while let Some(chunk) = witness.borrow_mut().take() {
            received.extend_from_slice(&chunk.bytes());
        }
    };
    let mut received = Vec::new();
    // Gather intervals broadcast only some of these joins before the bids come. The rest is more than may wait for a
    // socket.
    for id in 1..=25_000 {
        let enter = EnterRoom {
            room: ROOM,
            user: Some(user(id)),
            connection: ConnectionId(id.cast_unsigned()),
            is_over: false,
        };
        assert!(rooms.send(enter).await.unwrap());
        read(&mut received);
    }
    // The witness now reads nothing until a gather interval has ended once more, between the bids.
    for seq in [1, 3, 5] {
        if seq == 5 {
            let before = worker.waiting.load(Ordering::Relaxed);
            let tick = async {
                while worker.waiting.load(Ordering::Relaxed) == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), tick).await.expect("the gather interval ends");
        }
        rooms.send(BroadcastRoomEvents(vec![bid(seq), bid(seq + 1)])).await.unwrap();
        settle().await;
    }
    assert!(!witness.borrow().is_closed());
    read(&mut received);
    assert_eq!(String::from_utf8_lossy(&received).matches("\"response_type\":\"bid\"").count(), 6);
}

#[actix::test]
async fn one_bid_is_encoded_once_for_all_sockets() {
    let (rooms, shards) = rooms(2);
    let mut outboxes = Vec::new();
    for connection in 0..50 {
        let shard = &shards[usize::from(connection % 2 == 0)];
        outboxes.push(enter(&rooms, shard, ConnectionId(connection), &Arc::default()).await);
    }
    rooms.send(BroadcastRoomEvents(vec![bid(1)])).await.unwrap();
    settle().await;
    let frames: Vec<_> = outboxes.iter().map(|outbox| outbox.borrow_mut().take().unwrap().bytes()).collect();
    assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()), "the same bytes, not equal ones");
}
