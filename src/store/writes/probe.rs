//! A write that changes nothing of the market. It shows whether the ledger can commit a transaction, and how long that
//! takes.

use std::time::{Duration, Instant};

use diesel::{prelude::*, update};

use crate::store::{Ledger, StoreError, Tx, Write, schema};

/// Bytes to write after a failure, about as many as a large batch writes. A full disk may have room for one page, but
/// not for the next bids.
const FULL_BATCH_BYTES: usize = 64 * 1024;
/// How long a probe may wait in the ledger's queue.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Checks whether the ledger can write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// How many bytes to write; `None` leaves the transaction empty.
    bytes: Option<usize>,
}

impl Probe {
    /// A probe that costs no write as long as writes succeed: its transaction is empty. After a failure it writes,
    /// because only a real write shows that the failure is over.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        Self { bytes: ledger.figures().failing.then_some(FULL_BATCH_BYTES) }
    }

    /// A probe that always writes to disk, so that its caller can measure how long a write takes.
    pub(crate) fn writing(ledger: &Ledger) -> Self {
        Self { bytes: Self::of(ledger).bytes.or(Some(0)) }
    }

    /// A probe as [`of`](Self::of) makes it after a failure.
    #[cfg(test)]
    pub(crate) fn after_failure() -> Self {
        Self { bytes: Some(FULL_BATCH_BYTES) }
    }
}

impl Ledger {
    /// If writes are failing, submits a probe, which logs the recovery once it succeeds. Called periodically, so that
    /// the log shows the recovery even if nobody writes.
    pub fn probe_if_failing(&self) {
        if self.is_failing() {
            self.submit(Probe::of(self), Instant::now() + PROBE_TIMEOUT, |_| {});
        }
    }
}

impl Write for Probe {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if let Some(bytes) = self.bytes {
            // The text must differ from the last one, or the engine would skip the write. A like's id serves for that:
            // these ids have to rise, but may have gaps.
            let like_id = tx.next_like_id()?;
            let padding = format!("{like_id}{}", " ".repeat(bytes));
            update(schema::probe::table).set(schema::probe::padding.eq(padding)).execute(tx.conn)?;
        }
        Ok(())
    }
}
