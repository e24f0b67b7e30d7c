//! When a node ended in order, so that the one after it knows how long the restart has taken.

use diesel::{delete, insert_into, prelude::*};

use crate::store::{StoreError, Tx, Write, schema};

/// The node tells its sockets now that it restarts.
#[derive(Debug, Clone, Copy)]
pub struct NoteStop;

impl Write for NoteStop {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        use schema::stops::dsl;
        ForgetStop.run(tx)?;
        insert_into(dsl::stops).values((dsl::one.eq(1), dsl::stopped_at.eq(tx.now().micros()))).execute(tx.conn)?;
        Ok(())
    }
}

/// The node is up again: a start after a crash must not be measured from an older stop.
#[derive(Debug, Clone, Copy)]
pub struct ForgetStop;

impl Write for ForgetStop {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        delete(schema::stops::table).execute(tx.conn)?;
        Ok(())
    }
}
