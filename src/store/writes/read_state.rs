//! What a user has read, and which kinds he has muted.

use diesel::{delete, dsl::max, insert_into, prelude::*, update};

use crate::{
    domain::{AlarmKind, UserId},
    store::{StoreError, Tx, Write, schema},
};

/// Which alarms have been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAlarms {
    /// All up to this id. Alarms that don't exist yet are not read in advance.
    UpTo(i64),
    /// These; ids that are not the user's are nobody's.
    Ids(Vec<i64>),
}

/// Marks alarms of a user as read; what is read stays read.
#[derive(Debug, Clone)]
pub struct MarkRead {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub alarms: ReadAlarms,
}

impl Write for MarkRead {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        // Alarms of this very transaction count too.
        tx.flush()?;
        match &self.alarms {
            ReadAlarms::UpTo(up_to) => {
                let newest: Option<i64> = {
                    use schema::inbox::dsl;
                    dsl::inbox
                        .filter(dsl::user_id.eq(self.user.get()))
                        .select(max(dsl::alarm_id))
                        .get_result(tx.conn)?
                };
                let mark = newest.unwrap_or(0).min(*up_to);
                use schema::users::dsl;
                update(dsl::users.filter(dsl::id.eq(self.user.get()).and(dsl::read_up_to.lt(mark))))
                    .set(dsl::read_up_to.eq(mark))
                    .execute(tx.conn)?;
            }
            ReadAlarms::Ids(ids) => {
                use schema::inbox::dsl;
                // One statement, however many: the bids of this transaction wait for it.
                let named = dsl::alarm_id.eq_any(ids.iter().copied());
                update(dsl::inbox.filter(dsl::user_id.eq(self.user.get()).and(named)))
                    .set(dsl::is_read.eq(true))
                    .execute(tx.conn)?;
            }
        }
        Ok(())
    }
}

/// Sets which kinds a user does not want to hear of, from now on.
#[derive(Debug, Clone)]
pub struct SetMuted {
    /// Whose.
    pub user: UserId,
    /// All of them; others are heard again.
    pub muted: Vec<AlarmKind>,
}

impl Write for SetMuted {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        use schema::mutes::dsl;
        delete(
            dsl::mutes
                .filter(dsl::user_id.eq(self.user.get()).and(dsl::kind.eq_any(AlarmKind::ALL.map(AlarmKind::name)))),
        )
        .execute(tx.conn)?;
        for kind in &self.muted {
            insert_into(dsl::mutes)
                .values((dsl::user_id.eq(self.user.get()), dsl::kind.eq(kind.name())))
                .execute(tx.conn)?;
        }
        Ok(())
    }
}
