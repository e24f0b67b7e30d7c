//! The actors. Each one moves messages and leaves its decisions to a plain struct, which is tested without a runtime.
//!
//! | actor | decisions in | does |
//! | --- | --- | --- |
//! | [`BidRouter`], [`BidActor`] | `bidding::bid_queue` | queues the bids of each goods item in front of the ledger |
//! | [`AuctionClock`] | `clock::deadlines` | starts and ends auctions when they are due |
//! | [`AlarmHub`], [`Shard`] | `delivery::registry` | sends committed alarms to the sessions of their receivers |
//! | [`Rooms`] | `rooms::membership` | knows who is in an auction room or trade chat and broadcasts its events |
//! | `session` | `delivery::outbox` | serves one WebSocket |
//!
//! `connection` moves the bytes of a WebSocket for its session; `poller` looks up in the store what an actor may have
//! missed. No handler blocks: writes go through the ledger's queue, reads of the database are awaited.

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
pub use self::bidding::bid_actor::{BidActor, BidAnswer, BidReply, EndReply};
pub use self::bidding::bid_router::{BidRouter, EndGoods, ForgetGoods, GetRouterFigures, PlaceBid, RouterFigures};
pub use self::bidding::committed_goods::CommittedGoods;
pub use self::bidding::ingress::{ArrivingBid, BidIngress};
pub use self::clock::auction_clock::{AuctionClock, ClockFigures, GetClockFigures, WatchGoods};
pub(crate) use self::connection::connection::{ByteSource, Connection, Output};
pub use self::delivery::alarm_hub::{
    AlarmHub, CloseAll, CloseUserSessions, Deliver, FlushReceived, GetHubFigures, HubFigures, LocaleSource,
    NotifyUnread,
};
pub use self::delivery::cluster::FromBus;
pub use self::delivery::encode::encode_alarm;
pub use self::delivery::mailbox::send_or_note;
pub use self::delivery::overflow::OverflowFlag;
pub use self::delivery::read_state::{ReadError, mark_read};
pub use self::delivery::{
    shard::Shard,
    shard_handle::{ShardHandle, ShardStats},
};
pub use self::rooms::rooms::{
    BroadcastRoomEvents, CountParticipants, GetBusiestRooms, GetParticipants, GetRoomFigures, Participants,
    RoomFigures, Rooms,
};
pub use session::{
    AlarmContext, AuctionContext, AuthFuture, AuthOutcome, Authenticated, RateVerdict, SessionContext, SessionLimits,
    SocketAuth, SocketSession, TradeContext, alarm_events, alarm_socket, auction_socket, trade_socket,
};
pub use worker::attach_worker;
