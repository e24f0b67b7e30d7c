//! Fan-outs: alarms to a large audience (likers, or likers and bidders), stored in chunks.
//!
//! The first chunk is stored in the transaction that raises the alarm. The rest is a durable job: a row of `fanouts`,
//! of which the ledger stores one chunk per transaction, so that a hundred thousand likers delay no bid. Each chunk is
//! an alarm row of its own, with an id from its own transaction. With one shared id, a user could get alarm 11 before
//! their inbox row for 10 exists, and their cursor would skip 10 for ever. The audience is everybody who liked the
//! goods (or had bid on them) when the alarm was raised, whatever changes while the job runs.

use diesel::{delete, dsl::sql, insert_into, prelude::*, sql_types::BigInt, update};

use crate::{
    domain::{Alarm, AlarmKind, EventId, GoodsId, GoodsState, UserId},
    store::{
        StoreError, Tx, Write,
        engine::{
            DbConn,
            sqlite::statements::{self, NextBidders, NextLikers},
        },
        rows::AlarmRow,
        schema,
    },
};

/// Users in the first chunk. Fewer than in later ones, because many auctions may start in one transaction.
const FIRST_CHUNK_LIMIT: usize = 250;
/// Users in a later chunk, which takes the ledger one or two milliseconds. Fan-outs that share a chunk divide them.
pub(crate) const CHUNK_LIMIT: usize = 1000;

/// The audience at the moment the alarm was raised.
#[derive(Debug, Clone, Copy)]
pub(super) struct Audience {
    /// The newest like that counts.
    pub max_like: i64,
    /// Bidders whose first bid has at most this `seq` count too; 0 means likers only.
    pub max_bid_seq: i64,
}

/// Stores the alarm for the first chunk of the audience, and for `also`, who is not among it. If there are more users,
/// adds a job that the ledger continues.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    kind: AlarmKind,
    goods: &GoodsState,
    audience: Audience,
    also: Option<UserId>,
) -> Result<(), StoreError> {
    if audience.max_bid_seq > 0 {
        // Bids that this transaction accepted earlier count too.
        tx.flush()?;
    }
    let mut chunk = next_chunk(tx.conn, goods.id, audience, 0, FIRST_CHUNK_LIMIT)?;
    let is_full = chunk.len() == FIRST_CHUNK_LIMIT;
    let last = chunk.last().copied();
    chunk.extend(also);
    if chunk.is_empty() {
        return Ok(());
    }
    let event = EventId::from_stored(tx.raise(kind, goods, None, chunk)?.get());
    if let Some(last) = last.filter(|_| is_full) {
        insert_into(schema::fanouts::table)
            .values((
                schema::fanouts::event_id.eq(event.get()),
                schema::fanouts::goods_id.eq(goods.id.get()),
                schema::fanouts::max_like.eq(audience.max_like),
                schema::fanouts::max_bid_seq.eq(audience.max_bid_seq),
                schema::fanouts::after_user_id.eq(last.get()),
            ))
            .execute(tx.conn)?;
        tx.add_fanout(event);
    }
    Ok(())
}

/// The fan-outs whose audience is not yet served completely, oldest first.
pub(crate) fn unfinished(conn: &mut DbConn) -> Result<Vec<EventId>, StoreError> {
    use schema::fanouts::dsl;
    let events: Vec<i64> = dsl::fanouts.select(dsl::event_id).order(dsl::event_id).load(conn)?;
    Ok(events.into_iter().map(EventId::from_stored).collect())
}

/// Takes over a fan-out that another node has abandoned. If two nodes do so, each stores some of the chunks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResumeFanout(pub EventId);

/// Outcome of a [`ResumeFanout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// This node continues the fan-out.
    Yes,
    /// The fan-out is already finished.
    Finished,
}

impl Write for ResumeFanout {
    type Out = Resumed;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Resumed, StoreError> {
        use schema::fanouts::dsl;
        let open: i64 = dsl::fanouts.filter(dsl::event_id.eq(self.0.get())).count().get_result(tx.conn)?;
        if open == 0 {
            return Ok(Resumed::Finished);
        }
        tx.add_fanout(self.0);
        Ok(Resumed::Yes)
    }
}

