//! What becomes of those who miss something because a mailbox was full: of alarms they read the store, of rooms they are
//! told to come back. On one thread, where nobody reads a mailbox before somebody waits.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::rooms::{Enter, OpenToShard, Rooms, TellRooms};
use crate::actors::delivery::{
    alarm_hub::{AlarmHub, AttachShard, Deliver, GetHubFigures},
    frame::Chunk,
    outbox::{Outbox, OutboxLimits},
    overflow::OverflowFlag,
    received::Receipts,
    shard::{Delivery, Push, RoomOrder, RoomPush, Shard, ShardHandle, ShardLink, ShardStats},
};
use crate::actors::room_id::RoomId;
use crate::{
    domain::{GoodsId, Locale},
    protocol::Close,
    store::RoomEvent,
    time_source::SystemTime,
};

/// Longer than any mailbox.
const ENOUGH: usize = 10_000;
const LIMITS: OutboxLimits = OutboxLimits { frames: ENOUGH, bytes: 1 << 20 };

fn shard(stats: &Arc<ShardStats>) -> (ShardHandle, ShardLink) {
    Shard::start(0, 60, Arc::clone(stats), Receipts::told_to(|_| {}))
}

fn goods(id: i64) -> GoodsId {
    GoodsId::from_stored(id)
}

/// A socket of this worker in that room.
fn listener(seats: &ShardHandle, connection: u64, room: RoomId) -> Rc<RefCell<Outbox>> {
    let outbox = Rc::new(RefCell::new(Outbox::of_room(LIMITS, Arc::default())));
    seats.seat(connection, Rc::clone(&outbox), Some(room));
    outbox
}

/// A session that hears alarms, and has none to read.
fn live(seats: &ShardHandle) -> Rc<RefCell<Outbox>> {
    let outbox = Rc::new(RefCell::new(Outbox::of_alarms(LIMITS, Arc::default())));
    outbox.borrow_mut().end_of_list();
    assert!(!outbox.borrow().wants_catch_up());
    seats.seat(1, Rc::clone(&outbox), None);
    outbox
}

/// Whoever has something to do has done it.
async fn all_is_quiet() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn sockets_of_a_room_that_a_worker_could_not_be_told_of_are_told_to_come_back() {
    let stats = Arc::new(ShardStats::default());
    let (seats, link) = shard(&stats);
    let (busy, quiet) = (RoomId::Auction(goods(1)), RoomId::Auction(goods(2)));
    let [listener, other] = [(1, busy), (2, quiet)].map(|(connection, room)| listener(&seats, connection, room));
    let frame = RoomOrder::Frame { bytes: Bytes::from_static(b"x"), id: 0 };
    for _ in 0..ENOUGH {
        link.push_to_rooms(RoomPush(vec![(busy, frame.clone())]));
    }
    assert!(!listener.borrow().is_closed(), "nobody has looked yet");
    all_is_quiet().await;
    assert_eq!(listener.borrow().due_close(), Some(Close::TryAgainLater));
    assert_eq!(stats.closed_for_missing.load(Ordering::Relaxed), 1);
    assert!(!other.borrow().is_closed(), "it has missed nothing");
    link.push_to_rooms(RoomPush(vec![(quiet, frame)]));
    all_is_quiet().await;
    let taken = other.borrow_mut().take().map(Chunk::bytes);
    assert_eq!((taken, other.borrow().is_closed()), (Some(Bytes::from_static(b"x")), false));
}

#[actix::test]
async fn sockets_of_a_room_whose_news_found_no_place_are_told_to_come_back() {
    let stats = Arc::new(ShardStats::default());
    let (seats, link) = shard(&stats);
    let missed = Arc::new(OverflowFlag::default());
    let rooms =
        Rooms::open(chrono_tz::UTC, Arc::new(SystemTime), Arc::clone(&stats), Arc::clone(&missed), LIMITS.bytes);
    rooms.do_send(OpenToShard(link));
    let [listener, other] = [1, 2].map(|nth| listener(&seats, nth, RoomId::Auction(goods(nth.cast_signed()))));
    for nth in [1, 2] {
        let enter =
            Enter { room: RoomId::Auction(goods(nth)), user: None, connection: nth.cast_unsigned(), is_over: false };
        assert!(rooms.send(enter).await.unwrap());
    }
    // Of goods in whose room nobody is: the worker hears of none of it.
    let refused =
        (0..ENOUGH).filter(|_| rooms.try_send(TellRooms(vec![RoomEvent::Started(goods(3))])).is_err()).count();
    assert!(refused > 0, "the mailbox has an end");
    assert!(missed.note([goods(1)]), "as does whoever finds it full");
    rooms.do_send(TellRooms(Vec::new()));
    all_is_quiet().await;
    assert_eq!(listener.borrow().due_close(), Some(Close::TryAgainLater));
    assert_eq!(stats.closed_for_missing.load(Ordering::Relaxed), 1);
    assert!(!other.borrow().is_closed(), "it has missed nothing");
}

#[actix::test]
async fn sessions_of_a_worker_that_could_not_be_told_read_the_store() {
    let stats = Arc::new(ShardStats::default());
    let (seats, link) = shard(&stats);
    let session = live(&seats);
    for _ in 0..ENOUGH {
        link.push(Push(Vec::<Delivery>::new()));
    }
    all_is_quiet().await;
    assert!(session.borrow().wants_catch_up() && !session.borrow().is_closed());
    assert!(stats.resyncs.load(Ordering::Relaxed) > 0);
}

#[actix::test]
async fn sessions_read_the_store_when_the_hub_could_not_be_told() {
    let stats = Arc::new(ShardStats::default());
    let (seats, link) = shard(&stats);
    let session = live(&seats);
    let missed = Arc::new(AtomicBool::new(false));
    let locale = Locale::En;
    let hub = AlarmHub::open(Box::new(move || locale), 16, stats, Arc::clone(&missed));
    hub.do_send(AttachShard { index: 0, link });
    let refused = (0..ENOUGH).filter(|_| hub.try_send(Deliver(Vec::new())).is_err()).count();
    assert!(refused > 0, "the mailbox has an end");
    missed.store(true, Ordering::Release);
    hub.do_send(Deliver(Vec::new()));
    let figures = hub.send(GetHubFigures).await.unwrap();
    all_is_quiet().await;
    assert!(session.borrow().wants_catch_up() && !session.borrow().is_closed());
    assert_eq!(figures.resyncs, 1);
}
