//! Reads of users. A user has a row once the service has seen a token of theirs.

use std::collections::HashMap;

use diesel::prelude::*;

use crate::{
    domain::{User, UserId},
    store::{Store, StoreError, engine::DbConn, rows::UserRow, schema},
};

/// The user; `None` if they are unknown.
pub(super) fn find(conn: &mut DbConn, id: i64) -> Result<Option<User>, StoreError> {
    use schema::users::dsl;
    let row: Option<UserRow> =
        dsl::users.filter(dsl::id.eq(id)).select(UserRow::as_select()).get_result(conn).optional()?;
    Ok(row.map(User::from))
}

/// Those of these users that are known, by their ids.
pub(super) fn find_all(conn: &mut DbConn, ids: &[i64]) -> Result<HashMap<i64, User>, StoreError> {
    use schema::users::dsl;
    let (mut ids, mut found) = (ids.to_vec(), HashMap::new());
    ids.sort_unstable();
    ids.dedup();
    let rows: Vec<UserRow> = dsl::users.filter(dsl::id.eq_any(ids)).select(UserRow::as_select()).load(conn)?;
    found.extend(rows.into_iter().map(User::from).map(|user| (user.id.get(), user)));
    Ok(found)
}

impl Store {
    /// At most `limit` user ids above `after` (`None`: from the lowest), in ascending order.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn users_after(&self, after: Option<UserId>, limit: i64) -> Result<Vec<UserId>, StoreError> {
        self.read(move |conn| {
            use schema::users::dsl;
            let ids: Vec<i64> = dsl::users
                .filter(dsl::id.gt(after.map_or(0, UserId::get)))
                .order(dsl::id)
                .limit(limit)
                .select(dsl::id)
                .load(conn)?;
            Ok(ids.into_iter().map(UserId::from_stored).collect())
        })
        .await
    }

    /// The user; `None` if they are unknown.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.read(move |conn| find(conn, id.get())).await
    }
}
