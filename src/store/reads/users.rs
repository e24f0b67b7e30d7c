//! Reads of users. A user has a row once the service has seen a token of theirs.

use std::collections::{BTreeSet, HashMap};

use diesel::{prelude::*, sql_query, sql_types::BigInt};

use crate::{
    domain::{User, UserId},
    store::{Store, StoreError, engine::DbConn, rows::UserRow, schema},
};

/// Those of these users that are known, by their ids.
pub(super) fn find_all(conn: &mut DbConn, ids: &[i64]) -> Result<HashMap<i64, User>, StoreError> {
    use schema::users::dsl;
    let ids = BTreeSet::from_iter(ids.iter().copied());
    let rows: Vec<UserRow> = dsl::users.filter(dsl::id.eq_any(ids)).select(UserRow::as_select()).load(conn)?;
    Ok(rows.into_iter().map(User::from).map(|user| (user.id.get(), user)).collect())
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

impl Store {
    /// At most `limit` users above `after` (`None`: from the lowest) who have alarms in their inboxes, in ascending
    /// order. They may have no row: notices go to users whom the service does not know yet.
    pub async fn users_with_alarms(&self, after: Option<UserId>, limit: i64) -> Result<Vec<UserId>, StoreError> {
        self.read(move |conn| {
            // One look-up in the index for each user. `DISTINCT` would read all their rows.
            let users = sql_query(
                "WITH RECURSIVE found (id, number) AS ( \
                     SELECT (SELECT min(user_id) FROM inbox WHERE user_id > $1), 1 \
                     UNION ALL SELECT (SELECT min(user_id) FROM inbox WHERE user_id > found.id), number + 1 \
                     FROM found WHERE id IS NOT NULL AND number < $2) \
                 SELECT id FROM found WHERE id IS NOT NULL ORDER BY id",
            );
            let after = after.map_or(0, UserId::get);
            let found: Vec<IdRow> = users.bind::<BigInt, _>(after).bind::<BigInt, _>(limit).load(conn)?;
            Ok(found.into_iter().map(|row| UserId::from_stored(row.id)).collect())
        })
        .await
    }

    /// How many users are active.
    pub async fn active_users(&self) -> Result<i64, StoreError> {
        self.read(|conn| {
            use schema::users::dsl;
            Ok(dsl::users.filter(dsl::is_active).count().get_result(conn)?)
        })
        .await
    }

    /// The user; `None` if they are unknown.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.read(move |conn| UserRow::find(conn, id)).await
    }
}
