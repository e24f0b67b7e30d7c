//! The received mark: which alarms are known to have reached their user.

use diesel::{prelude::*, update};

use crate::{
    domain::{AlarmId, UserId},
    store::{StoreError, Tx, Write, conn::DbConn, postgres, schema},
};

/// Raises the received marks of many users; a mark never goes back.
#[derive(Debug, Clone)]
pub struct MarkReceived(pub Vec<(UserId, AlarmId)>);

impl Write for MarkReceived {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        use schema::users::dsl;
        match tx.conn {
            DbConn::Sqlite(conn) => {
                for (user, up_to) in &self.0 {
                    update(dsl::users.filter(dsl::id.eq(user.get()).and(dsl::received_up_to.lt(up_to.get()))))
                        .set(dsl::received_up_to.eq(up_to.get()))
                        .execute(conn)?;
                }
            }
            DbConn::Pg(conn) => postgres::raise_received(conn, &self.0)?,
        }
        Ok(())
    }
}
