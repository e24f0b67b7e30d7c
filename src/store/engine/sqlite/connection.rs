//! What only SQLite knows: pragmas, how a write transaction begins, a `lower` for more than ASCII.

use std::{path::Path, time::Duration};

use diesel::{connection::SimpleConnection, dsl::sql, prelude::*, sql_types::BigInt};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use crate::store::{
    StoreError,
    schema_version::{self, Migrated},
    search,
};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// A plain BEGIN that reads first would fail at once with "locked".
pub(crate) const BEGIN: &str = "BEGIN IMMEDIATE";
/// How long the writer waits for a lock: well within the 3 s of a 503.
const WRITER_WAIT: Duration = Duration::from_millis(500);
/// Pages in the WAL from which it is brought into the database. Of the pages that every bid touches (counters, goods, the
/// ends of the lists) only the last version is, so more of them cost less; what is left is read again after a crash.
const CHECKPOINT_PAGES: u32 = 8000;
/// How long a reader waits for a lock, and for a connection.
pub(crate) const READER_WAIT: Duration = Duration::from_millis(400);

/// Opens one connection for the writer, to a file that is there.
pub(crate) fn connect_writer(path: &Path) -> Result<SqliteConnection, StoreError> {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy())
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    // FULL: an answered bid survives a power cut. The WAL lets readers work beside the writer.
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; \
         PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};",
        WRITER_WAIT.as_millis()
    ))?;
    Ok(conn)
}

/// Opens one connection that can't write.
pub(crate) fn connect_reader(path: &Path) -> Result<SqliteConnection, diesel::r2d2::Error> {
    let mut conn =
        SqliteConnection::establish(&path.to_string_lossy()).map_err(diesel::r2d2::Error::ConnectionError)?;
    conn.batch_execute(&format!("PRAGMA busy_timeout = {}; PRAGMA query_only = ON;", READER_WAIT.as_millis()))
        .and_then(|()| search::register(&mut conn))
        .map_err(diesel::r2d2::Error::QueryError)?;
    Ok(conn)
}

/// Whether somebody who opens the database now finds what the writer has left last, in whichever pages that is.
pub(crate) fn can_read_marks(path: &Path) -> bool {
    let newest = sql::<BigInt>("SELECT coalesce(max(mark), 0) FROM writer_marks");
    connect_reader(path).is_ok_and(|mut conn| newest.get_result::<i64>(&mut conn).is_ok())
}

/// Whether the schema is up to date.
pub(crate) fn is_migrated(conn: &mut SqliteConnection) -> Result<bool, StoreError> {
    schema_version::is_migrated(conn, MIGRATIONS)
}

/// Brings the schema up to date.
pub(crate) fn migrate(conn: &mut SqliteConnection) -> Result<Migrated, StoreError> {
    schema_version::migrate(conn, MIGRATIONS)
}
