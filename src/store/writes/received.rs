//! The received cursor of a user: the newest alarm that is known to have reached them.

use crate::{
    domain::{AlarmId, UserId},
    store::{
        StoreError, Tx, Write,
        engine::{
            DbConn,
            postgres::connection,
            sqlite::statements::{self, RaiseReceived},
        },
    },
};

/// Raises the received cursors of many users. A cursor never goes back.
#[derive(Debug, Clone)]
pub struct MarkReceived(pub Vec<(UserId, AlarmId)>);

impl Write for MarkReceived {
    type Out = ();

    /// The hub writes many users at once, which says nothing about the pace of bids.
    fn weight(&self) -> Option<usize> {
        None
    }

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        match tx.conn {
            DbConn::Sqlite(conn) => {
                for (user, up_to) in &self.0 {
                    statements::run::<RaiseReceived, _>(conn, [up_to.get(), user.get(), up_to.get()])?;
                }
            }
            DbConn::Pg(conn) => connection::raise_received(conn, &self.0)?,
        }
        Ok(())
    }
}
