//! The actors: thin shells around plain structs that decide.
//!
//! | shell | decides | does |
//! | --- | --- | --- |
//! | [`BidDesk`], [`BidActor`] | `bid_line` | one line of bids per goods, in front of the ledger |
//! | [`AuctionClock`] | `agenda` | starts and ends auctions when they are due |
//! | [`AlarmHub`], [`Shard`] | `registry` | committed alarms to the sessions of their receivers |
//! | `session` | `outbox` | one WebSocket |
//!
//! No handler blocks: the database is reached through the ledger's queue or a read that is awaited.

mod agenda;
mod arrival_gate;
mod auction_clock;
mod bid_actor;
mod bid_desk;
mod bid_line;
mod hub;
mod read_state;
mod registry;
mod session;
mod shard;

pub use arrival_gate::ArrivalGate;
pub use auction_clock::{AuctionClock, ClockFigures, GetClockFigures, WatchGoods};
pub use bid_actor::{BidActor, BidAnswer, BidReply, EndReply};
pub use bid_desk::{BidDesk, DeskFigures, EndGoods, GetDeskFigures, PlaceBid};
pub use hub::{
    AlarmHub, CloseAll, Deliver, GetHubFigures, HubFigures, RefuseUser, TellUnread, UseLedger, encode_alarm,
};
pub use read_state::{ReadError, mark_read};
pub use session::{
    AlarmSession, Authenticate, Judged, Judgement, SessionLimits, SessionOpening, alarm_events, alarm_socket,
};
pub use shard::{Shard, ShardHandle, ShardStats};
