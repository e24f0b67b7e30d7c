//! All reads of the service, one file per subject. Each is a method of [`Store`](super::Store) that runs on a
//! connection of its pool, and returns [`StoreError`](super::StoreError) when the database can't be read in time.

mod alarms;
mod audit;
mod bids;
mod catch_up;
mod deadlines;
mod deliveries;
mod export;
mod goods;
mod goods_card;
mod goods_lists;
mod likes;
mod lines;
mod page;
mod stops;
mod superseded;
mod trades;
mod users;

pub use alarms::AlarmQuery;
pub(in crate::store) use alarms::preferences;
pub(crate) use alarms::{BacklogPage, Preferences};
pub(crate) use audit::{AuditEntry, FieldList};
pub(crate) use bids::BidListing;
pub(crate) use catch_up::{InboxEnd, ROOM_EVENTS_LIMIT, RoomCursor};
pub(crate) use deliveries::{Delivery, DeliveryQuery};
pub(crate) use export::{ExportCursor, ExportPage, ExportPart};
pub use goods::GoodsDetail;
pub(crate) use goods_card::{GoodsCard, GoodsFacts};
pub(crate) use goods_lists::{GoodsFilter, UserGoods};
pub(crate) use lines::RoomLine;
pub(crate) use page::Page;
pub(crate) use trades::{TradeAccess, TradeHistory, TradeInfo, TradeListing, TradeMessage};
pub(crate) use users::{LedGoods, UserDetail};
