//! The actors. Each one moves messages and leaves its decisions to a plain struct, which is tested without a runtime.
//!
//! | actor | decisions in | does |
//! | --- | --- | --- |
//! | [`BidRouter`], `BidActor` | `bidding::bid_queue` | queues the bids of each goods item in front of the ledger |
//! | [`AuctionClock`] | `clock::deadlines` | starts and ends auctions when they are due |
//! | [`AlarmHub`], `Shard` | `delivery::registry` | sends committed alarms to the sessions of their receivers |
//! | [`Rooms`] | `rooms::membership` | knows who is in an auction room or trade chat and broadcasts its events |
//! | `session` | `delivery::outbox` | serves one WebSocket |
//!
//! `connection` moves the bytes of a WebSocket for its session; `worker` attaches a server worker's shard to the hub and the
//! rooms; `room_id` names a room; `poller` looks up in the store what an actor may have missed. No handler blocks: writes go through the ledger's queue, reads of the database are awaited.

mod bidding;
mod clock;
mod connection;
mod delivery;
mod poller;
mod room_id;
mod rooms;
mod session;
mod worker;

pub use self::bidding::arrival_gate::ArrivalGate;
pub use self::bidding::bid_actor::BidAnswer;
pub use self::bidding::bid_router::BidRouter;
pub(crate) use self::bidding::bid_router::{ForgetGoods, GetRouterFigures, RouterFigures};
pub(crate) use self::bidding::bid_stats::{BidStats, Door};
pub use self::bidding::committed_goods::CommittedGoods;
pub(crate) use self::bidding::ingress::{ArrivingBid, BidIngress};
#[cfg(feature = "test-support")]
pub use self::bidding::{bid_actor::BidReply, bid_router::PlaceBid};
pub use self::clock::auction_clock::{AuctionClock, GetClockFigures, WatchGoods};
pub(crate) use self::clock::auction_clock::{ClockFigures, ClockStats};
pub(crate) use self::connection::connection::{ByteSource, Connection, Output};
pub(crate) use self::delivery::alarm_hub::{
    AlarmHub, CloseAll, CloseUserSessions, CountSockets, Deliver, FlushReceived, GetHubFigures, HubFigures,
    LocaleSource, SetLocale,
};
pub(crate) use self::delivery::cluster::FromBus;
pub(crate) use self::delivery::mailbox::send_or_note;
pub(crate) use self::delivery::mailbox_overflow::OverflowFlag;
pub(crate) use self::delivery::read_state::{ReadError, mark_read};
pub(crate) use self::delivery::shard_stats::ShardStats;
pub(crate) use self::delivery::worker_outboxes::WorkerOutboxes;
pub(crate) use self::rooms::rooms::{
    BroadcastRoomEvents, BroadcastWatchers, CountPresent, GetBusiestRooms, GetParticipants, GetRoomFigures, Present,
    RoomFigures, Rooms,
};
pub(crate) use session::{
    AlarmContext, AuctionContext, AuthFuture, AuthOutcome, Authenticated, RateVerdict, SessionContext, SessionLimits,
    SocketAuth, SocketSession, TradeContext, alarm_events, alarm_socket, auction_socket, trade_socket,
};
pub(crate) use worker::attach_worker;
