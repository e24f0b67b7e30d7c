//! The statements that every bid and every alarm runs on SQLite. Their texts are constants and diesel prepares them
//! once; those of the query builder are built and looked up each time, which costs more than running them. Each inserts
//! one row (inserting many at once gains nothing below 1,000 rows), except [`add_to_inboxes`] for large audiences.

use std::marker::PhantomData;

use diesel::{
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{BigInt, Nullable, Text},
    sqlite::Sqlite,
};

/// A statement whose values are all integers or NULL.
pub(crate) trait Statement: 'static {
    /// The text before, between and behind the values.
    const PARTS: &'static [&'static str];
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $($part:literal),+;)+) => {
        $($(#[$doc])* pub(crate) enum $name {}

        impl Statement for $name {
            const PARTS: &'static [&'static str] = &[$($part),+];
        })+
    };
}

statements! {
    /// Inserts a bid.
    AddBid = "INSERT INTO bids (id, goods_id, seq, user_id, price, created_at) VALUES (", ", ", ", ", ", ", ", ", ", ", ")";
    /// Stores the seqs of a bidder's first and last bid of a transaction.
    RaiseBidder = "INSERT INTO bidders (goods_id, user_id, first_seq, last_seq) VALUES (", ", ", ", ", ", ",
        ") ON CONFLICT (goods_id, user_id) DO UPDATE SET last_seq = excluded.last_seq";
    /// Inserts an inbox row.
    AddToInbox = "INSERT INTO inbox (user_id, alarm_id, is_read, muted) VALUES (", ", ", ", ", ", ", ")";
    /// Stores the high bid of a goods item and its seq.
    SetLead = "UPDATE goods SET high_price = ", ", high_bidder_id = ", ", bid_seq = ", " WHERE id = ", "";
    /// The next users who like goods, by id. Values: goods, user after whom to begin, newest like that counts, limit.
    NextLikers = "SELECT DISTINCT user_id FROM likes WHERE goods_id = ", " AND user_id > ", " AND id <= ",
        " ORDER BY user_id LIMIT ", "";
    /// The next bidders, by id. Values: goods, user after whom to begin, seq of the newest bid that counts, limit.
    NextBidders = "SELECT user_id FROM bidders WHERE goods_id = ", " AND user_id > ", " AND first_seq <= ",
        " ORDER BY user_id LIMIT ", "";
    /// Raises the received cursor of a user; it never goes back.
    RaiseReceived = "UPDATE users SET received_up_to = ", " WHERE id = ", " AND received_up_to < ", "";
}

/// Runs a statement with these values.
pub(crate) fn run<S: Statement, const N: usize>(
    conn: &mut SqliteConnection,
    values: [impl Into<Option<i64>>; N],
) -> QueryResult<usize> {
    const { assert!(S::PARTS.len() == N + 1, "as many values as the statement has places") };
    Filled::<S, N> { values: values.map(Into::into), statement: PhantomData }.execute(conn)
}

/// Runs a query that returns one integer per row.
pub(crate) fn load<S: Statement, const N: usize>(
    conn: &mut SqliteConnection,
    values: [i64; N],
) -> QueryResult<Vec<i64>> {
    const { assert!(S::PARTS.len() == N + 1, "as many values as the statement has places") };
    Selected(Filled::<S, N> { values: values.map(Some), statement: PhantomData }).load(conn)
}

/// Adds an unread alarm to the inboxes of many users. No user may occur twice.
pub(crate) fn add_to_inboxes(conn: &mut SqliteConnection, alarm: i64, users: &[i64]) -> QueryResult<usize> {
    // Integers can always be written as JSON.
    let users = serde_json::to_string(users).unwrap_or_default();
    AddToInboxes { alarm, users }.execute(conn)
}

#[derive(QueryId)]
struct AddToInboxes {
    alarm: i64,
    users: String,
}

impl diesel::query_dsl::RunQueryDsl<SqliteConnection> for AddToInboxes {}

impl QueryFragment<Sqlite> for AddToInboxes {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("INSERT INTO inbox (user_id, alarm_id, is_read, muted) SELECT value, ");
        out.push_bind_param::<BigInt, _>(&self.alarm)?;
        out.push_sql(", 0, 0 FROM json_each(");
        out.push_bind_param::<Text, _>(&self.users)?;
        out.push_sql(")");
        Ok(())
    }
}

/// A filled statement that returns rows.
struct Selected<S, const N: usize>(Filled<S, N>);

impl<S: Statement, const N: usize> QueryId for Selected<S, N> {
    type QueryId = Selected<S, N>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: Statement, const N: usize> Query for Selected<S, N> {
    type SqlType = BigInt;
}

impl<S: Statement, const N: usize> diesel::query_dsl::RunQueryDsl<SqliteConnection> for Selected<S, N> {}

impl<S: Statement, const N: usize> QueryFragment<Sqlite> for Selected<S, N> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }
}

/// A statement with its values.
struct Filled<S, const N: usize> {
    values: [Option<i64>; N],
    statement: PhantomData<S>,
}

impl<S: Statement, const N: usize> QueryId for Filled<S, N> {
    type QueryId = Filled<S, N>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: Statement, const N: usize> Query for Filled<S, N> {
    type SqlType = diesel::sql_types::Untyped;
}

impl<S: Statement, const N: usize> diesel::query_dsl::RunQueryDsl<SqliteConnection> for Filled<S, N> {}

impl<S: Statement, const N: usize> QueryFragment<Sqlite> for Filled<S, N> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let (first, rest) = S::PARTS.split_first().unwrap_or((&"", &[]));
        out.push_sql(first);
        for (value, part) in self.values.iter().zip(rest) {
            out.push_bind_param::<Nullable<BigInt>, _>(value)?;
            out.push_sql(part);
        }
        Ok(())
    }
}
