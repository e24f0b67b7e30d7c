//! Fan-outs: alarms to a large audience (likers, likers and bidders, listed users, everyone), stored in chunks.
//!
//! The first chunk is stored in the transaction that raises the alarm. The rest is a durable job: a row of `fanouts`,
//! of which the ledger stores one chunk per transaction, so that a hundred thousand likers delay no bid. Each chunk is
//! an alarm row of its own, with an id from its own transaction. With one shared id, a user could get alarm 11 before
//! their inbox row for 10 exists, and their cursor would skip 10 for ever. An audience of goods is everybody who liked
//! them (or had bid on them) when the alarm was raised, whatever changes while the job runs.
//!
//! Fan-outs with the same collapse key go one after another. Else a user could get the older alarm after the newer one.

use diesel::{delete, dsl::sql, insert_into, prelude::*, sql_types::BigInt, update};

use crate::{
    domain::{Alarm, AlarmId, AlarmKind, BidSeq, CollapseKey, EventId, GoodsId, GoodsState, UserId},
    store::{
        StoreError, Tx, Write,
        engine::{
            DbConn,
            sqlite::statements::{self, NextBidders, NextLikers},
        },
        rows::{AlarmRow, parse_user_list, user_list},
        schema,
    },
};

/// Users in the first chunk. Fewer than in later ones, because many auctions may start in one transaction.
const FIRST_CHUNK_LIMIT: usize = 250;
/// Users in a later chunk, which takes the ledger one or two milliseconds. Fan-outs that share a chunk divide them.
pub(crate) const CHUNK_LIMIT: usize = 1000;

/// The audience at the moment the alarm was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience {
    /// Users who like the goods, and more.
    OfGoods {
        goods: GoodsId,
        /// The newest like that counts.
        max_like: i64,
        /// Bidders whose first bid has at most this `seq` count too; `None`: likers only.
        max_bid_seq: Option<BidSeq>,
        /// Somebody who belongs to it in any case.
        also: Option<UserId>,
    },
    /// These users, in ascending order.
    Listed(Vec<UserId>),
    /// All active users. Whoever comes while the job runs is among them too.
    Everyone,
}

/// Raises an alarm about goods for a large audience.
pub(super) fn raise(
    tx: &mut Tx<'_>,
    kind: AlarmKind,
    goods: &GoodsState,
    audience: &Audience,
) -> Result<(), StoreError> {
    let now = tx.now();
    let alarm = |id: AlarmId| Alarm::about(kind, id, EventId::from_stored(id.get()), goods, None, now);
    begin(tx, audience, None, alarm)?;
    Ok(())
}

/// A fan-out that has begun.
pub(super) struct Begun {
    pub event: EventId,
    /// How many users have the alarm, if that is all of them; `None`: a job serves the rest.
    pub receivers: Option<i64>,
}

/// Stores the alarm for the first chunk of the audience. If there are more users, adds a job that the ledger continues.
/// With a key, each receiver's unread alarm of that key is superseded. Returns `None` if the audience is empty.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    audience: &Audience,
    key: Option<&CollapseKey>,
    alarm: impl Fn(AlarmId) -> Alarm,
) -> Result<Option<Begun>, StoreError> {
    if matches!(audience, Audience::OfGoods { max_bid_seq: Some(_), .. }) {
        // Bids that this transaction accepted earlier count too.
        tx.flush()?;
    }
    // Behind an older fan-out of the same key this one has no chunk yet: what it sent would be superseded by the older.
    let waits = key.map_or(Ok(false), |key| is_behind(tx.conn, key, None))?;
    let chunk = if waits { Vec::new() } else { next_chunk(tx.conn, audience, 0, FIRST_CHUNK_LIMIT)? };
    let is_complete = !waits && chunk.len() < FIRST_CHUNK_LIMIT;
    if is_complete && chunk.is_empty() {
        return Ok(None);
    }
    let (receivers, last) = (chunk.len() as i64, chunk.last().map_or(0, |user| user.get()));
    let alarm = alarm(tx.next_alarm()?);
    let event = alarm.event;
    add(tx, alarm, chunk, key)?;
    if !is_complete {
        add_job(tx, event, audience, key, last)?;
    }
    Ok(Some(Begun { event, receivers: is_complete.then_some(receivers) }))
}

