//! Collapse keys: a user's newest alarm of a key supersedes the one before it, unless they have read that.
//!
//! The key stands at the newest alarm of an inbox only, so one row of the index is looked up for each receiver. Only
//! alarms with a key pay for it.

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{Array, BigInt, Text},
};

use crate::{
    domain::{AlarmId, CollapseKey, UserId},
    store::{StoreError, engine::DbConn},
};

/// Moves the key from the alarms before to this one, whose inbox rows are written without it.
pub(super) fn take_over(
    conn: &mut DbConn,
    key: &CollapseKey,
    alarm: AlarmId,
    users: &[UserId],
) -> Result<(), StoreError> {
    let users: Vec<i64> = users.iter().map(|user| user.get()).collect();
    let are_named = match conn {
        // Integers can always be written as JSON.
        DbConn::Sqlite(_) => "user_id IN (SELECT value FROM json_each($2))",
        DbConn::Pg(_) => "user_id = ANY ($2)",
    };
    let supersede = format!(
        "UPDATE inbox SET collapse_key = NULL, superseded = NOT is_read AND alarm_id > \
             COALESCE((SELECT read_up_to FROM users WHERE users.id = inbox.user_id), 0) \
         WHERE collapse_key = $1 AND {are_named}"
    );
    let mark = format!("UPDATE inbox SET collapse_key = $1 WHERE {are_named} AND alarm_id = $3");
    match conn {
        DbConn::Sqlite(conn) => {
            let users = serde_json::to_string(&users).unwrap_or_default();
            sql_query(supersede).bind::<Text, _>(key.as_str()).bind::<Text, _>(&users).execute(conn)?;
            let mark = sql_query(mark).bind::<Text, _>(key.as_str()).bind::<Text, _>(users);
            mark.bind::<BigInt, _>(alarm.get()).execute(conn)?;
        }
        DbConn::Pg(conn) => {
            sql_query(supersede).bind::<Text, _>(key.as_str()).bind::<Array<BigInt>, _>(&users).execute(conn)?;
            let mark = sql_query(mark).bind::<Text, _>(key.as_str()).bind::<Array<BigInt>, _>(users);
            mark.bind::<BigInt, _>(alarm.get()).execute(conn)?;
        }
    }
    Ok(())
}
