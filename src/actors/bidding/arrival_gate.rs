//! The gate between arriving bids and the end of an auction.
//!
//! A thread can be delayed between stamping a bid and sending it to the router, and the end must not overtake that bid.
//! So a bid is stamped and sent under the read lock, and the clock takes the write lock once before it ends an auction:
//! every bid stamped before that is then in the router's mailbox. Nobody waits inside the gate; it is held for
//! microseconds.

use std::sync::{PoisonError, RwLock};

use crate::{domain::Timestamp, time_source::TimeSource};

/// The gate; there is one per node.
#[derive(Debug, Default)]
pub struct ArrivalGate(RwLock<()>);

impl ArrivalGate {
    /// Passes the time of arrival to `send`, inside the gate. `send` must not wait.
    pub fn arrive<R>(&self, time: &dyn TimeSource, send: impl FnOnce(Timestamp) -> R) -> R {
        // The lock guards no data, so a panic of another holder does no harm.
        let _open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        send(time.now())
    }

    /// Returns when every bid stamped before this call has been sent.
    pub fn pass(&self) {
        drop(self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}
