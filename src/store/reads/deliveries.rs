//! Who got the alarm of an event, and whether they have received and read it. Nothing is kept for it but the list of
//! each alarm's receivers: inbox rows and the users' cursors tell the rest.

use diesel::prelude::*;

use super::superseded::Superseded;
use crate::{
    domain::{AlarmId, EventId, Timestamp, UserId},
    store::{Store, StoreError, engine::DbConn, rows::parse_user_list, schema},
};

/// Selects deliveries of one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryQuery {
    /// Only this user's.
    pub user: Option<i64>,
    /// Only those of users above this id.
    pub after: i64,
    pub limit: usize,
}

/// One user's alarm of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub user: UserId,
    pub alarm: AlarmId,
    pub stored_at: Timestamp,
    /// Whether a session of the user has proved that it received it.
    pub received: bool,
    /// Whether it counts as read.
    pub read: bool,
    pub superseded: bool,
}

/// An alarm of an event, which has one for each chunk of its audience.
#[derive(Queryable, Selectable)]
#[diesel(table_name = schema::alarms)]
struct Chunk {
    id: i64,
    created_at: i64,
    receivers: Option<String>,
    stored_at: Option<i64>,
}

/// An inbox row, and how far its user has received and read.
#[derive(Queryable)]
struct InboxRow {
    user: UserId,
    is_read: bool,
    muted: bool,
    superseded: bool,
    /// `None`: the service does not know the user yet.
    cursors: Option<(i64, i64)>,
}

impl Store {
    /// The deliveries of an event that `query` selects, by user; `None` if there is no such event. The id of any of the
    /// event's alarms stands for it: a client sees no other.
    pub(crate) async fn deliveries(
        &self,
        event: EventId,
        query: DeliveryQuery,
    ) -> Result<Option<Vec<Delivery>>, StoreError> {
        self.read(move |conn| conn.transaction(|conn| deliveries(conn, event.get(), query))).await
    }
}

fn deliveries(conn: &mut DbConn, alarm: i64, query: DeliveryQuery) -> Result<Option<Vec<Delivery>>, StoreError> {
    use schema::alarms::dsl;
    let event: Option<i64> = dsl::alarms.find(alarm).select(dsl::event_id).get_result(conn).optional()?;
    let Some(event) = event else { return Ok(None) };
    let mut found = Vec::new();
    let mut after = query.user.map_or(query.after, |user| query.after.max(user.saturating_sub(1)));
    while found.len() < query.limit {
        let Some(chunk) = chunk_after(conn, event, after)? else { break };
        let receivers = parse_user_list(chunk.receivers.as_deref().unwrap_or_default(), "alarms.receivers")?;
        let rest = receivers.partition_point(|user| user.get() <= after);
        let next = receivers[rest..].iter().take(query.limit - found.len()).map(|user| user.get());
        let next: Vec<i64> = next.take_while(|id| query.user.is_none_or(|user| *id == user)).collect();
        let Some(last) = next.last().copied() else { break };
        found.extend(of_chunk(conn, &chunk, next)?);
        after = last;
    }
    Ok(Some(found))
}

/// The alarm of the event that has the first receiver above `after`.
fn chunk_after(conn: &mut DbConn, event: i64, after: i64) -> Result<Option<Chunk>, StoreError> {
    use schema::alarms::dsl;
    let first = dsl::alarms.filter(dsl::id.eq(event).and(dsl::last_receiver.gt(after)));
    let first: Option<Chunk> = first.select(Chunk::as_select()).get_result(conn).optional()?;
    if first.is_some() {
        return Ok(first);
    }
    let later = dsl::alarms.filter(dsl::event_id.eq(event).and(dsl::event_id.ne(dsl::id)));
    let later = later.filter(dsl::last_receiver.gt(after)).order(dsl::last_receiver).limit(1);
    Ok(later.select(Chunk::as_select()).get_result(conn).optional()?)
}

/// The deliveries of a chunk to these of its receivers, without those whose inbox no longer has it.
fn of_chunk(conn: &mut DbConn, chunk: &Chunk, users: Vec<i64>) -> Result<Vec<Delivery>, StoreError> {
    use schema::{alarms, inbox, users};
    let stored_at = Timestamp::from_micros(chunk.stored_at.unwrap_or(chunk.created_at));
    let alarm = AlarmId::from_stored(chunk.id);
    let rows = inbox::table
        .inner_join(alarms::table.on(alarms::id.eq(inbox::alarm_id)))
        .left_join(users::table.on(users::id.eq(inbox::user_id)))
        .filter(inbox::alarm_id.eq(chunk.id).and(inbox::user_id.eq_any(users)))
        .order(inbox::user_id)
        .select((
            inbox::user_id,
            inbox::is_read,
            inbox::muted,
            Superseded,
            (users::received_up_to, users::read_up_to).nullable(),
        ));
    let rows: Vec<InboxRow> = rows.load(conn)?;
    let delivery = |InboxRow { user, is_read, muted, superseded, cursors }| {
        let (received_up_to, read_up_to) = cursors.unwrap_or_default();
        Delivery {
            user,
            alarm,
            stored_at,
            // A muted alarm is never sent, although the cursor passes it.
            received: !muted && chunk.id <= received_up_to,
            read: is_read || superseded || chunk.id <= read_up_to,
            superseded,
        }
    };
    Ok(rows.into_iter().map(delivery).collect())
}
