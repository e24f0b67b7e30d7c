//! Everything the ledger can write, one file per subject: bids, chat, goods, likes, phases of auctions, users, what
//! users have read, fan-outs to large audiences, retention. Each is a [`Write`](super::Write), which runs inside the
//! ledger's transaction and never begins or ends one itself.

mod bids;
mod chat;
pub(crate) mod fan_out;
mod goods;
mod keys;
mod likes;
mod phases;
mod probe;
mod prune;
mod read_state;
mod received;
mod stops;
mod users;
mod verdict;

pub use bids::{KeyedBid, PlaceBids, PlacedBids};
pub use chat::{LineSaid, MarkMessagesRead, MessageSent, ReadMessages, SayLine, SendTradeMessage};
pub use fan_out::{ResumeFanout, Resumed};
pub use goods::{DeleteGoods, Deleted, MakeGoods};
pub use likes::{Like, LikeSet, SetLike};
pub use phases::{EndAuction, Ended, RaiseEndingSoon, StartAuction};
pub use probe::Probe;
pub use prune::{PruneAlarms, PruneInbox, PruneKeys, Pruned};
pub use read_state::{MarkRead, ReadAlarms, SetMuted};
pub use received::MarkReceived;
pub use stops::{ClearStop, RecordStop};
pub use users::{ChangeUser, EnsureUser};
pub use verdict::{BidVerdict, StoredBid};