/// Whether the goods have an unfinished fan-out.
pub(super) fn is_open(conn: &mut DbConn, goods: GoodsId) -> Result<bool, StoreError> {
    use schema::fanouts::dsl;
    let open: i64 = dsl::fanouts.filter(dsl::goods_id.eq(goods.get())).count().get_result(conn)?;
    Ok(open > 0)
}

/// Stores the next chunk of a fan-out, of at most `users` users. Returns true if it was the last.
pub(crate) fn step(tx: &mut Tx<'_>, event: EventId, users: usize) -> Result<bool, StoreError> {
    use schema::fanouts::dsl;
    let job: Option<(i64, i64, i64, i64)> = dsl::fanouts
        .filter(dsl::event_id.eq(event.get()))
        .select((dsl::goods_id, dsl::max_like, dsl::max_bid_seq, dsl::after_user_id))
        .get_result(tx.conn)
        .optional()?;
    // No row: the last chunk is stored already, by another node or by a commit that seemed to fail.
    let Some((goods, max_like, max_bid_seq, after)) = job else { return Ok(true) };
    let goods = GoodsId::from_stored(goods);
    tx.flush()?;
    let chunk = next_chunk(tx.conn, goods, Audience { max_like, max_bid_seq }, after, users)?;
    let is_full = chunk.len() == users;
    if let Some(last) = chunk.last().copied() {
        let first: AlarmRow = schema::alarms::table
            .filter(schema::alarms::id.eq(event.get()))
            .select(AlarmRow::as_select())
            .get_result(tx.conn)?;
        let id = tx.next_alarm()?;
        tx.add_alarm(Alarm { id, ..Alarm::try_from(first)? }, chunk);
        update(dsl::fanouts.filter(dsl::event_id.eq(event.get())))
            .set(dsl::after_user_id.eq(last.get()))
            .execute(tx.conn)?;
    }
    if !is_full {
        delete(dsl::fanouts.filter(dsl::event_id.eq(event.get()))).execute(tx.conn)?;
        if !is_open(tx.conn, goods)? {
            use schema::likes::dsl;
            delete(dsl::likes.filter(dsl::goods_id.eq(goods.get()).and(dsl::removed))).execute(tx.conn)?;
        }
    }
    Ok(!is_full)
}

/// The next users of the audience, by id. Likes that were removed while the fan-out runs still count: their rows stay,
/// flagged as `removed`.
fn next_chunk(
    conn: &mut DbConn,
    goods: GoodsId,
    audience: Audience,
    after_user: i64,
    users: usize,
) -> Result<Vec<UserId>, StoreError> {
    let Audience { max_like, max_bid_seq } = audience;
    // Each of the two index scans stops after one chunk, and the results are merged: a plain union would collect the
    // whole audience for each chunk. Each scan is free of duplicates, because a chunk that is short ends the fan-out.
    let found = match conn {
        DbConn::Sqlite(conn) => {
            let values = |newest| [goods.get(), after_user, newest, i64::try_from(users).unwrap_or(i64::MAX)];
            let mut found = statements::load::<NextLikers, _>(conn, values(max_like))?;
            if max_bid_seq > 0 {
                found.extend(statements::load::<NextBidders, _>(conn, values(max_bid_seq))?);
                found.sort_unstable();
                found.dedup();
                found.truncate(users);
            }
            found
        }
        // Literal numbers instead of parameters: the planner needs to know how many users like these very goods.
        DbConn::Pg(conn) => sql::<BigInt>(&format!(
            "SELECT user_id FROM (SELECT DISTINCT user_id FROM likes \
                 WHERE goods_id = {goods} AND user_id > {after_user} AND id <= {max_like} \
                 ORDER BY user_id LIMIT {users}) AS likers \
             UNION SELECT user_id FROM (SELECT user_id FROM bidders \
                 WHERE goods_id = {goods} AND user_id > {after_user} AND first_seq <= {max_bid_seq} \
                 ORDER BY user_id LIMIT {users}) AS bidders \
             ORDER BY user_id LIMIT {users}"
        ))
        .load(conn)?,
    };
    Ok(found.into_iter().map(UserId::from_stored).collect())
}
