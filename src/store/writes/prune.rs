//! Retention: removes inbox rows and alarms older than `alarms.keep_days`, and idempotency keys older than a day. Each
//! write removes one small portion, so that bids do not wait for it; the caller repeats it until nothing is left.

use diesel::{delete, prelude::*};

use crate::{
    domain::{AlarmId, IdempotencyKey, UserId},
    store::{StoreError, Tx, Write, schema},
};

/// Rows that one write removes at most.
const PORTION_LIMIT: i64 = 500;

/// Outcome of one portion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pruned {
    /// No old rows are left.
    All,
    /// Old rows may be left.
    Portion,
}

impl Pruned {
    fn after(removed: usize) -> Self {
        if (removed as i64) < PORTION_LIMIT { Self::All } else { Self::Portion }
    }
}

/// Removes a portion of the old rows of these users' inboxes.
#[derive(Debug, Clone)]
pub(crate) struct PruneInbox {
    pub users: Vec<UserId>,
    /// Newest alarm id that counts as old.
    pub up_to: AlarmId,
}

impl Write for PruneInbox {
    type Out = Pruned;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Pruned, StoreError> {
        use schema::inbox::dsl;
        let mut removed = 0usize;
        for user in &self.users {
            let left = PORTION_LIMIT - removed as i64;
            if left <= 0 {
                break;
            }
            let old: Vec<i64> = dsl::inbox
                .filter(dsl::user_id.eq(user.get()).and(dsl::alarm_id.le(self.up_to.get())))
                .order(dsl::alarm_id)
                .limit(left)
                .select(dsl::alarm_id)
                .load(tx.conn)?;
            if let Some(last) = old.last() {
                delete(dsl::inbox.filter(dsl::user_id.eq(user.get()).and(dsl::alarm_id.le(last)))).execute(tx.conn)?;
                removed += old.len();
            }
        }
        Ok(Pruned::after(removed))
    }
}

/// Removes a portion of the old alarms. Their inbox rows must be gone already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PruneAlarms {
    /// Newest alarm id that counts as old.
    pub up_to: AlarmId,
}

impl Write for PruneAlarms {
    type Out = Pruned;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Pruned, StoreError> {
        use schema::alarms::dsl;
        let old: Vec<i64> = dsl::alarms
            .filter(dsl::id.le(self.up_to.get()))
            .order(dsl::id)
            .limit(PORTION_LIMIT)
            .select(dsl::id)
            .load(tx.conn)?;
        let pruned = Pruned::after(old.len());
        // By listed ids: PostgreSQL plans a writer's statement once, and for `id <= $1` it assumes a third of all rows.
        if !old.is_empty() {
            delete(dsl::alarms.filter(dsl::id.eq_any(old))).execute(tx.conn)?;
        }
        Ok(pruned)
    }
}

/// Removes a portion of the idempotency keys that are older than a day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PruneKeys;

impl Write for PruneKeys {
    type Out = Pruned;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Pruned, StoreError> {
        use schema::idempotency_keys::dsl;
        let before = tx.now().plus_ms(-IdempotencyKey::RETENTION_MS).micros();
        let old: Vec<(i64, String)> = dsl::idempotency_keys
            .filter(dsl::created_at.le(before))
            .order(dsl::created_at)
            .limit(PORTION_LIMIT)
            .select((dsl::user_id, dsl::key))
            .load(tx.conn)?;
        let pruned = Pruned::after(old.len());
        for (user, key) in old {
            delete(dsl::idempotency_keys.filter(dsl::user_id.eq(user).and(dsl::key.eq(key)))).execute(tx.conn)?;
        }
        Ok(pruned)
    }
}
