//! A backup of an SQLite database: one moment of it in a new file, also while it is served. Put in the place of the
//! database it can be served as it is.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use diesel::{
    connection::SimpleConnection,
    dsl::sql,
    prelude::*,
    sql_query,
    sql_types::{BigInt, Text},
};

use super::{DatabaseUrl, StoreError};

/// So far behind the newest of its ids a restored backup goes on: no id that was given after the backup is given a second
/// time, and no client's cursor is ahead of the new ones.
const IDS_AHEAD: i64 = 1_000_000_000;
/// How long it waits for whoever holds the database alone for a moment.
const WAIT: Duration = Duration::from_secs(10);

/// Why there is no backup. Nothing is left of it then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database.
    #[error("--from: {0}")]
    From(StoreError),
    /// The file that it should go into.
    #[error("--to: {path}: {error}")]
    To {
        /// Its name, or its folder's.
        path: String,
        /// What is wrong with it.
        error: io::Error,
    },
    /// What was written is no whole database, or none of this service.
    #[error("the backup is broken, and was not kept: {0}")]
    Broken(String),
}

impl From<diesel::result::Error> for BackupError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Writes a backup into a file that is not there yet, for its owner alone; returns how many goods it has.
///
/// # Errors
/// [`BackupError`]. A file is never overwritten, and none is left that is not whole.
pub fn backup(from: &DatabaseUrl, to: &Path) -> Result<i64, BackupError> {
    let unavailable = |text: &str| BackupError::From(StoreError::Unavailable(text.to_owned()));
    let Some(path) = from.file() else {
        return Err(unavailable("not an SQLite file; PostgreSQL brings its own program, pg_dump"));
    };
    if !path.is_file() {
        return Err(unavailable("there is no such database"));
    }
    if fs::symlink_metadata(to).is_ok() {
        let there = io::Error::new(io::ErrorKind::AlreadyExists, "is there already, and is not overwritten");
        return Err(io_error(to, there));
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::Builder::new().prefix(".backup-").suffix(".part").tempfile_in(folder);
    let part = part.map_err(|error| io_error(folder, error))?;
    let part_name = part.path().to_string_lossy().into_owned();
    let mut source = connect(path).map_err(BackupError::From)?;
    let written = sql_query("VACUUM INTO ?").bind::<Text, _>(&part_name).execute(&mut source);
    written.map_err(|error| BackupError::From(error.into()))?;
    let goods = complete(&mut connect(part.path()).map_err(|error| BackupError::Broken(error.to_string()))?)?;
    part.as_file().sync_all().map_err(|error| io_error(to, error))?;
    part.persist_noclobber(to).map_err(|error| io_error(to, error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| io_error(folder, error))?;
    Ok(goods)
}

fn io_error(path: &Path, error: io::Error) -> BackupError {
    BackupError::To { path: path.display().to_string(), error }
}

fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    let conn = SqliteConnection::establish(&path.to_string_lossy());
    let mut conn = conn.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    conn.batch_execute(&format!("PRAGMA busy_timeout = {}", WAIT.as_millis()))?;
    Ok(conn)
}

/// Checks the copy, and raises its ids: all that there are in its version.
fn complete(copy: &mut SqliteConnection) -> Result<i64, BackupError> {
    let ids = sql::<Text>("SELECT name FROM pragma_table_info('id_counters') WHERE name <> 'one'");
    let raised: Vec<String> =
        ids.load::<String>(copy)?.into_iter().map(|id| format!("{id} = {id} + {IDS_AHEAD}")).collect();
    if raised.is_empty() {
        return Err(BackupError::Broken("this is no database of handsup".to_owned()));
    }
    copy.batch_execute(&format!("UPDATE id_counters SET {}", raised.join(", ")))?;
    let found: String = sql::<Text>("SELECT integrity_check FROM pragma_integrity_check LIMIT 1").get_result(copy)?;
    if found != "ok" {
        return Err(BackupError::Broken(found));
    }
    Ok(sql::<BigInt>("SELECT count(*) FROM goods").get_result(copy)?)
}
