//! What only SQLite knows: files, pragmas, how a write transaction begins, a `lower` for more than ASCII.

use std::{fs::File, path::Path, time::Duration};

use diesel::{connection::SimpleConnection, migration::MigrationVersion, prelude::*};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{StoreError, search};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// A plain BEGIN that reads first would fail at once with "locked".
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";
/// How long the writer waits for a lock: well within the 3 s of a 503.
const WRITER_WAIT: Duration = Duration::from_millis(500);
/// Pages in the WAL from which it is brought into the database. Of the pages that every bid touches (counters, goods, the
/// ends of the lists) only the last version is, so more of them cost less; what is left is read again after a crash.
const CHECKPOINT_PAGES: u32 = 8000;
/// How long a reader waits for a lock, and for a connection.
pub(super) const READER_WAIT: Duration = Duration::from_millis(400);

/// The database is this process's own until this is dropped (also by `kill -9`): two writers over one file would each
/// believe to be the only one.
#[derive(Debug)]
pub(crate) struct FileLock(File);

impl FileLock {
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        make_folder(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let unavailable =
            |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", Path::new(&name).display()));
        let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(unavailable)?;
        file.try_lock()
            .map_err(|_| StoreError::Unavailable(format!("{} is in use by another process", path.display())))?;
        Ok(Self(file))
    }
}

impl Drop for FileLock {
    /// Closing the file would leave it locked for as long as a child that is just being made still has a copy of the
    /// descriptor.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display()))),
        _ => Ok(()),
    }
}

/// Opens one connection for the writer, making file and folder if need be.
pub(super) fn connect_writer(path: &Path) -> Result<SqliteConnection, StoreError> {
    make_folder(path)?;
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
pub(super) fn connect_reader(path: &Path) -> Result<SqliteConnection, diesel::r2d2::Error> {
    let mut conn =
        SqliteConnection::establish(&path.to_string_lossy()).map_err(diesel::r2d2::Error::ConnectionError)?;
    conn.batch_execute(&format!("PRAGMA busy_timeout = {}; PRAGMA query_only = ON;", READER_WAIT.as_millis()))
        .and_then(|()| search::register(&mut conn))
        .map_err(diesel::r2d2::Error::QueryError)?;
    Ok(conn)
}

/// Whether the schema is up to date.
pub(super) fn is_migrated(conn: &mut SqliteConnection) -> diesel::migration::Result<bool> {
    Ok(!conn.has_pending_migration(MIGRATIONS)?)
}

/// Brings the schema up to date.
pub(super) fn migrate(conn: &mut SqliteConnection) -> diesel::migration::Result<usize> {
    let done: Vec<MigrationVersion<'_>> = conn.run_pending_migrations(MIGRATIONS)?;
    Ok(done.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_given_back_is_free_whoever_still_has_a_copy_of_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let lock = FileLock::take(&path).unwrap();
        let copy = lock.0.try_clone().unwrap();
        assert!(FileLock::take(&path).is_err(), "it is held");
        drop(lock);
        assert!(FileLock::take(&path).is_ok(), "it is free");
        drop(copy);
    }
}