/// Adds the alarm of one chunk.
fn add(tx: &mut Tx<'_>, alarm: Alarm, chunk: Vec<UserId>, key: Option<&CollapseKey>) -> Result<(), StoreError> {
    match key {
        Some(key) => tx.add_superseding(alarm, chunk, key)?,
        None => tx.add_alarm(alarm, chunk),
    }
    Ok(())
}

fn add_job(
    tx: &mut Tx<'_>,
    event: EventId,
    audience: &Audience,
    key: Option<&CollapseKey>,
    after_user: i64,
) -> Result<(), StoreError> {
    use schema::fanouts::dsl;
    let (goods, max_like, max_bid_seq) = match audience {
        Audience::OfGoods { goods, max_like, max_bid_seq, .. } => {
            (goods.get(), *max_like, max_bid_seq.map_or(0, BidSeq::get))
        }
        Audience::Listed(_) | Audience::Everyone => (0, 0, 0),
    };
    let users = match audience {
        Audience::Listed(users) => Some(user_list(users)),
        Audience::OfGoods { also, .. } => also.map(|user| user_list(&[user])),
        Audience::Everyone => None,
    };
    insert_into(dsl::fanouts)
        .values((
            dsl::event_id.eq(event.get()),
            dsl::goods_id.eq(goods),
            dsl::max_like.eq(max_like),
            dsl::max_bid_seq.eq(max_bid_seq),
            dsl::after_user_id.eq(after_user),
            dsl::user_ids.eq(users),
            dsl::collapse_key.eq(key.map(CollapseKey::as_str)),
        ))
        .execute(tx.conn)?;
    tx.add_fanout(event);
    Ok(())
}

