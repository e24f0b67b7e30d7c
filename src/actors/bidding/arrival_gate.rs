//! The gate between arriving bids and the end of an auction.
//!
//! A bid is stamped with its arrival and handed on while the gate is held open; the clock passes through the closed
//! gate before it ends anything. So every bid that was stamped before the end is in its goods' line before the end
//! is, even if its thread was held up in between. Inside, nobody waits for anything: it is held for microseconds.

use std::sync::{PoisonError, RwLock};

use crate::{domain::Timestamp, time_source::TimeSource};

/// One for the whole node.
#[derive(Debug, Default)]
pub struct ArrivalGate(RwLock<()>);

impl ArrivalGate {
    /// Stamps an arrival and hands it on. `hand_on` must not wait.
    pub fn arrive<R>(&self, time: &dyn TimeSource, hand_on: impl FnOnce(Timestamp) -> R) -> R {
        // The lock guards no data, so a panic of another holder means nothing.
        let _open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        hand_on(time.now())
    }

    /// Returns when everything that was stamped before has been handed on.
    pub fn pass(&self) {
        drop(self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}
