//! Moving to another engine: everything that is stored is copied into an empty database, in one transaction, and counted
//! on both sides. A table that the service gets must be added here; `tests/front_door/copy.rs` compares all tables.

use diesel::{connection::SimpleConnection, delete, insert_into, prelude::*, r2d2::R2D2Connection};

use super::{
    DatabaseUrl, StoreError,
    engine::{self, DbConn, OwnLock, nodes::Nodes},
    schema,
};

/// Rows that are held at once.
const ROWS: usize = 2000;

/// Why a copy was not made. The target has no rows then, as before.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database to copy from.
    #[error("--from: {0}")]
    From(StoreError),
    /// The database to copy to.
    #[error("--to: {0}")]
    To(StoreError),
    /// Something is in the target.
    #[error("--to: the database is not empty: {0} has rows")]
    NotEmpty(&'static str),
    /// Fewer or more rows arrived than left.
    #[error("{table}: {from} rows to copy, {to} copied; nothing was kept")]
    Counts {
        /// Where.
        table: &'static str,
        /// Rows in the source.
        from: i64,
        /// Rows in the target.
        to: i64,
    },
}

/// One table, copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub rows: i64,
}

/// Copies a whole database into an empty one (which gets its tables first). Neither may be in use.
///
/// # Errors
/// [`CopyError`]; then no row has been copied, unless it was the final commit that failed: look at the target.
pub fn copy(from: &DatabaseUrl, to: &DatabaseUrl) -> Result<Vec<Copied>, CopyError> {
    if !from.is_there() {
        return Err(CopyError::From(StoreError::Unavailable("there is no such database".to_owned())));
    }
    let _locks: [OwnLock; 2] =
        [from.lock(Nodes::One).map_err(CopyError::From)?, to.lock(Nodes::One).map_err(CopyError::To)?];
    let mut source = from.connect_writer().map_err(CopyError::From)?;
    if !engine::is_migrated(&mut source).map_err(CopyError::From)? {
        let asked = "not a database of this version (an older one: handsup migrate)";
        return Err(CopyError::From(StoreError::Unavailable(asked.to_owned())));
    }
    let mut target = to.connect_writer().map_err(CopyError::To)?;
    engine::migrate(&mut target).map_err(CopyError::To)?;
    no_limits(&mut source).map_err(CopyError::From)?;
    no_limits(&mut target).map_err(CopyError::To)?;
    engine::begin_write(&mut source).map_err(CopyError::From)?;
    engine::begin_write(&mut target).map_err(CopyError::To)?;
    let copied = copy_all(&mut source, &mut target)?;
    target.batch_execute("COMMIT").map_err(|error| CopyError::To(error.into()))?;
    // The planner of PostgreSQL knows nothing of the new rows; SQLite does without.
    if let DbConn::Pg(target) = &mut target {
        target.batch_execute("ANALYZE").map_err(|error| CopyError::To(error.into()))?;
    }
    Ok(copied)
}

/// Copying takes as long as it takes.
fn no_limits(conn: &mut DbConn) -> Result<(), StoreError> {
    if let DbConn::Pg(conn) = conn {
        conn.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")?;
    }
    Ok(conn.ping()?)
}

