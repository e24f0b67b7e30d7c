//! Reads of a user's inbox: pages for HTTP, the start and the backlog of a session, muted kinds.

use diesel::{dsl::max, prelude::*};

use super::superseded::{NotSuperseded, Superseded};
use crate::{
    domain::{Alarm, AlarmCursor, AlarmId, AlarmKind, Locale, Timestamp, UserId},
    store::{Store, StoreError, engine::DbConn, rows::AlarmRow, schema},
};

/// Alarms that a session without `since` gets from its backlog at most; older ones stay in the inbox
/// (`docs/protocol.md#the-alarm-socket`).
const BACKLOG_LIMIT: i64 = 100;

/// Selects a part of the inbox.
#[derive(Debug, Clone, Copy)]
pub struct AlarmQuery {
    /// Only alarms above this id, oldest first. Without it the newest come first.
    pub after: Option<i64>,
    /// Only alarms below this id.
    pub before: Option<i64>,
    pub unread: bool,
    pub limit: i64,
}

/// An alarm in one user's inbox.
#[derive(Debug, Clone)]
pub struct InboxAlarm {
    pub alarm: Alarm,
    /// Whether it counts as read: this user has read it, or it is superseded.
    pub read: bool,
    /// Whether it is an `outbid` that no longer holds: the user has bid since, or the auction has ended.
    pub superseded: bool,
}

/// One page of an inbox.
#[derive(Debug, Clone)]
pub struct AlarmPage {
    /// Oldest first if the query has `after`, otherwise newest first.
    pub alarms: Vec<InboxAlarm>,
    /// Number of unread alarms in the whole inbox.
    pub unread: i64,
    /// Id of the newest alarm in the whole inbox, 0 if there is none.
    pub last_id: i64,
    /// The language that the user has chosen.
    pub locale: Option<Locale>,
}

/// What a session is sent next.
#[derive(Debug, Clone)]
pub struct BacklogPage {
    /// Oldest first, each with whether it is superseded.
    pub alarms: Vec<(Alarm, bool)>,
    /// The language that the user has chosen.
    pub locale: Option<Locale>,
}

/// What a user wants of their alarms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    /// The kinds that they have muted, in the contract's order.
    pub muted: Vec<AlarmKind>,
    /// The language that they have chosen.
    pub locale: Option<Locale>,
}

/// The state with which a session opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStart {
    /// The session gets the alarms after it.
    pub cursor: AlarmCursor,
    /// Number of unread alarms in the inbox.
    pub unread: i64,
    /// Id of the newest alarm in the inbox, 0 if there is none.
    pub last_id: i64,
    /// False if the user is deactivated: their tokens are no longer valid.
    pub is_active: bool,
}

fn last_id(conn: &mut DbConn, user: i64) -> Result<i64, StoreError> {
    use schema::inbox::dsl;
    let last: Option<i64> = dsl::inbox.filter(dsl::user_id.eq(user)).select(max(dsl::alarm_id)).get_result(conn)?;
    Ok(last.unwrap_or(0))
}

/// The user's read cursor: alarms up to this id count as read, whatever their rows say.
fn read_up_to(conn: &mut DbConn, user: i64) -> Result<i64, StoreError> {
    use schema::users::dsl;
    let cursor: Option<i64> =
        dsl::users.filter(dsl::id.eq(user)).select(dsl::read_up_to).get_result(conn).optional()?;
    Ok(cursor.unwrap_or(0))
}

pub(super) fn unread(conn: &mut DbConn, user: i64) -> Result<i64, StoreError> {
    use schema::{alarms, inbox};
    let read_cursor = read_up_to(conn, user)?;
    let unread = inbox::table
        .inner_join(alarms::table.on(alarms::id.eq(inbox::alarm_id)))
        .filter(inbox::user_id.eq(user).and(inbox::alarm_id.gt(read_cursor)).and(inbox::is_read.eq(false)))
        .filter(NotSuperseded)
        .count()
        .get_result(conn)?;
    Ok(unread)
}

impl Store {
    /// The number of unread alarms, and the id of the newest alarm (0 if there is none).
    pub async fn unread(&self, user: UserId) -> Result<(i64, i64), StoreError> {
        self.read(move |conn| conn.transaction(|conn| Ok((unread(conn, user.get())?, last_id(conn, user.get())?))))
            .await
    }

    /// The part of a user's inbox that `query` selects.
    pub async fn inbox(&self, user: UserId, query: AlarmQuery) -> Result<AlarmPage, StoreError> {
        self.read(move |conn| conn.transaction(|conn| page(conn, user.get(), query))).await
    }

