//! A write for its own sake: shows that the ledger can open and commit a transaction, and what that takes.

use std::time::{Duration, Instant};

use diesel::{prelude::*, update};

use crate::store::{Ledger, StoreError, Tx, Write, schema};

/// As many bytes as a large batch: on a full disk there may be room for a page, but not for the next bids.
const LIKE_A_BATCH: usize = 64 * 1024;
/// How long a look whether writes succeed again may wait for its turn.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// Shows whether the ledger can write.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// What it writes; `None` leaves the transaction empty.
    bytes: Option<usize>,
}

impl Probe {
    /// For whoever may ask at any time, and must not cost the service a write: while all is well an empty transaction is
    /// enough, and only after a failure a real write shows that it is over.
    pub fn of(ledger: &Ledger) -> Self {
        Self { bytes: ledger.figures().failing.then_some(LIKE_A_BATCH) }
    }

    /// Writes to disk in any case, so that it shows how long that takes.
    pub fn writing(ledger: &Ledger) -> Self {
        Self { bytes: Self::of(ledger).bytes.or(Some(0)) }
    }

    /// As after a failure.
    #[cfg(test)]
    pub(crate) fn touching() -> Self {
        Self { bytes: Some(LIKE_A_BATCH) }
    }
}

impl Ledger {
    /// If writes have failed: tries whether they succeed by now, which the log says. For whoever calls it now and then, so
    /// that it is said also when nobody writes.
    pub fn look_again(&self) {
        if self.is_failing() {
            self.submit(Probe::of(self), Instant::now() + LOOK_PATIENCE, |_| {});
        }
    }
}

impl Write for Probe {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if let Some(bytes) = self.bytes {
            // Another mark than the last time, or the engine would see that nothing changes. No like will have it:
            // marks need to rise, not to be without gaps.
            let fresh = tx.next_like()?;
            let padding = format!("{fresh}{}", " ".repeat(bytes));
            update(schema::probe::table).set(schema::probe::padding.eq(padding)).execute(tx.conn)?;
        }
        Ok(())
    }
}
