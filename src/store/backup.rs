//! `handsup backup`: writes a consistent snapshot of an SQLite database into a new file, also while a node uses the
//! database. To restore it, put the file in the database's place.

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

/// Added to all id counters of the backup. So a restored service gives no id again that was given after the backup, and
/// no client's cursor is ahead of its new ids.
const ID_GAP: i64 = 1_000_000_000;
/// How long a backup waits for a lock on the database.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a backup failed. No file is left of it then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// The database can't be read.
    #[error("--from: {0}")]
    From(StoreError),
    /// The backup's file can't be written.
    #[error("--to: {path}: {error}")]
    To { path: String, error: io::Error },
    /// The written file is damaged, or not a database of this service.
    #[error("the backup is broken, and was not kept: {0}")]
    Broken(String),
}

impl From<diesel::result::Error> for BackupError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Writes a backup into a new file that only its owner may read. Returns the number of goods in it.
///
/// # Errors
/// [`BackupError`], also if the file exists already.
pub(crate) fn backup(from: &DatabaseUrl, to: &Path) -> Result<i64, BackupError> {
    let unavailable = |text: &str| BackupError::From(StoreError::Unavailable(text.to_owned()));
    let Some(path) = from.file() else {
        return Err(unavailable("not an SQLite database; for PostgreSQL use pg_dump"));
    };
    if !path.is_file() {
        return Err(unavailable("no such database"));
    }
    if fs::symlink_metadata(to).is_ok() {
        let exists = io::Error::new(io::ErrorKind::AlreadyExists, "exists already and is not overwritten");
        return Err(io_error(to, exists));
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::Builder::new().prefix(".backup-").suffix(".part").tempfile_in(folder);
    let part = part.map_err(|error| io_error(folder, error))?;
    let part_name = part.path().to_string_lossy().into_owned();
    let mut source = connect(path).map_err(BackupError::From)?;
    let written = sql_query("VACUUM INTO ?").bind::<Text, _>(&part_name).execute(&mut source);
    written.map_err(|error| BackupError::From(error.into()))?;
    let goods = finish(&mut connect(part.path()).map_err(|error| BackupError::Broken(error.to_string()))?)?;
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
    conn.batch_execute(&format!("PRAGMA busy_timeout = {}", LOCK_TIMEOUT.as_millis()))?;
    Ok(conn)
}

/// Raises all id counters of the backup and checks its integrity. Returns the number of goods in it.
fn finish(copy: &mut SqliteConnection) -> Result<i64, BackupError> {
    // By the columns that exist, because an older version's database may have fewer counters.
    let ids = sql::<Text>("SELECT name FROM pragma_table_info('id_counters') WHERE name <> 'one'");
    let raised: Vec<String> =
        ids.load::<String>(copy)?.into_iter().map(|id| format!("{id} = {id} + {ID_GAP}")).collect();
    if raised.is_empty() {
        return Err(BackupError::Broken("not a database of handsup".to_owned()));
    }
    copy.batch_execute(&format!("UPDATE id_counters SET {}", raised.join(", ")))?;
    let found: String = sql::<Text>("SELECT integrity_check FROM pragma_integrity_check LIMIT 1").get_result(copy)?;
    if found != "ok" {
        return Err(BackupError::Broken(found));
    }
    Ok(sql::<BigInt>("SELECT count(*) FROM goods").get_result(copy)?)
}
