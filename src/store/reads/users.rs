//! Reads of users. A user has a row once the service has seen a token of theirs.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;

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

impl Store {
    /// At most `limit` user ids above `after` (`None`: from the lowest), in ascending order.
    pub async fn users_after(&self, after: Option<UserId>, limit: i64) -> Result<Vec<UserId>, StoreError> {
        self.read(move |conn| {
            use schema::users::dsl;
            let users = dsl::users.filter(dsl::id.gt(after.map_or(0, UserId::get)));
            Ok(users.order(dsl::id).limit(limit).select(dsl::id).load(conn)?)
        })
        .await
    }

    /// The user; `None` if they are unknown.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.read(move |conn| UserRow::find(conn, id)).await
    }
}
