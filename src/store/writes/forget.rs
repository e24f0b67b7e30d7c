//! Forgetting what is old: inbox rows and alarms past `alarms.keep_days`, idempotency keys past their day. In small
//! portions, so that no bid waits for it.

use diesel::{delete, prelude::*};

use crate::{
    domain::{AlarmId, IdempotencyKey, UserId},
    store::{StoreError, Tx, Write, schema},
};

/// Rows of one portion.
const PORTION: i64 = 500;

/// Removes old rows of some users' inboxes.
#[derive(Debug, Clone)]
pub struct ForgetInbox {
    /// Whose.
    pub users: Vec<UserId>,
    /// Alarms up to this id are old.
    pub up_to: AlarmId,
}

impl Write for ForgetInbox {
    /// How many rows went; as many as a portion: there may be more.
    type Out = usize;

    fn run(&self, tx: &mut Tx<'_>) -> Result<usize, StoreError> {
        use schema::inbox::dsl;
        let mut gone = 0;
        for user in &self.users {
            let left = PORTION - gone;
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
                gone += old.len() as i64;
            }
        }
        Ok(usize::try_from(gone).unwrap_or(0))
    }
}

impl ForgetInbox {
    /// Whether so many rows gone mean that there may be more.
    pub fn may_have_more(gone: usize) -> bool {
        gone as i64 >= PORTION
    }
}

/// Removes old alarms that are in nobody's inbox any more.
#[derive(Debug, Clone, Copy)]
pub struct ForgetAlarms {
    /// Alarms up to this id are old.
    pub up_to: AlarmId,
}

impl Write for ForgetAlarms {
    /// True when there are no more.
    type Out = bool;

    fn run(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        use schema::alarms::dsl;
        let old: Vec<i64> = dsl::alarms
            .filter(dsl::id.le(self.up_to.get()))
            .order(dsl::id)
            .limit(PORTION)
            .select(dsl::id)
            .load(tx.conn)?;
        let is_last = (old.len() as i64) < PORTION;
        // By name: of `id <= $1` PostgreSQL, which plans a writer's statement once, thinks that it means a third of them all.
        if !old.is_empty() {
            delete(dsl::alarms.filter(dsl::id.eq_any(old))).execute(tx.conn)?;
        }
        Ok(is_last)
    }
}

/// Removes idempotency keys that are older than a day.
#[derive(Debug, Clone, Copy)]
pub struct ForgetKeys;

impl Write for ForgetKeys {
    /// True when there are no more.
    type Out = bool;

    fn run(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        use schema::idempotency_keys::dsl;
        let before = tx.now().plus_ms(-IdempotencyKey::KEPT_MS).micros();
        let old: Vec<(i64, String)> = dsl::idempotency_keys
            .filter(dsl::created_at.le(before))
            .order(dsl::created_at)
            .limit(PORTION)
            .select((dsl::user_id, dsl::key))
            .load(tx.conn)?;
        let is_last = (old.len() as i64) < PORTION;
        for (user, key) in old {
            delete(dsl::idempotency_keys.filter(dsl::user_id.eq(user).and(dsl::key.eq(key)))).execute(tx.conn)?;
        }
        Ok(is_last)
    }
}
