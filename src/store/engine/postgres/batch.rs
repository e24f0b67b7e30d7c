//! The two statements of a batch of bids on PostgreSQL: one reads everything, one writes everything, because a round
//! trip costs as much as a hundred rows. Rows are passed as one array per column, so that the text of a statement does
//! not depend on their number and it is planned only once.

use diesel::{
    expression::{AppearsOnTable, Expression, ValidGrouping},
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{Array, BigInt, Bool, Nullable, Text},
};

use crate::domain::GoodsState;
use crate::store::{
    StoreError,
    engine::sharing::Sharing,
    rows::{Counters, PendingRows, StateRow},
    schema,
    tx::commit_marker::CommitMarker,
};

/// Reads the counters and these goods. It locks no goods: every writer already holds the lock on the counters' row.
pub(crate) fn read(conn: &mut PgConnection, mut ids: Vec<i64>) -> Result<(Counters, Vec<StateRow>), StoreError> {
    use schema::{goods, id_counters};
    ids.sort_unstable();
    ids.dedup();
    let rows: Vec<(Counters, Option<StateRow>)> = id_counters::table
        .left_join(goods::table.on(IsAmong { ids: &ids }))
        .select((Counters::as_select(), Option::<StateRow>::as_select()))
        .load(conn)?;
    let counters = rows.first().ok_or(StoreError::Row("id_counters"))?.0;
    Ok((counters, rows.into_iter().filter_map(|(_, goods)| goods).collect()))
}

/// The condition that the goods are among these ids. The ids are wrapped in a subquery, so that one generic plan serves
/// for all: with `= ANY ($1)` the planner prefers a plan for the ids at hand and plans each time anew.
#[derive(ValidGrouping, Clone, Copy)]
struct IsAmong<'a> {
    ids: &'a [i64],
}

impl QueryId for IsAmong<'_> {
    type QueryId = IsAmong<'static>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Expression for IsAmong<'_> {
    type SqlType = Bool;
}

impl<Tables> AppearsOnTable<Tables> for IsAmong<'_> {}

impl QueryFragment<Pg> for IsAmong<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("goods.id = ANY (ARRAY(SELECT unnest(");
        out.push_bind_param::<Array<BigInt>, _>(self.ids)?;
        out.push_sql(")))");
        Ok(())
    }
}

/// An inbox row that was inserted.
#[derive(Queryable)]
pub(crate) struct InsertedInboxRow {
    pub user_id: i64,
    pub alarm_id: i64,
    pub muted: bool,
    /// The newest alarm that the inbox had before; 0 if none, or if only one writer uses the database.
    pub previous_alarm: i64,
}

/// No user has this id: it stands in the result row that counts the updated commit markers.
const MARKER_COUNT_ROW: i64 = 0;

