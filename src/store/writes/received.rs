//! The received cursor of a user: the newest alarm that is known to have reached them.

use super::read_state::newest_in_inbox;
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

/// Raises the received cursor of one user, who acknowledges their alarms over HTTP. It never goes beyond the newest
/// alarm of their inbox: later alarms are yet to be received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AcknowledgeAlarms {
    pub user: UserId,
    pub up_to: i64,
}

impl Write for AcknowledgeAlarms {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let cursor = newest_in_inbox(tx, self.user)?.min(self.up_to);
        MarkReceived(vec![(self.user, AlarmId::from_stored(cursor))]).run(tx)
    }
}
