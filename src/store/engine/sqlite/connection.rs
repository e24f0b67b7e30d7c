//! SQLite connections: how they are opened and configured, and how a write transaction begins.

use std::{path::Path, time::Duration};

use diesel::{connection::SimpleConnection, dsl::sql, prelude::*, sql_types::BigInt};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use crate::store::{
    StoreError,
    schema_version::{self, Migrated},
    search,
};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Begins a write transaction with the write lock. After a plain BEGIN the first write could fail at once with
/// "locked".
pub(crate) const BEGIN: &str = "BEGIN IMMEDIATE";
/// How long the writer waits for a lock: well below the 3 s within which a client gets its 503.
const WRITER_LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How many pages the WAL may have before SQLite moves them into the database file. It only moves the last version of a
/// page, and every bid changes the same pages (counters, goods, the ends of indexes), so a long WAL costs less. After a
/// crash SQLite reads the whole WAL again.
const CHECKPOINT_PAGES: u32 = 8000;
/// How long a reader waits for a lock.
const READER_LOCK_TIMEOUT: Duration = Duration::from_millis(400);

/// Opens a connection that may write.
pub(crate) fn connect_writer(path: &Path) -> Result<SqliteConnection, StoreError> {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy())
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    // `synchronous = FULL`, so that an answered bid survives a power cut. The WAL lets readers work beside the writer.
    // `secure_delete = FAST` overwrites what is deleted or replaced in a page that is written anyway.
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; \
         PRAGMA temp_store = MEMORY; PRAGMA secure_delete = FAST; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};",
        WRITER_LOCK_TIMEOUT.as_millis()
    ))?;
    Ok(conn)
}

/// Opens a read-only connection.
pub(crate) fn connect_reader(path: &Path) -> Result<SqliteConnection, diesel::r2d2::Error> {
    let mut conn =
        SqliteConnection::establish(&path.to_string_lossy()).map_err(diesel::r2d2::Error::ConnectionError)?;
    conn.batch_execute(&format!("PRAGMA busy_timeout = {}; PRAGMA query_only = ON;", READER_LOCK_TIMEOUT.as_millis()))
        .and_then(|()| search::register(&mut conn))
        .map_err(diesel::r2d2::Error::QueryError)?;
    Ok(conn)
}

/// Whether a new connection can read the newest commit marker of the writer, and so the newest commit.
pub(crate) fn can_read_commit_markers(path: &Path) -> bool {
    let newest = sql::<BigInt>("SELECT coalesce(max(mark), 0) FROM writer_marks");
    connect_reader(path).is_ok_and(|mut conn| newest.get_result::<i64>(&mut conn).is_ok())
}

/// Whether the schema is up to date.
pub(crate) fn is_migrated(conn: &mut SqliteConnection) -> Result<bool, StoreError> {
    schema_version::is_migrated(conn, MIGRATIONS)
}

/// Migrates the schema.
pub(crate) fn migrate(conn: &mut SqliteConnection) -> Result<Migrated, StoreError> {
    schema_version::migrate(conn, MIGRATIONS)
}
