//! What can be read, one file a matter. Each is a method of [`Store`](super::Store) that runs on the pool.

mod alarms;
mod bids;
mod catch_up;
mod clock;
mod existence;
mod goods;
mod goods_lists;
mod likes;
mod lines;
mod page;
mod rooms;
mod stops;
mod superseded;
mod trades;
mod users;

pub use alarms::{AlarmPage, AlarmQuery, InboxAlarm, SessionStart};
pub use bids::BidListing;
pub use catch_up::{InboxEnd, MOST_NEWS, RoomMark};
pub use goods::{GoodsDetail, GoodsFacts};
pub use goods_lists::{GoodsCard, GoodsFilter, UserGoods};
pub use lines::RoomLine;
pub use page::Page;
pub use rooms::{TradeAccess, TradeInfo};
pub use trades::{TradeListing, TradeMessage, TradeTalk};
