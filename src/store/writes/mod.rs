//! What can be written, one file a matter. Each is a [`Write`](super::Write) that runs inside the ledger's
//! transaction; none begins or ends a transaction itself.

mod bids;
mod chat;
pub(crate) mod fan_out;
mod forget;
mod goods;
mod keys;
mod likes;
mod phases;
mod probe;
mod read_state;
mod received;
mod stops;
mod users;
mod verdict;

pub use bids::{KeyedBid, PlaceBids, PlacedBids};
pub use chat::{ReadMessages, ReadTrade, SayLine, SendTradeMessage};
pub use fan_out::AdoptFanout;
pub use forget::{ForgetAlarms, ForgetInbox, ForgetKeys};
pub use goods::{DeleteGoods, Deleted, MakeGoods};
pub use likes::{Like, SetLike};
pub use phases::{EndAuction, Ended, RaiseEndingSoon, StartAuction};
pub use probe::Probe;
pub use read_state::{MarkRead, ReadAlarms, SetMuted};
pub use received::MarkReceived;
pub use stops::{ForgetStop, NoteStop};
pub use users::{ChangeUser, SeeUser};
pub use verdict::{BidVerdict, StoredBid};
