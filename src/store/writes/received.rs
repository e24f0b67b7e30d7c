//! The received mark: which alarms are known to have reached their user.

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

/// Raises the received marks of many users; a mark never goes back.
#[derive(Debug, Clone)]
pub struct MarkReceived(pub Vec<(UserId, AlarmId)>);

impl Write for MarkReceived {
    type Out = ();

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
