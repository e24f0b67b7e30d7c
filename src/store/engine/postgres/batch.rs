//! What a batch of bids reads and writes on PostgreSQL, each in one statement that is planned once: a round trip costs as
//! much as a hundred rows, and a statement with as many values as there are rows would be planned anew each time.

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
    rows::{Counters, Gathered, StateRow},
    schema,
    tx::commit_marker::CommitMarker,
};

/// Reads the counters and these goods. Their rows need no locks of their own: whoever writes holds that of the counters.
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

/// That the goods are among these. Not `= ANY ($1)`: the planner finds a plan for known ids better than one for any, and
/// plans anew each time. Of the result of a subquery it knows nothing either way.
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

/// An inbox row that was written, and what is learned by it.
#[derive(Queryable)]
pub(crate) struct Entered {
    pub user_id: i64,
    pub alarm_id: i64,
    pub muted: bool,
    /// The newest alarm that was there before; 0 if none.
    pub after: i64,
}

/// Nobody's id: the row that counts the marks.
const MARKS: i64 = 0;

/// All rows of one table, column by column.
enum Column<'a> {
    Numbers(Vec<i64>),
    NumbersOrNot(Vec<Option<i64>>),
    Texts(Vec<&'a str>),
    TextsOrNot(Vec<Option<&'a str>>),
    FlagsOrNot(Vec<Option<bool>>),
}

/// Bids, alarms, inbox rows and leads, and with the last ones of a transaction the counters and the writer's mark.
pub(crate) struct Batch<'a> {
    bids: [Column<'a>; 6],
    alarms: [Column<'a>; 14],
    inbox: [Column<'a>; 4],
    leads: [Column<'a>; 4],
    counters: [i64; 7],
    mark: (i64, i64),
    is_last: bool,
    /// All inbox rows come back, with the newest alarm before; otherwise only those that are muted.
    several_writers: bool,
}

impl<'a> Batch<'a> {
    pub(crate) fn of(
        rows: &'a Gathered,
        leads: Vec<&'a GoodsState>,
        end: Option<(Counters, CommitMarker)>,
        several_writers: bool,
    ) -> Self {
        macro_rules! column {
            ($rows:expr, $kind:ident, $row:ident => $value:expr) => {
                Column::$kind($rows.iter().map(|$row| $value).collect())
            };
        }
        let Gathered { bids, alarms, inbox } = rows;
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
                column!(alarms, Numbers, alarm => alarm.id),
                column!(alarms, Numbers, alarm => alarm.event_id),
                column!(alarms, Texts, alarm => alarm.kind.as_str()),
                column!(alarms, NumbersOrNot, alarm => alarm.goods_id),
                column!(alarms, TextsOrNot, alarm => alarm.goods_title.as_deref()),
                column!(alarms, Numbers, alarm => alarm.created_at),
                column!(alarms, NumbersOrNot, alarm => alarm.high_price),
                column!(alarms, NumbersOrNot, alarm => alarm.ends_at),
                column!(alarms, NumbersOrNot, alarm => alarm.start_price),
                column!(alarms, NumbersOrNot, alarm => alarm.trade_room_id),
                column!(alarms, NumbersOrNot, alarm => alarm.bid_seq),
                column!(alarms, TextsOrNot, alarm => alarm.message.as_deref()),
                column!(alarms, NumbersOrNot, alarm => alarm.sender_id),
                column!(alarms, TextsOrNot, alarm => alarm.sender_name.as_deref()),
            ],
            inbox: [
                column!(inbox, Numbers, entry => entry.user_id),
                column!(inbox, Numbers, entry => entry.alarm_id),
                column!(inbox, Texts, entry => entry.kind.name()),
                column!(inbox, FlagsOrNot, entry => entry.muted),
            ],
            leads: [
                column!(leads, Numbers, goods => goods.id.get()),
                column!(leads, NumbersOrNot, goods => goods.lead.map(|lead| lead.price.won())),
                column!(leads, NumbersOrNot, goods => goods.lead.map(|lead| lead.user.get())),
                column!(leads, Numbers, goods => goods.bid_seq),
            ],
            counters: counters.unwrap_or_default(),
            mark: end.map(|(_, mark)| mark.row()).unwrap_or_default(),
            is_last: end.is_some(),
            several_writers,
        }
    }

    /// Writes all of it; says of which inbox rows there is something to learn.
    pub(crate) fn write(self, conn: &mut PgConnection) -> Result<Vec<Entered>, StoreError> {
        let is_last = self.is_last;
        let mut entered: Vec<Entered> = self.load(conn)?;
        // Without its row a writer could not tell what became of a commit.
        let marks = entered.iter().position(|row| row.user_id == MARKS).map(|at| entered.swap_remove(at).after);
        if marks == Some(i64::from(is_last)) { Ok(entered) } else { Err(StoreError::Row("writer_marks")) }
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
             ends_at, start_price, trade_room_id, bid_seq, message, sender_id, sender_name) SELECT * FROM ",
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
        out.push_bind_param::<BigInt, _>(&self.mark.1)?;
        out.push_sql(" WHERE writer = ");
        out.push_bind_param::<BigInt, _>(&self.mark.0)?;
        // Walks along an index for each row, whatever the planner thinks of the tables: joined, the mutes could be read
        // as a whole, and without the OFFSET looked up twice.
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
        out.push_bind_param::<Bool, _>(&self.several_writers)?;
        out.push_sql(
            " THEN COALESCE((SELECT max(old.alarm_id) FROM inbox AS old WHERE old.user_id = inbox.user_id \
             AND old.alarm_id < inbox.alarm_id), 0) ELSE 0 END AS after) \
             SELECT user_id, alarm_id, muted, after FROM entry WHERE muted OR ",
        );
        out.push_bind_param::<Bool, _>(&self.several_writers)?;
        // No user has that id.
        out.push_sql(" UNION ALL SELECT ");
        out.push_bind_param::<BigInt, _>(&MARKS)?;
        out.push_sql(", 0, FALSE, count(*) FROM mark");
        Ok(())
    }
}

/// `unnest($1, $2, …)` of these columns.
fn unnest<'b>(columns: &'b [Column<'_>], out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    for (number, column) in columns.iter().enumerate() {
        out.push_sql(if number > 0 { ", " } else { "unnest(" });
        match column {
            Column::Numbers(values) => out.push_bind_param::<Array<BigInt>, _>(values)?,
            Column::NumbersOrNot(values) => out.push_bind_param::<Array<Nullable<BigInt>>, _>(values)?,
            Column::Texts(values) => out.push_bind_param::<Array<Text>, _>(values)?,
            Column::TextsOrNot(values) => out.push_bind_param::<Array<Nullable<Text>>, _>(values)?,
            Column::FlagsOrNot(values) => out.push_bind_param::<Array<Nullable<Bool>>, _>(values)?,
        }
    }
    out.push_sql(")");
    Ok(())
}
