//! The actors: thin shells around plain structs that decide.
//!
//! | shell | decides | does |
//! | --- | --- | --- |
//! | [`BidRouter`], [`BidActor`] | `bidding::bid_queue` | one line of bids per goods, in front of the ledger |
//! | [`AuctionClock`] | `clock::deadlines` | starts and ends auctions when they are due |
//! | [`AlarmHub`], [`Shard`] | `delivery::registry` | committed alarms to the sessions of their receivers |
//! | [`Rooms`] | `rooms::membership` | who is in an auction room or trade chat, and what is heard there |
//! | `session` | `delivery::outbox` | one WebSocket |
//!
//! No handler blocks: the database is reached through the ledger's queue or a read that is awaited.

mod bidding;
mod clock;
mod connection;
mod delivery;
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
pub use self::delivery::alarm_hub::{
    AlarmHub, CloseAll, Deliver, GetHubFigures, HubFigures, LocaleSource, RefuseUser, TellUnread, UseLedger, WriteMarks,
};
pub use self::delivery::cluster::{CountSeats, HearForUser, JoinHub};
pub use self::delivery::encode::encode_alarm;
pub use self::delivery::overflow::OverflowFlag;
pub use self::delivery::read_state::{ReadError, mark_read};
pub use self::delivery::shard::{Shard, ShardHandle, ShardStats};
pub use self::rooms::cluster::{HearPresence, JoinRooms, SayWhoIsHere};
pub use self::rooms::rooms::{
    CountParticipants, GetBusiest, GetParticipants, GetRoomFigures, Participants, RoomFigures, Rooms, TellRooms,
};
pub use session::{
    AlarmContext, AuctionContext, AuthFuture, AuthOutcome, RateVerdict, SessionContext, SessionLimits, Signed,
    SocketAuth, SocketSession, TradeContext, alarm_events, alarm_socket, auction_socket, trade_socket,
};
pub use worker::attach_worker;
