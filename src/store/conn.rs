//! Connections: which engine, how it is opened and set up, and the migrations.
//! Everything that only one engine knows (pragmas, how a write transaction begins) stands here.

use std::{
    cell::Cell,
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use diesel::{
    connection::SimpleConnection,
    prelude::*,
    r2d2::{ConnectionManager, CustomizeConnection, Pool},
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::StoreError;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The connection that all queries are written for.
pub(crate) type DbConn = SqliteConnection;
pub(crate) type Backend = <DbConn as Connection>::Backend;
pub(crate) type DbPool = Pool<ConnectionManager<DbConn>>;

diesel::define_sql_function! {
    /// A text in lower case.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

diesel::define_sql_function! {
    /// Where a text has another in it, from 1; 0 if nowhere. Unlike LIKE it takes time that grows with the text alone.
    fn strpos(text: diesel::sql_types::Text, part: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

thread_local! {
    /// When the search of this thread has to be over.
    static SEARCH_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs a search, which must not hold a reading connection for longer than `patience`: past it nothing is looked into
/// any more.
///
/// # Errors
/// It took too long.
pub(crate) fn search<T>(patience: Duration, search: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let until = Instant::now() + patience;
    SEARCH_UNTIL.set(Some(until));
    let found = search();
    SEARCH_UNTIL.set(None);
    if Instant::now() < until { found } else { Err(StoreError::Unavailable("the search takes too long".to_owned())) }
}

fn is_searched_too_long() -> bool {
    SEARCH_UNTIL.get().is_some_and(|until| Instant::now() >= until)
}

fn lower_case(text: String) -> String {
    if is_searched_too_long() { String::new() } else { text.to_lowercase() }
}

fn position(text: String, part: String) -> i32 {
    if is_searched_too_long() {
        return 0;
    }
    text.find(&part).map_or(0, |at| i32::try_from(at).map_or(i32::MAX, |at| at.saturating_add(1)))
}

/// How long the writer waits for a lock: well within the 3 s of a 503.
const WRITER_WAIT: Duration = Duration::from_millis(500);
/// How long a reader waits for a lock, and for a connection.
const READER_WAIT: Duration = Duration::from_millis(400);

/// Where the data is (`database.url`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    path: PathBuf,
}

impl DatabaseUrl {
    /// Reads `sqlite://PATH`.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator. The engine is chosen by the scheme alone: diesel would
    /// take any other text for the name of an SQLite file.
    pub fn parse(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() && !path.starts_with(':') && !path.contains(['?', '\0']) => {
                Ok(Self { path: PathBuf::from(path) })
            }
            Some(("postgres" | "postgresql", _)) => {
                Err("this version stores in SQLite only; use sqlite://PATH".to_owned())
            }
            _ => Err("use sqlite://PATH".to_owned()),
        }
    }

    /// Opens one connection for the writer, making file and folder if need be.
    pub(crate) fn connect_writer(&self) -> Result<DbConn, StoreError> {
        let mut conn = self.connect()?;
        // FULL: an answered bid survives a power cut. The WAL lets readers work beside the writer.
        conn.batch_execute(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; \
             PRAGMA temp_store = MEMORY;",
        )?;
        Ok(conn)
    }

    pub(crate) fn pool(&self, size: u32) -> Result<DbPool, StoreError> {
        Pool::builder()
            .max_size(size)
            .min_idle(Some(1))
            // The default of 30 s is far too long before a 503.
            .connection_timeout(READER_WAIT)
            .connection_customizer(Box::new(Reader))
            .build(ConnectionManager::new(self.path.to_string_lossy()))
            .map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Takes the database for this process until the file is dropped (also by `kill -9`): two writers
    /// over one SQLite file would each believe to be the only one.
    pub(crate) fn lock(&self) -> Result<File, StoreError> {
        self.make_folder()?;
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let unavailable =
            |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", Path::new(&name).display()));
        let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(unavailable)?;
        file.try_lock()
            .map_err(|_| StoreError::Unavailable(format!("{} is in use by another process", self.path.display())))?;
        Ok(file)
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder)
                .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display()))),
            _ => Ok(()),
        }
    }

    fn connect(&self) -> Result<DbConn, StoreError> {
        self.make_folder()?;
        let mut conn = DbConn::establish(&self.path.to_string_lossy())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        conn.batch_execute(&format!("PRAGMA busy_timeout = {};", WRITER_WAIT.as_millis()))?;
        Ok(conn)
    }
}

/// Sets up a reading connection: it can't write, so that all writes go through the ledger.
#[derive(Debug)]
struct Reader;

impl CustomizeConnection<DbConn, diesel::r2d2::Error> for Reader {
    fn on_acquire(&self, conn: &mut DbConn) -> Result<(), diesel::r2d2::Error> {
        conn.batch_execute(&format!("PRAGMA busy_timeout = {}; PRAGMA query_only = ON;", READER_WAIT.as_millis()))
            // SQLite's own knows only the letters of ASCII.
            .and_then(|()| lower_utils::register_impl(conn, lower_case))
            .and_then(|()| strpos_utils::register_impl(conn, position))
            .map_err(diesel::r2d2::Error::QueryError)
    }
}

/// Brings the schema up to date.
pub(crate) fn migrate(conn: &mut DbConn) -> Result<usize, StoreError> {
    conn.run_pending_migrations(SQLITE_MIGRATIONS)
        .map(|done| done.len())
        .map_err(|error| StoreError::Unavailable(format!("migrations: {error}")))
}

/// Begins a transaction that will write: a plain BEGIN that reads first would fail at once with "locked".
pub(crate) fn begin_write(conn: &mut DbConn) -> Result<(), StoreError> {
    conn.batch_execute("BEGIN IMMEDIATE").map_err(|error| StoreError::Unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_chooses_the_engine() {
        assert!(DatabaseUrl::parse("sqlite://data/handsup.db").is_ok());
        assert!(DatabaseUrl::parse("sqlite:///var/lib/handsup.db").is_ok());
        for bad in [
            "",
            "handsup.db",
            "sqlite:",
            "sqlite://",
            "sqlite://:memory:",
            "mysql://x",
            "postgres:nobody",
            "postgres://x/y",
        ] {
            assert!(DatabaseUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
