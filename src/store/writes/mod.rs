//! Everything the ledger can write, one file per subject. Each is a [`Write`](super::Write), which runs inside the ledger's
//! transaction and never begins or ends one itself.
//!
//! - auctions: `goods`, `external_goods`, `likes`, `bids` (`verdict`: their answers; `keys`: those kept under an idempotency key), `phases`
//!   (start, last minute, end), `cancel`
//! - alarms: `notices`, `fan_out` (large audiences), `received` and `read_state` (cursors), `preferences`, `prune` (retention)
//! - what people say: `chat`, `line_removal`
//! - users: `users`, `erasure`; `audit`: what admins did
//! - the service: `probe` (whether writes work), `stops` (when nodes stopped, for the time of a restart)

mod audit;
mod bids;
mod cancel;
mod chat;
mod erasure;
mod external_goods;
pub(crate) mod fan_out;
mod goods;
mod keys;
mod likes;
mod line_removal;
mod notices;
mod phases;
mod preferences;
mod probe;
mod prune;
mod read_state;
mod received;
mod stops;
mod users;
mod verdict;

pub(crate) use audit::Audited;
pub use bids::{KeyedBid, PlaceBids};
pub(crate) use cancel::{CancelGoods, Cancelled};
pub use chat::{LineSaid, MessageSent, SayLine, SendTradeMessage};
pub(crate) use chat::{MarkMessagesRead, ReadMessages};
pub(crate) use erasure::{BeginErasure, ErasureBegun, ErasureRun};
pub(crate) use external_goods::{GoodsPut, PutGoods};
pub(crate) use fan_out::{ResumeFanout, Resumed};
pub use goods::CreateGoods;
pub(crate) use goods::{DeleteGoods, Deleted};
pub use likes::{Like, LikeSet, SetLike};
pub(crate) use line_removal::{RemoveLine, RemovedLine};
pub(crate) use notices::{NoticeRaised, RaiseNotice};
pub use phases::{EndAuction, Ended, RaiseEndingSoon, StartAuction};
pub(crate) use preferences::SetPreferences;
pub(crate) use probe::Probe;
pub(crate) use prune::{PruneAlarms, PruneInbox, PruneKeys, Pruned};
pub(crate) use read_state::{MarkRead, ReadAlarms};
pub(crate) use received::AcknowledgeAlarms;
pub use received::MarkReceived;
pub(crate) use stops::{ClearStop, RecordStop};
pub(crate) use users::ChangeUser;
pub use users::EnsureUser;
pub use verdict::BidVerdict;
pub(crate) use verdict::StoredBid;
