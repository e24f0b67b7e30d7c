//! What can be read, one file a matter. Each is a method of [`Store`](super::Store) that runs on the pool.

mod alarms;
mod bids;
mod clock;
mod goods;
mod trade_info;
mod users;

pub use alarms::{AlarmPage, AlarmQuery, InboxAlarm, SessionStart};
pub use bids::BidListing;
pub use goods::GoodsDetail;
pub use trade_info::{TradeAccess, TradeInfo};
