//! `handsup copy`: copies a whole database into an empty one, for example to move to the other engine. It is one
//! transaction, and the rows of each table are counted on both sides. A new table of the service must be added to
//! `tables!` below; `tests/front_door/copy.rs` compares all tables.

use diesel::{connection::SimpleConnection, delete, insert_into, prelude::*, r2d2::R2D2Connection};

use super::{
    DatabaseUrl, StoreError,
    engine::{self, DbConn, sharing::Sharing, url::DatabaseLock},
    schema,
};

/// Rows that are held in memory and written at once.
const CHUNK_ROWS: usize = 2000;

/// Why a copy failed. The target still has no rows then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The source can't be read.
    #[error("--from: {0}")]
    From(StoreError),
    /// The target can't be written.
    #[error("--to: {0}")]
    To(StoreError),
    /// The target has rows in this table.
    #[error("--to: the database is not empty: {0} has rows")]
    NotEmpty(&'static str),
    /// After the copy a table has more or fewer rows than in the source.
    #[error("{table}: {from} rows to copy, {to} copied; nothing was kept")]
    Counts {
        table: &'static str,
        /// Number of rows in the source.
        from: i64,
        /// Number of rows in the target.
        to: i64,
    },
}

/// A table whose rows have been copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CopiedTable {
    pub table: &'static str,
    pub rows: i64,
}

/// Copies a whole database into an empty one, in which it first creates the tables. Neither may be in use.
///
/// # Errors
/// [`CopyError`]; then nothing has been copied, unless the final commit failed: then check the target.
pub(crate) fn copy(from: &DatabaseUrl, to: &DatabaseUrl) -> Result<Vec<CopiedTable>, CopyError> {
    if !from.exists() {
        return Err(CopyError::From(StoreError::Unavailable("no such database".to_owned())));
    }
    let _locks: [DatabaseLock; 2] =
        [from.lock(Sharing::Exclusive).map_err(CopyError::From)?, to.lock(Sharing::Exclusive).map_err(CopyError::To)?];
    let mut source = from.connect_writer().map_err(CopyError::From)?;
    if !engine::is_migrated(&mut source).map_err(CopyError::From)? {
        let advice = "not a database of this version (if it is older, run handsup migrate first)";
        return Err(CopyError::From(StoreError::Unavailable(advice.to_owned())));
    }
    let mut target = to.connect_writer().map_err(CopyError::To)?;
    engine::migrate(&mut target).map_err(CopyError::To)?;
    disable_timeouts(&mut source).map_err(CopyError::From)?;
    disable_timeouts(&mut target).map_err(CopyError::To)?;
    engine::begin_write(&mut source).map_err(CopyError::From)?;
    engine::begin_write(&mut target).map_err(CopyError::To)?;
    let copied = copy_all(&mut source, &mut target)?;
    target.batch_execute("COMMIT").map_err(|error| CopyError::To(error.into()))?;
    // PostgreSQL's planner has no statistics about the new rows yet; SQLite needs none.
    if let DbConn::Pg(target) = &mut target {
        target.batch_execute("ANALYZE").map_err(|error| CopyError::To(error.into()))?;
    }
    Ok(copied)
}

/// A copy may take longer than the timeouts of a writer's connection allow.
fn disable_timeouts(conn: &mut DbConn) -> Result<(), StoreError> {
    if let DbConn::Pg(conn) = conn {
        conn.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")?;
    }
    Ok(conn.ping()?)
}

/// Defines `copy_all` for these tables and columns. It reads row by row from either engine; it writes one row at a time
/// into SQLite and many at once into PostgreSQL, where each statement is a round trip.
macro_rules! tables {
    ($($table:ident { $($column:ident: $type:ty),+ $(,)? })+) => {
        $(mod $table {
            use super::*;

            #[derive(Queryable, Insertable)]
            #[diesel(table_name = schema::$table)]
            pub(super) struct Row { $($column: $type),+ }
        })+

        fn copy_all(source: &mut DbConn, target: &mut DbConn) -> Result<Vec<CopiedTable>, CopyError> {
            let to = |error: diesel::result::Error| CopyError::To(error.into());
            let from = |error: diesel::result::Error| CopyError::From(error.into());
            $(
                // The migrations have already inserted the one row of the counters.
                if stringify!($table) == "id_counters" {
                    delete(schema::$table::table).execute(target).map_err(to)?;
                }
                let existing: i64 = schema::$table::table.count().get_result(target).map_err(to)?;
                if existing > 0 {
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
                        let mut held: Vec<$table::Row> = Vec::with_capacity(CHUNK_ROWS);
                        for row in $rows {
                            held.push(row.map_err(from)?);
                            if held.len() == CHUNK_ROWS {
                                write(std::mem::replace(&mut held, Vec::with_capacity(CHUNK_ROWS))).map_err(to)?;
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
                let in_source: i64 = schema::$table::table.count().get_result(source).map_err(from)?;
                let in_target: i64 = schema::$table::table.count().get_result(target).map_err(to)?;
                if in_source != in_target {
                    return Err(CopyError::Counts { table: stringify!($table), from: in_source, to: in_target });
                }
                copied.push(CopiedTable { table: stringify!($table), rows: in_target });
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
        received_up_to: i64, read_up_to: i64, locale: Option<String>,
    }
    goods {
        id: i64, seller_id: i64, title: String, content: String, category: String, start_price: i64,
        predict_price: i64, min_increment: i64, starts_at: i64, ends_at: i64, created_at: i64, phase: i16,
        high_price: Option<i64>, high_bidder_id: Option<i64>, bid_seq: i64, ending_soon_done: bool,
        trade_room_id: Option<i64>, like_count: i64, cancelled: bool, external_id: Option<String>,
        scheduled_ends_at: Option<i64>,
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
        receivers: Option<String>, last_receiver: Option<i64>, stored_at: Option<i64>,
    }
    inbox {
        user_id: i64, alarm_id: i64, is_read: bool, muted: bool, collapse_key: Option<String>, superseded: bool,
    }
    fanouts {
        event_id: i64, goods_id: i64, max_like: i64, max_bid_seq: i64, after_user_id: i64, user_ids: Option<String>,
        collapse_key: Option<String>,
    }
    line_removals { id: i64, goods_id: i64, line_id: i64 }
    erasures { user_id: i64, begun_at: i64 }
    audit {
        id: i64, created_at: i64, admin_id: i64, action: String, target: String, target_id: i64, fields: String,
    }
    mutes { kind: String, user_id: i64 }
    idempotency_keys {
        user_id: i64, key: String, goods_id: i64, price: i64, verdict: String, received_at: i64,
        bid_id: Option<i64>, seq: Option<i64>, ends_at: Option<i64>, high_price: Option<i64>, minimum: Option<i64>,
        created_at: i64,
    }
}
