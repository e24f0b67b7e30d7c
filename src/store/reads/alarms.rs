//! Reading a user's inbox: pages for HTTP, the backlog for a socket.

use diesel::{dsl::max, prelude::*};

use crate::{
    domain::{Alarm, AlarmId, UserId},
    store::{Store, StoreError, conn::DbConn, rows::AlarmRow, schema},
};

/// Alarms of the never-received replay: older ones stay in the inbox (PROTOCOL.md 5).
const REPLAYED: i64 = 100;

/// Which part of the inbox.
#[derive(Debug, Clone, Copy)]
pub struct AlarmQuery {
    /// Only alarms above this id, ascending.
    pub after: Option<i64>,
    /// Only alarms below this id.
    pub before: Option<i64>,
    /// Only unread ones.
    pub unread: bool,
    /// At most so many.
    pub limit: i64,
}

/// An alarm in one user's inbox.
#[derive(Debug, Clone)]
pub struct InboxAlarm {
    /// The payload.
    pub alarm: Alarm,
    /// Whether this user has read it.
    pub read: bool,
}

/// One page of an inbox.
#[derive(Debug, Clone)]
pub struct AlarmPage {
    /// The rows, ascending with `after`, else newest first.
    pub alarms: Vec<InboxAlarm>,
    /// Unread alarms of the whole inbox.
    pub unread: i64,
    /// Newest alarm of the whole inbox, 0 if none.
    pub last_id: i64,
}

/// What a session needs to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStart {
    /// Alarms above this id are to be sent.
    pub cursor: i64,
    /// Unread alarms of the inbox.
    pub unread: i64,
    /// Newest alarm of the inbox, 0 if none.
    pub last_id: i64,
    /// Whether the user's tokens are good.
    pub is_active: bool,
}

fn last_id(conn: &mut DbConn, user: i64) -> Result<i64, StoreError> {
    use schema::inbox::dsl;
    let last: Option<i64> = dsl::inbox.filter(dsl::user_id.eq(user)).select(max(dsl::alarm_id)).get_result(conn)?;
    Ok(last.unwrap_or(0))
}

fn unread(conn: &mut DbConn, user: i64) -> Result<i64, StoreError> {
    use schema::inbox::dsl;
    Ok(dsl::inbox.filter(dsl::user_id.eq(user).and(dsl::is_read.eq(false))).count().get_result(conn)?)
}

impl Store {
    /// Unread alarms and the newest id (0 if none).
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn unread(&self, user: UserId) -> Result<(i64, i64), StoreError> {
        self.read(move |conn| conn.transaction(|conn| Ok((unread(conn, user.get())?, last_id(conn, user.get())?))))
            .await
    }

    /// One page of the inbox.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn inbox(&self, user: UserId, query: AlarmQuery) -> Result<AlarmPage, StoreError> {
        self.read(move |conn| conn.transaction(|conn| page(conn, user.get(), query))).await
    }

    /// At most `limit` alarms above `cursor`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn backlog(&self, user: UserId, cursor: i64, limit: i64) -> Result<Vec<Alarm>, StoreError> {
        self.read(move |conn| {
            use schema::{alarms, inbox};
            let rows: Vec<AlarmRow> = inbox::table
                .inner_join(alarms::table.on(alarms::id.eq(inbox::alarm_id)))
                .filter(inbox::user_id.eq(user.get()).and(inbox::alarm_id.gt(cursor)))
                .order(inbox::alarm_id)
                .limit(limit)
                .select(AlarmRow::as_select())
                .load(conn)?;
            rows.into_iter().map(Alarm::try_from).collect()
        })
        .await
    }

    /// Where a session begins: after `since` (above the newest id it counts as that), or without it at what the user
    /// never received, at most the newest 100. `received` is what is known beyond the stored mark.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn session_start(
        &self,
        user: UserId,
        since: Option<i64>,
        received: Option<AlarmId>,
    ) -> Result<SessionStart, StoreError> {
        self.read(move |conn| conn.transaction(|conn| start(conn, user.get(), since, received.map(AlarmId::get)))).await
    }
}

fn start(conn: &mut DbConn, user: i64, since: Option<i64>, received: Option<i64>) -> Result<SessionStart, StoreError> {
    let last_id = last_id(conn, user)?;
    let stored: Option<(i64, bool)> = {
        use schema::users::dsl;
        dsl::users.filter(dsl::id.eq(user)).select((dsl::received_up_to, dsl::is_active)).get_result(conn).optional()?
    };
    // Every user of a token has a row; one without would have been made just now, active and with nothing received.
    let (stored_mark, is_active) = stored.unwrap_or((0, true));
    let cursor = match since {
        Some(since) => since.min(last_id),
        None => {
            let mark = stored_mark.max(received.unwrap_or(0));
            use schema::inbox::dsl;
            let newest: Vec<i64> = dsl::inbox
                .filter(dsl::user_id.eq(user).and(dsl::alarm_id.gt(mark)))
                .order(dsl::alarm_id.desc())
                .limit(REPLAYED)
                .select(dsl::alarm_id)
                .load(conn)?;
            newest.last().map_or(last_id, |oldest| oldest - 1)
        }
    };
    Ok(SessionStart { cursor, unread: unread(conn, user)?, last_id, is_active })
}

fn page(conn: &mut DbConn, user: i64, query: AlarmQuery) -> Result<AlarmPage, StoreError> {
    use schema::{alarms, inbox};
    let mut rows = inbox::table
        .inner_join(alarms::table.on(alarms::id.eq(inbox::alarm_id)))
        .filter(inbox::user_id.eq(user))
        .select((AlarmRow::as_select(), inbox::is_read))
        .limit(query.limit)
        .into_boxed();
    if let Some(after) = query.after {
        rows = rows.filter(inbox::alarm_id.gt(after));
    }
    if let Some(before) = query.before {
        rows = rows.filter(inbox::alarm_id.lt(before));
    }
    if query.unread {
        rows = rows.filter(inbox::is_read.eq(false));
    }
    rows = match query.after {
        Some(_) => rows.order(inbox::alarm_id.asc()),
        None => rows.order(inbox::alarm_id.desc()),
    };
    let rows: Vec<(AlarmRow, bool)> = rows.load(conn)?;
    let alarms = rows
        .into_iter()
        .map(|(row, read)| Ok(InboxAlarm { alarm: Alarm::try_from(row)?, read }))
        .collect::<Result<_, StoreError>>()?;
    Ok(AlarmPage { alarms, unread: unread(conn, user)?, last_id: last_id(conn, user)? })
}
