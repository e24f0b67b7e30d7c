//! Which alarms a user has read.

use diesel::{dsl::max, prelude::*, update};

use crate::{
    domain::UserId,
    store::{StoreError, Tx, Write, schema},
};

/// The alarms to mark as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadAlarms {
    /// All up to this id, but never beyond the newest one in the inbox: later alarms stay unread.
    UpTo(i64),
    /// These ids. Ids that are not in the user's inbox have no effect.
    Ids(Vec<i64>),
}

/// Marks alarms of a user as read. Nothing makes them unread again.
#[derive(Debug, Clone)]
pub(crate) struct MarkRead {
    pub user: UserId,
    pub alarms: ReadAlarms,
}

impl Write for MarkRead {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        match &self.alarms {
            ReadAlarms::UpTo(up_to) => {
                let cursor = newest_in_inbox(tx, self.user)?.min(*up_to);
                use schema::users::dsl;
                update(dsl::users.filter(dsl::id.eq(self.user.get()).and(dsl::read_up_to.lt(cursor))))
                    .set(dsl::read_up_to.eq(cursor))
                    .execute(tx.conn)?;
            }
            ReadAlarms::Ids(ids) => {
                // Alarms that this transaction raised earlier count too.
                tx.flush()?;
                use schema::inbox::dsl;
                // One statement for all ids, because the bids of this transaction wait for it.
                let named = dsl::alarm_id.eq_any(ids.iter().copied());
                update(dsl::inbox.filter(dsl::user_id.eq(self.user.get()).and(named)))
                    .set(dsl::is_read.eq(true))
                    .execute(tx.conn)?;
            }
        }
        Ok(())
    }
}

/// The newest alarm of a user's inbox, 0 if it is empty. Alarms that this transaction raised earlier count too.
pub(super) fn newest_in_inbox(tx: &mut Tx<'_>, user: UserId) -> Result<i64, StoreError> {
    use schema::inbox::dsl;
    tx.flush()?;
    let newest: Option<i64> =
        dsl::inbox.filter(dsl::user_id.eq(user.get())).select(max(dsl::alarm_id)).get_result(tx.conn)?;
    Ok(newest.unwrap_or(0))
}
