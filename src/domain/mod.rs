//! The rules of the auction, as pure functions and types: ids, prices, times, phases, users, drafts of goods, texts,
//! the bid rule, alarms.
//!
//! Nothing here uses a database, an actor, a socket or a clock: `now` is always an argument. Every decision of the
//! auction itself is made in this folder.

mod alarm;
mod chat;
mod draft;
mod goods;
mod idempotency;
mod ids;
mod judge;
mod price;
mod time;
mod user;

pub use alarm::{Alarm, AlarmKind, Locale, Receiver, Sender, end_alarms};
pub use chat::{LineText, TradeText};
pub use draft::{DraftError, DraftRules, GoodsDraft, NewGoods, StartInput};
pub use goods::{ENDING_SOON_LEAD_MS, GoodsState, Lead, MIN_LENGTH_FOR_ENDING_SOON_MS, Phase};
pub use idempotency::IdempotencyKey;
pub use ids::{
    AlarmCursor, AlarmId, BidId, BidSeq, EventId, GoodsId, LineId, MAX_ID, TradeMessageId, TradeRoomId, UserId,
};
pub use judge::{Acceptance, Bid, Refusal, judge};
pub use price::Price;
pub use time::{LocalTime, Timestamp};
pub use user::User;
