//! Statements that every bid and every alarm runs on SQLite, prepared once: the query builder's own are put together and
//! looked up anew each time, which costs more than running them. Rows go in one by one; a multi-row insert gains nothing
//! below 1,000 rows.

use std::marker::PhantomData;

use diesel::{
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{BigInt, Nullable},
    sqlite::Sqlite,
};

/// A statement whose values are all whole numbers or NULL.
pub(super) trait Statement: 'static {
    /// The text, cut where the values stand.
    const PARTS: &'static [&'static str];
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $($part:literal),+;)+) => {
        $($(#[$doc])* pub(super) enum $name {}

        impl Statement for $name {
            const PARTS: &'static [&'static str] = &[$($part),+];
        })+
    };
}

statements! {
    /// A bid.
    AddBid = "INSERT INTO bids (id, goods_id, seq, user_id, price, created_at) VALUES (", ", ", ", ", ", ", ", ", ", ", ")";
    /// A bidder's first bid of a transaction, and his last.
    RaiseBidder = "INSERT INTO bidders (goods_id, user_id, first_seq, last_seq) VALUES (", ", ", ", ", ", ",
        ") ON CONFLICT (goods_id, user_id) DO UPDATE SET last_seq = excluded.last_seq";
    /// An inbox row.
    AddToInbox = "INSERT INTO inbox (user_id, alarm_id, is_read, muted) VALUES (", ", ", ", ", ", ", ")";
    /// Who leads, and with what.
    SetLead = "UPDATE goods SET high_price = ", ", high_bidder_id = ", ", bid_seq = ", " WHERE id = ", "";
    /// The received mark of a user; it never goes back.
    RaiseReceived = "UPDATE users SET received_up_to = ", " WHERE id = ", " AND received_up_to < ", "";
}

/// Runs a statement with these values.
pub(super) fn run<S: Statement, const N: usize>(
    conn: &mut SqliteConnection,
    values: [impl Into<Option<i64>>; N],
) -> QueryResult<usize> {
    const { assert!(S::PARTS.len() == N + 1, "a value for each place") };
    Filled::<S, N> { values: values.map(Into::into), statement: PhantomData }.execute(conn)
}

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