/// All tables with their columns: read row by row, whatever the engine, and written many at once where that helps.
macro_rules! tables {
    ($($table:ident { $($column:ident: $type:ty),+ $(,)? })+) => {
        $(mod $table {
            use super::*;

            #[derive(Queryable, Insertable)]
            #[diesel(table_name = schema::$table)]
            pub(super) struct Row { $($column: $type),+ }
        })+

        fn copy_all(source: &mut DbConn, target: &mut DbConn) -> Result<Vec<Copied>, CopyError> {
            let to = |error: diesel::result::Error| CopyError::To(error.into());
            let from = |error: diesel::result::Error| CopyError::From(error.into());
            $(
                // The one row of the counters is there from the beginning.
                if stringify!($table) == "id_counters" {
                    delete(schema::$table::table).execute(target).map_err(to)?;
                }
                let there: i64 = schema::$table::table.count().get_result(target).map_err(to)?;
                if there > 0 {
                    return Err(CopyError::NotEmpty(stringify!($table)));
                }
            )+
            let mut copied = Vec::new();
            $(
                let mut write = |rows: Vec<$table::Row>| -> QueryResult<()> {
                    match target {
                        DbConn::Sqlite(conn) => {
                            for row in rows {
                                insert_into(schema::$table::table).values(row).execute(conn)?;
                            }
                        }
                        DbConn::Pg(conn) => {
                            insert_into(schema::$table::table).values(rows).execute(conn)?;
                        }
                    }
                    Ok(())
                };
                macro_rules! stream {
                    ($rows:expr) => {{
                        let mut held: Vec<$table::Row> = Vec::with_capacity(ROWS);
                        for row in $rows {
                            held.push(row.map_err(from)?);
                            if held.len() == ROWS {
                                write(std::mem::replace(&mut held, Vec::with_capacity(ROWS))).map_err(to)?;
                            }
                        }
                        if !held.is_empty() {
                            write(held).map_err(to)?;
                        }
                    }};
                }
                let all = schema::$table::table.select(($(schema::$table::$column,)+));
                match source {
                    DbConn::Sqlite(conn) => stream!(all
                        .load_iter::<$table::Row, diesel::connection::DefaultLoadingMode>(conn)
                        .map_err(from)?),
                    DbConn::Pg(conn) => stream!(all
                        .load_iter::<$table::Row, diesel::pg::PgRowByRowLoadingMode>(conn)
                        .map_err(from)?),
                }
                let left: i64 = schema::$table::table.count().get_result(source).map_err(from)?;
                let rows: i64 = schema::$table::table.count().get_result(target).map_err(to)?;
                if left != rows {
                    return Err(CopyError::Counts { table: stringify!($table), from: left, to: rows });
                }
                copied.push(Copied { table: stringify!($table), rows });
            )+
            Ok(copied)
        }
    };
}

tables! {
    id_counters {
        one: i32, goods: i64, bid: i64, alarm: i64, trade_room: i64, like_mark: i64, line: i64, trade_message: i64,
    }
    users {
        id: i64, username: String, profile_image: String, rating_score: i32, is_active: bool, named_at: i64,
        received_up_to: i64, read_up_to: i64,
    }
    goods {
        id: i64, seller_id: i64, title: String, content: String, category: String, start_price: i64,
        predict_price: i64, min_increment: i64, starts_at: i64, ends_at: i64, created_at: i64, phase: i16,
        high_price: Option<i64>, high_bidder_id: Option<i64>, bid_seq: i64, ending_soon_done: bool,
        trade_room_id: Option<i64>, like_count: i64,
    }
    goods_images { goods_id: i64, position: i32, path: String }
    bidders { goods_id: i64, user_id: i64, first_seq: i64, last_seq: i64 }
    bids { id: i64, goods_id: i64, seq: i64, user_id: i64, price: i64, created_at: i64 }
    likes { id: i64, goods_id: i64, user_id: i64, removed: bool }
    trade_rooms {
        id: i64, goods_id: i64, seller_id: i64, buyer_id: i64, created_at: i64, last_message_id: Option<i64>,
        active_at: i64,
    }
    room_lines { id: i64, goods_id: i64, author_id: i64, content: String, created_at: i64 }
    trade_messages { id: i64, goods_id: i64, author_id: i64, content: String, created_at: i64, is_read: bool }
    alarms {
        id: i64, event_id: i64, kind: String, goods_id: Option<i64>, goods_title: Option<String>, created_at: i64,
        high_price: Option<i64>, ends_at: Option<i64>, start_price: Option<i64>, trade_room_id: Option<i64>,
        bid_seq: Option<i64>, message: Option<String>, sender_id: Option<i64>, sender_name: Option<String>,
    }
    inbox { user_id: i64, alarm_id: i64, is_read: bool, muted: bool }
    fanouts { event_id: i64, goods_id: i64, max_like: i64, max_bid_seq: i64, after_user_id: i64 }
    mutes { kind: String, user_id: i64 }
    idempotency_keys {
        user_id: i64, key: String, goods_id: i64, price: i64, verdict: String, received_at: i64,
        bid_id: Option<i64>, seq: Option<i64>, ends_at: Option<i64>, high_price: Option<i64>, minimum: Option<i64>,
        created_at: i64,
    }
}