    /// At most `limit` alarms of a user's inbox with an id above `after`, oldest first.
    pub(crate) async fn inbox_after(
        &self,
        user: UserId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<InboxAlarm>, StoreError> {
        let query = AlarmQuery { after: Some(after), before: None, unread: false, limit };
        self.read(move |conn| conn.transaction(|conn| Ok(rows(conn, user.get(), query)?.0))).await
    }

    /// At most `limit` alarms after `cursor` that a session must be sent. Leaves out muted alarms, and superseded ones up to `superseded_after`.
    pub async fn backlog(
        &self,
        user: UserId,
        cursor: AlarmCursor,
        superseded_after: i64,
        limit: i64,
    ) -> Result<BacklogPage, StoreError> {
        let _permit = self.backlog_permits.acquire().await;
        self.read(move |conn| {
            use schema::{alarms, inbox, users};
            // Read with the alarms: a page must not come in a language that the user has changed before.
            let chosen = users::table.filter(users::id.eq(user.get())).select(users::locale).single_value();
            let rows: Vec<(AlarmRow, bool, Option<Locale>)> = inbox::table
                .inner_join(alarms::table.on(alarms::id.eq(inbox::alarm_id)))
                .filter(inbox::user_id.eq(user.get()).and(inbox::alarm_id.gt(cursor.get())).and(inbox::muted.eq(false)))
                .filter(inbox::alarm_id.gt(superseded_after).or(NotSuperseded))
                .order(inbox::alarm_id)
                .limit(limit)
                .select((AlarmRow::as_select(), Superseded, chosen))
                .load(conn)?;
            let locale = rows.first().and_then(|(_, _, locale)| *locale);
            let alarm = |(row, superseded, _): (AlarmRow, bool, _)| Ok((Alarm::try_from(row)?, superseded));
            Ok(BacklogPage { alarms: rows.into_iter().map(alarm).collect::<Result<_, StoreError>>()?, locale })
        })
        .await
    }

    /// What the user wants of their alarms.
    pub async fn preferences(&self, user: UserId) -> Result<Preferences, StoreError> {
        self.read(move |conn| conn.transaction(|conn| preferences(conn, user))).await
    }

    /// The newest of all alarms that are older than `before`; `None` if there is none. Scans alarms from the oldest on,
    /// which is quick because retention removes old ones.
    pub async fn newest_alarm_before(&self, before: Timestamp) -> Result<Option<AlarmId>, StoreError> {
        self.read(move |conn| {
            // The newest one first: alarms that are stored between these reads are above it, so they never count as old,
            // also if no other alarm is to be kept.
            let Some(newest) = newest(conn)? else { return Ok(None) };
            Ok(newest_old(conn, newest, before)?)
        })
        .await
    }

    /// Where a session begins. With `since`, after that id, or after the newest alarm if `since` is above it. Without
    /// it, before the newest 100 of the alarms that the user has not received. `received` is the user's received cursor
    /// as far as this node knows it; it may be ahead of the stored one.
    pub async fn session_start(
        &self,
        user: UserId,
        since: Option<i64>,
        received: Option<AlarmId>,
    ) -> Result<SessionStart, StoreError> {
        self.read(move |conn| conn.transaction(|conn| start(conn, user.get(), since, received.map(AlarmId::get)))).await
    }
}

/// What the user wants of their alarms.
pub(in crate::store) fn preferences(conn: &mut DbConn, user: UserId) -> Result<Preferences, StoreError> {
    use schema::{mutes, users};
    let of_user = mutes::user_id.eq(user.get()).and(mutes::kind.eq_any(AlarmKind::ALL.map(AlarmKind::name)));
    let muted: Vec<String> = mutes::table.filter(of_user).select(mutes::kind).load(conn)?;
    let muted = AlarmKind::ALL.into_iter().filter(|kind| muted.iter().any(|muted| muted == kind.name())).collect();
    let locale = users::table.find(user.get()).select(users::locale).get_result(conn).optional()?.flatten();
    Ok(Preferences { muted, locale })
}

fn start(conn: &mut DbConn, user: i64, since: Option<i64>, received: Option<i64>) -> Result<SessionStart, StoreError> {
    let last_id = last_id(conn, user)?;
    let stored: Option<(i64, bool)> = {
        use schema::users::dsl;
        dsl::users.filter(dsl::id.eq(user)).select((dsl::received_up_to, dsl::is_active)).get_result(conn).optional()?
    };
    // A new user's row may not be written yet: they are active and have received nothing.
    let (stored_cursor, is_active) = stored.unwrap_or((0, true));
    let cursor = match since {
        Some(since) => since.min(last_id),
        None => {
            let received_cursor = stored_cursor.max(received.unwrap_or(0));
            use schema::inbox::dsl;
            let newest: Vec<i64> = dsl::inbox
                .inner_join(schema::alarms::table.on(schema::alarms::id.eq(dsl::alarm_id)))
                .filter(dsl::user_id.eq(user).and(dsl::alarm_id.gt(received_cursor)).and(dsl::muted.eq(false)))
                .filter(NotSuperseded)
                .order(dsl::alarm_id.desc())
                .limit(BACKLOG_LIMIT)
                .select(dsl::alarm_id)
                .load(conn)?;
            newest.last().map_or(last_id, |oldest| oldest - 1)
        }
    };
    let cursor = AlarmCursor::from_number(cursor);
    Ok(SessionStart { cursor, unread: unread(conn, user)?, last_id, is_active })
}

fn page(conn: &mut DbConn, user: i64, query: AlarmQuery) -> Result<AlarmPage, StoreError> {
    let (alarms, locale) = rows(conn, user, query)?;
    Ok(AlarmPage { alarms, unread: unread(conn, user)?, last_id: last_id(conn, user)?, locale })
}

/// The alarms, and the language that the user has chosen.
fn rows(conn: &mut DbConn, user: i64, query: AlarmQuery) -> Result<(Vec<InboxAlarm>, Option<Locale>), StoreError> {
    use schema::{alarms, inbox, users};
    let reader: Option<(i64, Option<Locale>)> =
        users::table.find(user).select((users::read_up_to, users::locale)).get_result(conn).optional()?;
    let (read_cursor, locale) = reader.unwrap_or_default();
    let mut rows = inbox::table
        .inner_join(alarms::table.on(alarms::id.eq(inbox::alarm_id)))
        .filter(inbox::user_id.eq(user))
        .select((AlarmRow::as_select(), inbox::is_read, Superseded))
        .limit(query.limit)
        .into_boxed();
    if let Some(after) = query.after {
        rows = rows.filter(inbox::alarm_id.gt(after));
    }
    if let Some(before) = query.before {
        rows = rows.filter(inbox::alarm_id.lt(before));
    }
    if query.unread {
        rows = rows.filter(inbox::is_read.eq(false).and(inbox::alarm_id.gt(read_cursor))).filter(NotSuperseded);
    }
    rows = match query.after {
        Some(_) => rows.order(inbox::alarm_id.asc()),
        None => rows.order(inbox::alarm_id.desc()),
    };
    let rows = rows.load(conn)?;
    let alarm = |(row, is_read, superseded): (AlarmRow, bool, bool)| {
        let read = is_read || superseded || row.id <= read_cursor;
        Ok(InboxAlarm { alarm: row.try_into()?, read, superseded })
    };
    let alarms = rows.into_iter().map(alarm).collect::<Result<_, StoreError>>()?;
    Ok((alarms, locale))
}

fn newest(conn: &mut DbConn) -> QueryResult<Option<AlarmId>> {
    use schema::alarms::dsl;
    dsl::alarms.select(max(dsl::id)).get_result(conn)
}

/// The newest alarm up to this one that is older than `before`.
fn newest_old(conn: &mut DbConn, up_to: AlarmId, before: Timestamp) -> QueryResult<Option<AlarmId>> {
    use schema::alarms::dsl;
    let kept = dsl::alarms.filter(dsl::created_at.ge(before.micros())).order(dsl::id).limit(1);
    let kept: Option<i64> = kept.select(dsl::id).get_result(conn).optional()?;
    let is_old = dsl::id.le(up_to.get()).and(dsl::id.lt(kept.unwrap_or(i64::MAX)));
    dsl::alarms.select(max(dsl::id)).filter(is_old).get_result(conn)
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;

    #[test]
    fn an_alarm_that_is_stored_while_retention_looks_is_not_old() {
        let mut conn = DbConn::Sqlite(SqliteConnection::establish(":memory:").unwrap());
        conn.batch_execute("CREATE TABLE alarms (id BIGINT PRIMARY KEY, created_at BIGINT)").unwrap();
        let store = |conn: &mut DbConn, id: i64, at: Timestamp| {
            conn.batch_execute(&format!("INSERT INTO alarms VALUES ({id}, {})", at.micros())).unwrap();
        };
        let before = Timestamp::from_secs(100);
        let (old, young) = (before.plus_ms(-1), before);
        assert_eq!(newest(&mut conn), Ok(None));
        store(&mut conn, 1, old);
        store(&mut conn, 2, old);
        let (first, second) = (AlarmId::from_stored(1), AlarmId::from_stored(2));
        assert_eq!(newest(&mut conn), Ok(Some(second)));
        assert_eq!(newest_old(&mut conn, second, before), Ok(Some(second)), "none is to be kept");
        store(&mut conn, 3, old);
        assert_eq!(newest_old(&mut conn, second, before), Ok(Some(second)), "it came after the first read");
        conn.batch_execute(&format!("UPDATE alarms SET created_at = {} WHERE id > 1", young.micros())).unwrap();
        assert_eq!(newest_old(&mut conn, second, before), Ok(Some(first)));
    }
}
