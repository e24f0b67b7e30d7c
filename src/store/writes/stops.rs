//! When a node shut down in order, so that the next start can measure how long the restart took.

use diesel::{delete, insert_into, prelude::*};

use crate::store::{StoreError, Tx, Write, schema};

/// Stores that the node begins its shutdown now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordStop;

impl Write for RecordStop {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        use schema::stops::dsl;
        ClearStop.run(tx)?;
        insert_into(dsl::stops).values((dsl::one.eq(1), dsl::stopped_at.eq(tx.now().micros()))).execute(tx.conn)?;
        Ok(())
    }
}

/// Deletes the stored stop once the node is up again. Otherwise a start after a crash would be measured from an old
/// stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClearStop;

impl Write for ClearStop {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        delete(schema::stops::table).execute(tx.conn)?;
        Ok(())
    }
}
