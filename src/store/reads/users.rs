//! Reads of users. A user has a row once the service has seen a token of theirs.

use std::collections::{BTreeSet, HashMap};

use diesel::{prelude::*, sql_query, sql_types::BigInt};
use serde::Serialize;
use utoipa::ToSchema;

use super::alarms::unread;
use crate::{
    domain::{GoodsId, Phase, Timestamp, User, UserId},
    store::{
        Store, StoreError,
        engine::DbConn,
        rows::{UserRow, phase_code},
        schema::{self, goods},
        search::{lower, strpos},
    },
};

/// Most goods in [`UserDetail::leads`].
const LEADS_LIMIT: i64 = 200;

/// Users that one search goes through. No index finds a part of a name.
const SEARCHED_USERS: i64 = 20_000;

/// A user as admins see them.
#[derive(Debug, Clone)]
pub(crate) struct UserDetail {
    pub user: User,
    /// Number of unread alarms in their inbox.
    pub unread: i64,
    /// Live goods that they lead, at most 200, by id.
    pub leads: Vec<LedGoods>,
}

/// Live goods with their leader's price.
#[derive(Debug, Clone, Queryable, Selectable, Serialize, ToSchema)]
#[diesel(table_name = goods)]
pub(crate) struct LedGoods {
    #[diesel(column_name = id)]
    pub goods_id: GoodsId,
    pub title: String,
    pub high_price: Option<i64>,
    pub ends_at: Timestamp,
}

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

    /// At most `limit` users with an id above `after`, by id.
    pub(crate) async fn users(&self, after: i64, limit: i64) -> Result<Vec<User>, StoreError> {
        self.read(move |conn| {
            use schema::users::dsl;
            let users = dsl::users.filter(dsl::id.gt(after)).order(dsl::id).limit(limit);
            let rows: Vec<UserRow> = users.select(UserRow::as_select()).load(conn)?;
            Ok(rows.into_iter().map(User::from).collect())
        })
        .await
    }

    /// Those of the next [`SEARCHED_USERS`] users above `after` whose name contains `search`, or whose id it is; upper
    /// and lower case are the same. Also returns after which user to go on, `None` if there are no more.
    pub(crate) async fn search_users(
        &self,
        search: String,
        after: i64,
    ) -> Result<(Vec<User>, Option<i64>), StoreError> {
        self.search(move |conn| {
            use schema::users::dsl;
            let next = dsl::users.filter(dsl::id.gt(after)).order(dsl::id).offset(SEARCHED_USERS - 1).limit(1);
            let last: Option<i64> = next.select(dsl::id).get_result(conn).optional()?;
            let is_named = strpos(lower(dsl::username), search.to_lowercase()).gt(0);
            let is_found = is_named.or(dsl::id.eq(UserId::parse(&search).map_or(0, UserId::get)));
            let among = dsl::id.gt(after).and(dsl::id.le(last.unwrap_or(i64::MAX)));
            let users = dsl::users.filter(among.and(is_found)).order(dsl::id);
            let rows: Vec<UserRow> = users.select(UserRow::as_select()).load(conn)?;
            Ok((rows.into_iter().map(User::from).collect(), last))
        })
        .await
    }

    /// The user as admins see them; `None` if they are unknown.
    pub(crate) async fn user_detail(&self, id: UserId) -> Result<Option<UserDetail>, StoreError> {
        self.read(move |conn| {
            conn.transaction(|conn| {
                let Some(user) = UserRow::find(conn, id)? else { return Ok(None) };
                let led = goods::table
                    .filter(goods::phase.eq(phase_code(Phase::Live)).and(goods::high_bidder_id.eq(id.get())))
                    .order(goods::id)
                    .limit(LEADS_LIMIT);
                let leads = led.select(LedGoods::as_select()).load(conn)?;
                Ok(Some(UserDetail { user, unread: unread(conn, id.get())?, leads }))
            })
        })
        .await
    }

    /// Users whose erasure has begun at or before `begun_by` and is not over.
    pub(crate) async fn open_erasures(&self, begun_by: Timestamp) -> Result<Vec<UserId>, StoreError> {
        self.read(move |conn| {
            use schema::erasures::dsl;
            Ok(dsl::erasures.filter(dsl::begun_at.le(begun_by.micros())).select(dsl::user_id).load(conn)?)
        })
        .await
    }
}
