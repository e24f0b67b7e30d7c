//! Tests of full mailboxes: sessions that miss alarms read the store, sockets in a room that misses an event close with
//! "try again later". All on one thread, where no actor handles a message before the test awaits.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;

use super::rooms::{AttachShardToRooms, BroadcastRoomEvents, EnterRoom, Rooms};
use crate::actors::delivery::{
    alarm_hub::{AlarmHub, AttachShard, Deliver, GetHubFigures},
    frame::{Chunk, FrameKind},
    mailbox::send_or_note,
    mailbox_overflow::OverflowFlag,
    outbox::{Outbox, OutboxLimits},
    receipts::Receipts,
    shard::{Push, RoomOrder, RoomPush, Shard, ShardLink, TargetedFrame},
    shard_stats::ShardStats,
    worker_outboxes::WorkerOutboxes,
};
use crate::actors::room_id::RoomId;
use crate::{
    bus::{ConnectionId, Topology},
    domain::{GoodsId, Locale},
    protocol::Close,
    store::{self, RoomEvent},
    time_source::SystemTime,
};

/// More messages than any mailbox holds.
const MANY: usize = 10_000;
const LIMITS: OutboxLimits = OutboxLimits { frames: MANY, bytes: 1 << 20 };

fn shard(stats: &Arc<ShardStats>) -> (WorkerOutboxes, ShardLink) {
    Shard::start(0, 60, Arc::clone(stats), Receipts::new(|_| {}))
}

fn goods(id: i64) -> GoodsId {
    GoodsId::from_stored(id)
}

/// Opens a socket of this worker in that room.
fn listener(worker_outboxes: &WorkerOutboxes, connection: ConnectionId, room: RoomId) -> Rc<RefCell<Outbox>> {
    let outbox = Rc::new(RefCell::new(Outbox::of_room(LIMITS, Arc::default())));
    worker_outboxes.add_session(connection, Rc::clone(&outbox), Some(room));
    outbox
}

/// A session whose inbox is read: it receives live alarms.
fn live_session(worker_outboxes: &WorkerOutboxes) -> Rc<RefCell<Outbox>> {
    let outbox = Rc::new(RefCell::new(Outbox::of_alarms(LIMITS, Arc::default())));
    outbox.borrow_mut().reached_inbox_end();
    assert!(!outbox.borrow().wants_catch_up());
    worker_outboxes.add_session(ConnectionId(1), Rc::clone(&outbox), None);
    outbox
}

/// Lets every actor handle the messages it has.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn sockets_close_when_the_mailbox_of_their_shard_is_full() {
    let stats = Arc::new(ShardStats::default());
    let (worker_outboxes, link) = shard(&stats);
    let (busy, quiet) = (RoomId::Auction(goods(1)), RoomId::Auction(goods(2)));
    let [listener, other] =
        [(1, busy), (2, quiet)].map(|(connection, room)| listener(&worker_outboxes, ConnectionId(connection), room));
    let frame = RoomOrder::Frame { bytes: Bytes::from_static(b"x"), kind: FrameKind::Other };
    for _ in 0..MANY {
        link.push_to_rooms(RoomPush(vec![(busy, frame.clone())]));
    }
    assert!(!listener.borrow().is_closed(), "the shard has handled nothing yet");
    settle().await;
    assert_eq!(listener.borrow().due_close(), Some(Close::TryAgainLater));
    assert_eq!(stats.closed_for_missing.get(), 1);
    assert!(!other.borrow().is_closed(), "it has missed nothing");
    link.push_to_rooms(RoomPush(vec![(quiet, frame)]));
    settle().await;
    let taken = other.borrow_mut().take().map(Chunk::bytes);
    assert_eq!((taken, other.borrow().is_closed()), (Some(Bytes::from_static(b"x")), false));
}

#[actix::test]
async fn sockets_close_when_the_mailbox_of_the_rooms_is_full() {
    let stats = Arc::new(ShardStats::default());
    let (worker_outboxes, link) = shard(&stats);
    let overflow = Arc::new(OverflowFlag::default());
    let (_folder, opened) = store::test_support::open();
    let rooms = Rooms::open(
        chrono_tz::UTC,
        Arc::new(SystemTime),
        Arc::clone(&stats),
        Arc::clone(&overflow),
        LIMITS.bytes,
        (opened.store, &Topology::Single),
    );
    rooms.do_send(AttachShardToRooms(link));
    let [listener, other] =
        [1, 2].map(|nth| listener(&worker_outboxes, ConnectionId(nth), RoomId::Auction(goods(nth.cast_signed()))));
    for nth in [1, 2] {
        let enter = EnterRoom {
            room: RoomId::Auction(goods(nth)),
            user: None,
            connection: ConnectionId(nth.cast_unsigned()),
            is_over: false,
        };
        assert!(rooms.send(enter).await.unwrap());
    }
    // The room of goods 3 has no sockets, so the shard receives none of these events.
    let refused =
        (0..MANY).filter(|_| rooms.try_send(BroadcastRoomEvents(vec![RoomEvent::Started(goods(3))])).is_err()).count();
    assert!(refused > 0, "the mailbox is bounded");
    let started = BroadcastRoomEvents(vec![RoomEvent::Started(goods(1))]);
    assert!(!send_or_note(&rooms, started, &overflow, |_| [goods(1)]), "the sender notes what found it full");
    settle().await;
    assert_eq!(listener.borrow().due_close(), Some(Close::TryAgainLater));
    assert_eq!(stats.closed_for_missing.get(), 1);
    assert!(!other.borrow().is_closed(), "it has missed nothing");
}

#[actix::test]
async fn sessions_read_the_store_when_the_mailbox_of_their_shard_is_full() {
    let stats = Arc::new(ShardStats::default());
    let (worker_outboxes, link) = shard(&stats);
    let session = live_session(&worker_outboxes);
    for _ in 0..MANY {
        link.push(Push(Vec::<TargetedFrame>::new()));
    }
    settle().await;
    assert!(session.borrow().wants_catch_up() && !session.borrow().is_closed());
    assert!(stats.resyncs.get() > 0);
}

#[actix::test]
async fn sessions_read_the_store_when_the_mailbox_of_the_hub_is_full() {
    let stats = Arc::new(ShardStats::default());
    let (worker_outboxes, link) = shard(&stats);
    let session = live_session(&worker_outboxes);
    let overflow = Arc::new(OverflowFlag::default());
    let locale = Locale::En;
    let (_folder, opened) = store::test_support::open();
    let single = (opened.store, &Topology::Single);
    let hub = AlarmHub::open(Box::new(move || locale), 16, stats, Arc::clone(&overflow), opened.ledger, single);
    hub.do_send(AttachShard { index: 0, link });
    let refused = (0..MANY).filter(|_| hub.try_send(Deliver::default()).is_err()).count();
    assert!(refused > 0, "the mailbox is bounded");
    assert!(!send_or_note(&hub, Deliver::default(), &overflow, |_| [()]), "the sender notes that it is full");
    let figures = hub.send(GetHubFigures).await.unwrap();
    settle().await;
    assert!(session.borrow().wants_catch_up() && !session.borrow().is_closed());
    assert_eq!(figures.resyncs, 1);
}