/// Whether there is an unfinished fan-out of this key that is older than `event` (`None`: any).
fn is_behind(conn: &mut DbConn, key: &CollapseKey, event: Option<EventId>) -> Result<bool, StoreError> {
    use schema::fanouts::dsl;
    let of_key = dsl::collapse_key.eq(key.as_str()).and(dsl::event_id.lt(event.map_or(i64::MAX, EventId::get)));
    let older: i64 = dsl::fanouts.filter(of_key).count().get_result(conn)?;
    Ok(older > 0)
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

/// An unfinished fan-out.
#[derive(Queryable, Selectable)]
#[diesel(table_name = schema::fanouts)]
struct Job {
    goods_id: i64,
    max_like: i64,
    max_bid_seq: i64,
    after_user_id: i64,
    user_ids: Option<String>,
    collapse_key: Option<String>,
}

impl Job {
    fn audience(&self) -> Result<Audience, StoreError> {
        let Self { max_like, max_bid_seq, .. } = *self;
        let users = self.user_ids.as_deref().map(|users| parse_user_list(users, "fanouts.user_ids")).transpose()?;
        Ok(match users {
            also if self.goods_id > 0 => Audience::OfGoods {
                goods: GoodsId::from_stored(self.goods_id),
                max_like,
                max_bid_seq: Some(max_bid_seq).filter(|seq| *seq > 0).map(BidSeq::from_stored),
                also: also.and_then(|users| users.first().copied()),
            },
            Some(users) => Audience::Listed(users),
            None => Audience::Everyone,
        })
    }

    fn key(&self) -> Result<Option<CollapseKey>, StoreError> {
        let key = |key| CollapseKey::parse(key).ok_or(StoreError::Row("fanouts.collapse_key"));
        self.collapse_key.as_deref().map(key).transpose()
    }
}

/// Stores the next chunk of a fan-out, of at most `users` users. Returns true if it was the last.
pub(crate) fn step(tx: &mut Tx<'_>, event: EventId, users: usize) -> Result<bool, StoreError> {
    use schema::fanouts::dsl;
    let of_event = dsl::event_id.eq(event.get());
    let job: Option<Job> = dsl::fanouts.filter(of_event).select(Job::as_select()).get_result(tx.conn).optional()?;
    // No row: the last chunk is stored already, by another node or by a commit that seemed to fail.
    let Some(job) = job else { return Ok(true) };
    let (audience, key) = (job.audience()?, job.key()?);
    if let Some(key) = &key
        && is_behind(tx.conn, key, Some(event))?
    {
        return Ok(false);
    }
    tx.flush()?;
    let chunk = next_chunk(tx.conn, &audience, job.after_user_id, users)?;
    let is_full = chunk.len() == users;
    if let Some(last) = chunk.last().copied() {
        let first: AlarmRow = schema::alarms::table
            .filter(schema::alarms::id.eq(event.get()))
            .select(AlarmRow::as_select())
            .get_result(tx.conn)?;
        let id = tx.next_alarm()?;
        add(tx, Alarm { id, ..Alarm::try_from(first)? }, chunk, key.as_ref())?;
        update(dsl::fanouts.filter(of_event)).set(dsl::after_user_id.eq(last.get())).execute(tx.conn)?;
    }
    if !is_full {
        delete(dsl::fanouts.filter(of_event)).execute(tx.conn)?;
        if let Audience::OfGoods { goods, .. } = audience
            && !is_open(tx.conn, goods)?
        {
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
    audience: &Audience,
    after_user: i64,
    users: usize,
) -> Result<Vec<UserId>, StoreError> {
    let limit = i64::try_from(users).unwrap_or(i64::MAX);
    let found: Vec<i64> = match audience {
        Audience::OfGoods { goods, max_like, max_bid_seq, also } => {
            let mut found = of_goods(conn, goods.get(), (*max_like, *max_bid_seq), after_user, limit)?;
            // Where they belong in the order: behind a full chunk is a later one's matter.
            if let Some(also) = also.map(UserId::get).filter(|also| *also > after_user)
                && let Err(at) = found.binary_search(&also)
            {
                found.insert(at, also);
                found.truncate(users);
            }
            found
        }
        Audience::Listed(listed) => {
            let rest = listed.partition_point(|user| user.get() <= after_user);
            return Ok(listed[rest..].iter().take(users).copied().collect());
        }
        Audience::Everyone => {
            use schema::users::dsl;
            let active = dsl::users.filter(dsl::id.gt(after_user).and(dsl::is_active));
            active.order(dsl::id).limit(limit).select(dsl::id).load(conn)?
        }
    };
    Ok(found.into_iter().map(UserId::from_stored).collect())
}

/// The next users who like the goods or bid on them, up to this like and this bid.
fn of_goods(
    conn: &mut DbConn,
    goods: i64,
    (max_like, max_bid_seq): (i64, Option<BidSeq>),
    after_user: i64,
    limit: i64,
) -> QueryResult<Vec<i64>> {
    // Each of the two index scans stops after one chunk, and the results are merged: a plain union would collect the
    // whole audience for each chunk. Each scan is free of duplicates, because a chunk that is short ends the fan-out.
    match conn {
        DbConn::Sqlite(conn) => {
            let values = |newest| [goods, after_user, newest, limit];
            let mut found = statements::load::<NextLikers, _>(conn, values(max_like))?;
            if let Some(seq) = max_bid_seq {
                found.extend(statements::load::<NextBidders, _>(conn, values(seq.get()))?);
                found.sort_unstable();
                found.dedup();
                found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            }
            Ok(found)
        }
        // Literal numbers instead of parameters: the planner needs to know how many users like these very goods.
        DbConn::Pg(conn) => sql::<BigInt>(&format!(
            "SELECT user_id FROM (SELECT DISTINCT user_id FROM likes \
                 WHERE goods_id = {goods} AND user_id > {after_user} AND id <= {max_like} \
                 ORDER BY user_id LIMIT {limit}) AS likers \
             UNION SELECT user_id FROM (SELECT user_id FROM bidders \
                 WHERE goods_id = {goods} AND user_id > {after_user} AND first_seq <= {} \
                 ORDER BY user_id LIMIT {limit}) AS bidders \
             ORDER BY user_id LIMIT {limit}",
            max_bid_seq.map_or(0, BidSeq::get),
        ))
        .load(conn),
    }
}
