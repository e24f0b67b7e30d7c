//! The two database engines behind one interface: URL, connections, lock and migrations. What only one engine needs is
//! in `sqlite` and `postgres`.

pub(crate) mod postgres;
pub(crate) mod sqlite;
pub(crate) mod topology;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use diesel::{connection::SimpleConnection, prelude::*, r2d2::R2D2Connection};
use r2d2::{HandleError, ManageConnection, Pool};

use self::{
    postgres::connection::{self as postgres_connection, NodeLock},
    sqlite::connection as sqlite_connection,
    topology::Topology,
};
use super::{
    DatabaseUrlError, StoreError,
    database_file::{DatabaseFile, FileId},
    read_outage::log_read_failure,
    schema_version::Migrated,
};
use crate::outage::Outage;

/// A connection to either engine. Queries are written for this type.
#[derive(diesel::MultiConnection)]
pub(crate) enum DbConn {
    /// The embedded engine.
    Sqlite(SqliteConnection),
    /// A PostgreSQL server.
    Pg(PgConnection),
}

/// Runs the same statement on the connection of the engine itself. For statements that every bid runs: they are
/// prepared once, and cost less than those on a [`DbConn`], which diesel builds for either engine.
macro_rules! on_each {
    ($conn:expr, $inner:ident => $run:expr) => {
        match $conn {
            $crate::store::engine::DbConn::Sqlite($inner) => $run,
            $crate::store::engine::DbConn::Pg($inner) => $run,
        }
    };
}
pub(crate) use on_each;

pub(crate) type Backend = <DbConn as Connection>::Backend;
pub(crate) type DbPool = Pool<ReaderManager>;

/// How long the pool may take to open its first connections.
const POOL_TIMEOUT: Duration = Duration::from_secs(4);

/// The setting `database.url`: engine and place of the database. Displayed without passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Engine);

#[derive(Clone, PartialEq, Eq)]
enum Engine {
    Sqlite(PathBuf),
    Postgres(postgres_connection::Server),
}

impl std::fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Engine::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Engine::Postgres(server) => f.write_str(server.shown()),
        }
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl DatabaseUrl {
    /// Reads `sqlite://PATH` or `postgres://…`.
    ///
    /// # Errors
    /// What is wrong with the URL. It must have one of these schemes, because diesel would take any other text for the
    /// name of an SQLite file.
    pub fn parse(url: &str) -> Result<Self, DatabaseUrlError> {
        match url.split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() && !path.starts_with(':') && !path.contains(['?', '\0']) => {
                Ok(Self(Engine::Sqlite(PathBuf::from(path))))
            }
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self(Engine::Postgres(postgres_connection::Server::parse(url)?)))
            }
            _ => Err(DatabaseUrlError::Scheme),
        }
    }

    /// The URL with an absolute path.
    pub(crate) fn absolute(&self) -> Self {
        match &self.0 {
            Engine::Sqlite(path) => Self(Engine::Sqlite(std::path::absolute(path).unwrap_or_else(|_| path.clone()))),
            Engine::Postgres(_) => self.clone(),
        }
    }

    /// The engine's name: `sqlite` or `postgres`.
    pub fn engine(&self) -> &'static str {
        match self.0 {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(_) => "postgres",
        }
    }

    /// The database file; `None` for PostgreSQL.
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Engine::Sqlite(path) => Some(path),
            Engine::Postgres(_) => None,
        }
    }

    /// Whether the SQLite file exists, which opening it would create. Always true for PostgreSQL.
    pub(crate) fn exists(&self) -> bool {
        match &self.0 {
            Engine::Sqlite(path) => path.is_file(),
            Engine::Postgres(_) => true,
        }
    }

    /// Opens a connection that may write.
    pub(crate) fn connect_writer(&self) -> Result<DbConn, StoreError> {
        match &self.0 {
            Engine::Sqlite(path) => sqlite_connection::connect_writer(path).map(DbConn::Sqlite),
            Engine::Postgres(server) => server.connect_writer().map(DbConn::Pg),
        }
    }

    /// Opens a pool of read-only connections to the database that `lock` has locked. Failures to connect count as
    /// failed reads in `outage`.
    pub(crate) fn pool(&self, size: u32, lock: &DatabaseLock, outage: Arc<Outage>) -> Result<DbPool, StoreError> {
        let file = match lock {
            DatabaseLock::File(file) => Some(file.id()),
            DatabaseLock::Node(_) => None,
        };
        Pool::builder()
            .max_size(size)
            // PostgreSQL takes long to open a connection, so its pool opens all of them at once.
            .min_idle(matches!(self.0, Engine::Sqlite(_)).then_some(1))
            // At the start, for all connections; a read has a shorter timeout of its own.
            .connection_timeout(POOL_TIMEOUT)
            .error_handler(Box::new(LogConnectFailure(outage)))
            .build(ReaderManager { url: self.clone(), file })
            .map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Locks the database for this process or for its cluster. An SQLite file is always locked for this process, and
    /// created if it does not exist.
    pub(crate) fn lock(&self, topology: Topology) -> Result<DatabaseLock, StoreError> {
        match &self.0 {
            Engine::Sqlite(path) => DatabaseFile::lock(path).map(DatabaseLock::File),
            Engine::Postgres(server) => server.lock(topology).map(DatabaseLock::Node),
        }
    }
}

