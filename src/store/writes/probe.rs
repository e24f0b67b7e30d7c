//! A write for its own sake: shows that the ledger can open and commit a transaction.

use diesel::{prelude::*, update};

use crate::store::{Ledger, StoreError, Tx, Write, schema};

/// As many bytes as a large batch: on a full disk there may be room for a page, but not for the next bids.
const LIKE_A_BATCH: usize = 64 * 1024;

/// Shows whether the ledger can write.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Touch the disk. While all is well an empty transaction is enough, so that whoever asks for the health of the
    /// service doesn't cost it a write each time; after a failure only a real write shows that it is over.
    touch: bool,
}

impl Probe {
    /// What this ledger needs to show now.
    pub fn of(ledger: &Ledger) -> Self {
        Self { touch: ledger.figures().failing }
    }

    /// One that writes in any case.
    #[cfg(test)]
    pub(crate) fn touching() -> Self {
        Self { touch: true }
    }
}

impl Write for Probe {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if self.touch {
            // Another mark than the last time, or the engine would see that nothing changes. No like will have it:
            // marks need to rise, not to be without gaps.
            let fresh = tx.next_like()?;
            let padding = format!("{fresh}{}", " ".repeat(LIKE_A_BATCH));
            update(schema::probe::table).set(schema::probe::padding.eq(padding)).execute(tx.conn)?;
        }
        Ok(())
    }
}
