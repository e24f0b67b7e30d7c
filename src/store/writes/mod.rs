//! What can be written, one file a matter. Each is a [`Write`](super::Write) that runs inside the ledger's
//! transaction; none begins or ends a transaction itself.

mod bids;
pub(crate) mod fan_out;
mod goods;
mod likes;
mod phases;
mod probe;
mod received;
mod users;

pub use bids::{BidVerdict, PlaceBids, PlacedBids, StoredBid};
pub use goods::MakeGoods;
pub use likes::SetLike;
pub use phases::{EndAuction, Ended, RaiseEndingSoon, StartAuction};
pub use probe::Probe;
pub use received::MarkReceived;
pub use users::{ChangeUser, SeeUser};
