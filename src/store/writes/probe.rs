//! A write of nothing: shows that the ledger can open and commit a transaction, without touching the disk.

use crate::store::{StoreError, Tx, Write};

/// Writes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Probe;

impl Write for Probe {
    type Out = ();

    fn run(&self, _: &mut Tx<'_>) -> Result<(), StoreError> {
        Ok(())
    }
}