/// The lock on the database, held as long as the process uses it.
pub(crate) enum DatabaseLock {
    File(DatabaseFile),
    Node(#[allow(dead_code)] NodeLock), // Held, not read.
}

impl DatabaseLock {
    /// Starts the watch: from now on [`check`](Self::check) compares the database with its state now. `conn` is the
    /// connection that has migrated it.
    pub(crate) fn watch(&mut self, conn: DbConn) -> Result<(), StoreError> {
        match (self, conn) {
            (Self::File(file), DbConn::Sqlite(conn)) => file.watch(conn),
            _ => Ok(()),
        }
    }

    /// Checks that a restart would find what is stored. A PostgreSQL server takes care of its files itself.
    pub(crate) fn check(&mut self) -> Result<(), StoreError> {
        match self {
            Self::File(file) => file.check(),
            Self::Node(_) => Ok(()),
        }
    }

    /// A flag that is true if the last check failed.
    pub(crate) fn lost_flag(&self) -> Arc<AtomicBool> {
        match self {
            Self::File(file) => file.lost_flag(),
            Self::Node(_) => Arc::default(),
        }
    }
}

/// Logs failures to connect as an outage of reads. The pool retries all the time, and by default logs each failure.
#[derive(Debug)]
struct LogConnectFailure(Arc<Outage>);

impl HandleError<diesel::r2d2::Error> for LogConnectFailure {
    fn handle_error(&self, error: diesel::r2d2::Error) {
        log_read_failure(&self.0, &error);
    }
}

/// Opens the connections of the pool. They are read-only, so that all writes go through the ledger.
pub(crate) struct ReaderManager {
    url: DatabaseUrl,
    /// The locked SQLite file; another file may be at its path by now.
    file: Option<FileId>,
}

impl ManageConnection for ReaderManager {
    type Connection = DbConn;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<DbConn, Self::Error> {
        match &self.url.0 {
            Engine::Sqlite(path) => {
                if FileId::at(path).ok() != self.file {
                    let lost = "its file was moved or replaced".to_owned();
                    return Err(diesel::r2d2::Error::ConnectionError(ConnectionError::BadConnection(lost)));
                }
                sqlite_connection::connect_reader(path).map(DbConn::Sqlite)
            }
            Engine::Postgres(server) => server.connect_reader().map(DbConn::Pg),
        }
    }

    fn is_valid(&self, conn: &mut DbConn) -> Result<(), Self::Error> {
        conn.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, conn: &mut DbConn) -> bool {
        std::thread::panicking() || conn.is_broken()
    }
}

/// Migrates the schema.
pub(crate) fn migrate(conn: &mut DbConn) -> Result<Migrated, StoreError> {
    match conn {
        DbConn::Sqlite(conn) => sqlite_connection::migrate(conn),
        DbConn::Pg(conn) => postgres_connection::migrate(conn),
    }
}

/// Whether the schema is up to date.
pub(crate) fn is_migrated(conn: &mut DbConn) -> Result<bool, StoreError> {
    match conn {
        DbConn::Sqlite(conn) => sqlite_connection::is_migrated(conn),
        DbConn::Pg(conn) => postgres_connection::is_migrated(conn),
    }
}

/// Begins a write transaction and takes the engine's write lock, so that no other one can write until it ends.
pub(crate) fn begin_write(conn: &mut DbConn) -> Result<(), StoreError> {
    conn.batch_execute(match conn {
        DbConn::Sqlite(_) => sqlite_connection::BEGIN,
        DbConn::Pg(_) => postgres_connection::BEGIN,
    })
    .map_err(|error| StoreError::Unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_selects_the_engine() {
        let engine = |url| DatabaseUrl::parse(url).map(|url| url.engine()).ok();
        assert_eq!(engine("sqlite://data/handsup.db"), Some("sqlite"));
        assert_eq!(engine("sqlite:///var/lib/handsup.db"), Some("sqlite"));
        assert_eq!(engine("postgres://me:secret@db:5432/handsup?sslmode=prefer"), Some("postgres"));
        let with_tls = cfg!(feature = "postgres-tls");
        assert_eq!(engine("postgres://db/handsup?sslmode=require").is_some(), with_tls, "refused without TLS");
        assert_eq!(engine("postgresql:///handsup?host=/run/postgresql"), Some("postgres"));
        for bad in [
            "",
            "handsup.db",
            "sqlite:",
            "sqlite://",
            "sqlite://:memory:",
            "mysql://x",
            "postgres:nobody",
            "host=db dbname=x",
        ] {
            assert_eq!(engine(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("postgres://me:s%65cret@db/handsup", "postgres://me:********@db/handsup"),
            ("postgres://me@db/handsup?sslmode=prefer", "postgres://me@db/handsup?sslmode=prefer"),
            (
                "postgresql:///handsup?host=/run&password=secret&sslpassword=secret",
                "postgresql:///handsup?host=%2Frun&password=********&sslpassword=********",
            ),
            ("sqlite://data/a.db", "sqlite://data/a.db"),
        ] {
            let url = DatabaseUrl::parse(url).unwrap();
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
        }
        for bad in ["postgres://me:secret%zz@db/x", "postgres://me:secret%00@db/x", "postgres://me:secret@db:port/x"] {
            let error = DatabaseUrl::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
