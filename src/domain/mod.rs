//! The rules of the auction, as pure functions and types.
//!
//! - `judge`: the bid rule and the minimum of the next bid
//! - `goods`: the state of an auction; `draft`: what new goods may be
//! - `alarm`: kinds and texts of alarms, and who receives them at an end; `notice`: what the backend may raise
//! - `picture`: what pictures may be, and by which path clients get them
//! - `chat`: what may be said in rooms and trades
//! - `ids`, `price`, `time`, `user`, `idempotency`: values that can't be wrong
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
mod notice;
mod picture;
mod price;
mod time;
mod user;

pub use alarm::{Alarm, AlarmKind, Locale};
pub(crate) use alarm::{Receiver, Sender, end_alarms};
pub use chat::{LineText, TradeText};
pub(crate) use draft::DraftError;
pub use draft::{DraftRules, GoodsDraft, NewGoods, StartInput};
pub(crate) use draft::{ExternalId, UpdateRefusal};
pub use goods::Phase;
pub(crate) use goods::{ENDING_SOON_LEAD_MS, GoodsState, Lead};
pub(crate) use idempotency::IdempotencyKey;
pub use ids::{AlarmCursor, AlarmId, GoodsId, UserId};
pub(crate) use ids::{BidId, BidSeq, EventId, LineId, MAX_ID, TradeMessageId, TradeRoomId};
pub(crate) use judge::judge;
pub use judge::{Bid, Refusal};
pub(crate) use notice::{CollapseKey, NoticeAudience, NoticeText};
pub(crate) use picture::{PictureId, is_url, parse_picture, picture_path};
pub use price::Price;
pub use time::Timestamp;
pub use user::User;
