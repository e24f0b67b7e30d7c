//! The actors: thin shells around plain structs that decide.
//!
//! | shell | decides | does |
//! | --- | --- | --- |
//! | [`BidDesk`], [`BidActor`] | `bid_line` | one line of bids per goods, in front of the ledger |
//! | [`AuctionClock`] | `agenda` | starts and ends auctions when they are due |
//! | [`AlarmHub`], [`Shard`] | `registry` | committed alarms to the sessions of their receivers |
//! | [`Rooms`] | `room` | who is in an auction room or trade chat, and what is heard there |
//! | `session` | `outbox` | one WebSocket |
//!
//! No handler blocks: the database is reached through the ledger's queue or a read that is awaited.

mod agenda;
mod arrival_gate;
mod auction_clock;
mod bid_actor;
mod bid_desk;
mod bid_entrance;
mod bid_line;
mod course;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod full_mailboxes;
mod hall;
mod hub;
mod hub_of_several;
mod known;
mod missed;
mod pressure;
mod read_state;
mod receipts;
mod registry;
mod room;
mod rooms;
mod rooms_of_several;
mod session;
mod shard;
mod wire;
mod worker;

pub use arrival_gate::ArrivalGate;
pub use auction_clock::{AuctionClock, ClockFigures, GetClockFigures, WatchGoods};
pub use bid_actor::{BidActor, BidAnswer, BidReply, EndReply};
pub use bid_desk::{BidDesk, DeskFigures, EndGoods, ForgetGoods, GetDeskFigures, PlaceBid};
pub use bid_entrance::{ArrivingBid, BidEntrance};
pub use hub::{
    AlarmHub, CloseAll, Deliver, GetHubFigures, HubFigures, LocaleSource, RefuseUser, TellUnread, UseLedger, WriteMarks,
};
pub use hub_of_several::{CountSeats, HearForUser, JoinHub};
pub use known::KnownGoods;
pub use missed::Missed;
pub use read_state::{ReadError, mark_read};
pub use rooms::{
    CountParticipants, GetBusiest, GetParticipants, GetRoomFigures, Participants, RoomFigures, Rooms, TellRooms,
};
pub use rooms_of_several::{HearPresence, JoinRooms, SayWhoIsHere};
pub use session::{
    AlarmOpening, AuctionOpening, Doorkeeper, Judged, Judgement, Pace, SessionLimits, SessionOpening, Signed,
    SocketSession, TradeOpening, alarm_events, alarm_socket, auction_socket, trade_socket,
};
pub use shard::{Shard, ShardHandle, ShardStats};
pub use wire::encode_alarm;
pub use worker::attach_worker;