/// One column of a table, with the values of all rows.
enum Column<'a> {
    Numbers(Vec<i64>),
    OptionalNumbers(Vec<Option<i64>>),
    Texts(Vec<&'a str>),
    OptionalTexts(Vec<Option<&'a str>>),
    OptionalFlags(Vec<Option<bool>>),
}

/// What [`Batch::write`] writes: bids, alarms, inbox rows and the goods' new leads, and at the end of the transaction
/// also the counters and the commit marker.
pub(crate) struct Batch<'a> {
    bids: [Column<'a>; 6],
    alarms: [Column<'a>; 17],
    inbox: [Column<'a>; 4],
    leads: [Column<'a>; 4],
    counters: [i64; 7],
    /// The writer, and the number of its transaction.
    commit_marker: (i64, i64),
    /// Whether counters and commit marker are written.
    is_last: bool,
    /// If the database is shared, `write` returns all inbox rows with their previous alarm; otherwise only the muted ones.
    is_shared: bool,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        rows: &'a PendingRows,
        leads: Vec<&'a GoodsState>,
        end: Option<(Counters, CommitMarker)>,
        sharing: Sharing,
    ) -> Self {
        macro_rules! column {
            ($rows:expr, $kind:ident, $row:ident => $value:expr) => {
                Column::$kind($rows.iter().map(|$row| $value).collect())
            };
        }
        let PendingRows { bids, alarms, inbox } = rows;
        let counters = end.map(|(counters, _)| {
            let Counters { goods, bid, alarm, trade_room, like_mark, line, trade_message } = counters;
            [goods, bid, alarm, trade_room, like_mark, line, trade_message]
        });
        Self {
            bids: [
                column!(bids, Numbers, bid => bid.id),
                column!(bids, Numbers, bid => bid.goods_id),
                column!(bids, Numbers, bid => bid.seq),
                column!(bids, Numbers, bid => bid.user_id),
                column!(bids, Numbers, bid => bid.price),
                column!(bids, Numbers, bid => bid.created_at),
            ],
            alarms: [
                column!(alarms, Numbers, row => row.alarm.id),
                column!(alarms, Numbers, row => row.alarm.event_id),
                column!(alarms, Texts, row => row.alarm.kind.as_str()),
                column!(alarms, OptionalNumbers, row => row.alarm.goods_id),
                column!(alarms, OptionalTexts, row => row.alarm.goods_title.as_deref()),
                column!(alarms, Numbers, row => row.alarm.created_at),
                column!(alarms, OptionalNumbers, row => row.alarm.high_price),
                column!(alarms, OptionalNumbers, row => row.alarm.ends_at),
                column!(alarms, OptionalNumbers, row => row.alarm.start_price),
                column!(alarms, OptionalNumbers, row => row.alarm.trade_room_id),
                column!(alarms, OptionalNumbers, row => row.alarm.bid_seq),
                column!(alarms, OptionalTexts, row => row.alarm.message.as_deref()),
                column!(alarms, OptionalNumbers, row => row.alarm.sender_id),
                column!(alarms, OptionalTexts, row => row.alarm.sender_name.as_deref()),
                column!(alarms, OptionalTexts, row => row.receivers.as_deref()),
                column!(alarms, OptionalNumbers, row => row.last_receiver),
                column!(alarms, OptionalNumbers, row => row.stored_at),
            ],
            inbox: [
                column!(inbox, Numbers, entry => entry.user_id),
                column!(inbox, Numbers, entry => entry.alarm_id),
                column!(inbox, Texts, entry => entry.kind.name()),
                column!(inbox, OptionalFlags, entry => entry.muted),
            ],
            leads: [
                column!(leads, Numbers, goods => goods.id.get()),
                column!(leads, OptionalNumbers, goods => goods.lead.map(|lead| lead.price.won())),
                column!(leads, OptionalNumbers, goods => goods.lead.map(|lead| lead.user.get())),
                column!(leads, Numbers, goods => goods.bid_seq.get()),
            ],
            counters: counters.unwrap_or_default(),
            commit_marker: end.map(|(_, marker)| marker.row()).unwrap_or_default(),
            is_last: end.is_some(),
            is_shared: sharing == Sharing::Shared,
        }
    }

    /// Writes everything. Returns the inserted inbox rows: all of them if the database is shared, otherwise the muted ones.
    pub(crate) fn write(self, conn: &mut PgConnection) -> Result<Vec<InsertedInboxRow>, StoreError> {
        let is_last = self.is_last;
        let mut inserted: Vec<InsertedInboxRow> = self.load(conn)?;
        let count_row = inserted.iter().position(|row| row.user_id == MARKER_COUNT_ROW);
        let markers_updated = count_row.map(|at| inserted.swap_remove(at).previous_alarm);
        // Without its row in `writer_marks` the writer could not find out whether a failed commit is on disk.
        if markers_updated == Some(i64::from(is_last)) { Ok(inserted) } else { Err(StoreError::Row("writer_marks")) }
    }
}

impl QueryId for Batch<'_> {
    type QueryId = Batch<'static>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Batch<'_> {
    type SqlType = (BigInt, BigInt, Bool, BigInt);
}

impl diesel::query_dsl::RunQueryDsl<PgConnection> for Batch<'_> {}

impl QueryFragment<Pg> for Batch<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "WITH bid AS (INSERT INTO bids (id, goods_id, seq, user_id, price, created_at) \
             SELECT * FROM ",
        );
        unnest(&self.bids, &mut out)?;
        out.push_sql(
            " RETURNING goods_id, user_id, seq), bidder AS (INSERT INTO bidders (goods_id, user_id, first_seq, last_seq) \
             SELECT goods_id, user_id, min(seq), max(seq) FROM bid GROUP BY goods_id, user_id \
             ON CONFLICT (goods_id, user_id) DO UPDATE SET last_seq = excluded.last_seq), alarm AS (INSERT INTO alarms (id, event_id, kind, goods_id, goods_title, created_at, high_price, \
             ends_at, start_price, trade_room_id, bid_seq, message, sender_id, sender_name, receivers, \
             last_receiver, stored_at) SELECT * FROM ",
        );
        unnest(&self.alarms, &mut out)?;
        out.push_sql(
            "), lead AS (UPDATE goods SET high_price = new.price, high_bidder_id = new.leader, bid_seq = new.seq FROM ",
        );
        unnest(&self.leads, &mut out)?;
        out.push_sql(
            " AS new (id, price, leader, seq) WHERE goods.id = new.id), \
             counter AS (UPDATE id_counters SET (goods, bid, alarm, trade_room, like_mark, line, trade_message) = (",
        );
        for (number, counter) in self.counters.iter().enumerate() {
            out.push_sql(if number > 0 { ", " } else { "" });
            out.push_bind_param::<BigInt, _>(counter)?;
        }
        out.push_sql(") WHERE ");
        out.push_bind_param::<Bool, _>(&self.is_last)?;
        out.push_sql("), mark AS (UPDATE writer_marks SET mark = ");
        out.push_bind_param::<BigInt, _>(&self.commit_marker.1)?;
        out.push_sql(" WHERE writer = ");
        out.push_bind_param::<BigInt, _>(&self.commit_marker.0)?;
        // The subquery makes the planner use the index of `mutes` for each row, whatever it knows about the tables:
        // with a join it could scan all mutes. Without `OFFSET 0` it would look each one up twice.
        out.push_sql(
            " RETURNING 1), entry AS (INSERT INTO inbox (user_id, alarm_id, is_read, muted) \
             SELECT new.user_id, new.alarm_id, new.muted, new.muted FROM (SELECT user_id, alarm_id, COALESCE(muted, \
             (SELECT TRUE FROM mutes WHERE mutes.kind = raised.kind AND mutes.user_id = raised.user_id), FALSE) \
             AS muted FROM ",
        );
        unnest(&self.inbox, &mut out)?;
        out.push_sql(
            " AS raised (user_id, alarm_id, kind, muted) OFFSET 0) AS new \
             RETURNING user_id, alarm_id, muted, CASE WHEN ",
        );
        out.push_bind_param::<Bool, _>(&self.is_shared)?;
        out.push_sql(
            " THEN COALESCE((SELECT max(old.alarm_id) FROM inbox AS old WHERE old.user_id = inbox.user_id \
             AND old.alarm_id < inbox.alarm_id), 0) ELSE 0 END AS after) \
             SELECT user_id, alarm_id, muted, after FROM entry WHERE muted OR ",
        );
        out.push_bind_param::<Bool, _>(&self.is_shared)?;
        out.push_sql(" UNION ALL SELECT ");
        out.push_bind_param::<BigInt, _>(&MARKER_COUNT_ROW)?;
        out.push_sql(", 0, FALSE, count(*) FROM mark");
        Ok(())
    }
}

/// Writes `unnest($1, $2, …)` of these columns.
fn unnest<'b>(columns: &'b [Column<'_>], out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    for (number, column) in columns.iter().enumerate() {
        out.push_sql(if number > 0 { ", " } else { "unnest(" });
        match column {
            Column::Numbers(values) => out.push_bind_param::<Array<BigInt>, _>(values)?,
            Column::OptionalNumbers(values) => out.push_bind_param::<Array<Nullable<BigInt>>, _>(values)?,
            Column::Texts(values) => out.push_bind_param::<Array<Text>, _>(values)?,
            Column::OptionalTexts(values) => out.push_bind_param::<Array<Nullable<Text>>, _>(values)?,
            Column::OptionalFlags(values) => out.push_bind_param::<Array<Nullable<Bool>>, _>(values)?,
        }
    }
    out.push_sql(")");
    Ok(())
}
