//! Alarms to large audiences: likers, and likers with bidders, in chunks.
//!
//! The first chunk is stored with what raised it; the rest is a durable job that the ledger works off, one chunk a
//! transaction, so that a hundred thousand likers hold up nobody's bid. Each chunk is an alarm row of its own, with
//! an id of its own transaction: otherwise a user could see alarm 11 before his row for 10 exists, and a cursor would
//! skip 10 for ever. The audience is who liked (or had bid) at that moment, whatever happens while the job runs.

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

/// Users that are served with what raised the alarm. Fewer than in a chunk, for many auctions may start at one moment, in
/// one transaction.
const FIRST: usize = 250;
/// Users of one chunk: one or two milliseconds of the ledger's time.
pub(crate) const CHUNK: usize = 1000;

/// Who is meant: likes up to a mark, and bidders up to a bid of the goods (0: none).
#[derive(Debug, Clone, Copy)]
pub(super) struct Audience {
    pub max_like: i64,
    pub max_bid_seq: i64,
}

/// Stores the alarm for the first chunk; if there are more, leaves a job for the ledger.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    kind: AlarmKind,
    goods: &GoodsState,
    audience: Audience,
) -> Result<(), StoreError> {
    if audience.max_bid_seq > 0 {
        // Bids of this very transaction count too.
        tx.flush()?;
    }
    let chunk = next_chunk(tx.conn, goods.id, audience, 0, FIRST)?;
    let Some(last) = chunk.last().copied() else { return Ok(()) };
    let full = chunk.len() == FIRST;
    let event = EventId::from_stored(tx.raise(kind, goods, None, chunk)?.get());
    if full {
        insert_into(schema::fanouts::table)
            .values((
                schema::fanouts::event_id.eq(event.get()),
                schema::fanouts::goods_id.eq(goods.id.get()),
                schema::fanouts::max_like.eq(audience.max_like),
                schema::fanouts::max_bid_seq.eq(audience.max_bid_seq),
                schema::fanouts::after_user_id.eq(last.get()),
            ))
            .execute(tx.conn)?;
        tx.began_fanout(event);
    }
    Ok(())
}

/// The fan-outs that are not done.
pub(crate) fn open_ones(conn: &mut DbConn) -> Result<Vec<EventId>, StoreError> {
    use schema::fanouts::dsl;
    let events: Vec<i64> = dsl::fanouts.select(dsl::event_id).order(dsl::event_id).load(conn)?;
    Ok(events.into_iter().map(EventId::from_stored).collect())
}

/// Goes on with a fan-out whose node is gone. Two nodes that both do take turns, chunk by chunk.
#[derive(Debug, Clone, Copy)]
pub struct AdoptFanout(pub EventId);

impl Write for AdoptFanout {
    /// Whether there was anything left to do.
    type Out = bool;

    fn run(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        use schema::fanouts::dsl;
        let open: i64 = dsl::fanouts.filter(dsl::event_id.eq(self.0.get())).count().get_result(tx.conn)?;
        if open > 0 {
            tx.began_fanout(self.0);
        }
        Ok(open > 0)
    }
}

/// Whether goods have a fan-out under way.
pub(super) fn is_open(conn: &mut DbConn, goods: GoodsId) -> Result<bool, StoreError> {
    use schema::fanouts::dsl;
    let open: i64 = dsl::fanouts.filter(dsl::goods_id.eq(goods.get())).count().get_result(conn)?;
    Ok(open > 0)
}

/// Serves the next users of a fan-out, so many at most; true when they were the last.
pub(crate) fn step(tx: &mut Tx<'_>, event: EventId, users: usize) -> Result<bool, StoreError> {
    use schema::fanouts::dsl;
    let job: Option<(i64, i64, i64, i64)> = dsl::fanouts
        .filter(dsl::event_id.eq(event.get()))
        .select((dsl::goods_id, dsl::max_like, dsl::max_bid_seq, dsl::after_user_id))
        .get_result(tx.conn)
        .optional()?;
    // Its last step was stored, though its commit had seemed to fail.
    let Some((goods, max_like, max_bid_seq, after)) = job else { return Ok(true) };
    let goods = GoodsId::from_stored(goods);
    tx.flush()?;
    let chunk = next_chunk(tx.conn, goods, Audience { max_like, max_bid_seq }, after, users)?;
    let full = chunk.len() == users;
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
    if !full {
        delete(dsl::fanouts.filter(dsl::event_id.eq(event.get()))).execute(tx.conn)?;
        if !is_open(tx.conn, goods)? {
            use schema::likes::dsl;
            delete(dsl::likes.filter(dsl::goods_id.eq(goods.get()).and(dsl::removed))).execute(tx.conn)?;
        }
    }
    Ok(!full)
}

/// The next users of the audience by id. Likes that were taken back while a fan-out ran are still there, marked.
fn next_chunk(
    conn: &mut DbConn,
    goods: GoodsId,
    audience: Audience,
    after_user: i64,
    users: usize,
) -> Result<Vec<UserId>, StoreError> {
    let Audience { max_like, max_bid_seq } = audience;
    // Walks along indexes that stop after a chunk, and are merged if there are two: a plain union would gather the whole
    // audience for each chunk. Each user once in each: a chunk that only looks short would end the fan-out.
    let found = match conn {
        DbConn::Sqlite(conn) => {
            let places = |most| [goods.get(), after_user, most, i64::try_from(users).unwrap_or(i64::MAX)];
            let mut found = statements::load::<NextLikers, _>(conn, places(max_like))?;
            if max_bid_seq > 0 {
                found.extend(statements::load::<NextBidders, _>(conn, places(max_bid_seq))?);
                found.sort_unstable();
                found.dedup();
                found.truncate(users);
            }
            found
        }
        // The numbers stand in the text, because how many like these goods of all is what it has to plan by.
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
