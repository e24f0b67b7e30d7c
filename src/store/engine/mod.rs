//! Connections: which engine, and what both have to offer. What only one of them knows stands in `sqlite` and
//! `postgres`.

pub(crate) mod nodes;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use diesel::{
    connection::SimpleConnection,
    prelude::*,
    r2d2::{HandleError, ManageConnection, Pool, R2D2Connection},
};

use self::{
    nodes::Nodes,
    postgres::connection::{self as postgres_connection, NodeLock},
    sqlite::connection as sqlite_connection,
};
use super::{
    StoreError,
    database_file::{DatabaseFile, FileId},
    readable::say_unreadable,
    schema_version::Migrated,
};
use crate::outage::Outage;

/// The connection that all queries are written for.
#[derive(diesel::MultiConnection)]
pub(crate) enum DbConn {
    /// Embedded.
    Sqlite(SqliteConnection),
    /// A server of its own.
    Pg(PgConnection),
}

/// Runs the same statement on the connection itself: what every bid does is spared the cost of a statement that fits
/// either engine, and is prepared once.
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
pub(crate) type DbPool = Pool<Readers>;

/// How long the first connections may take.
const POOL_WAIT: Duration = Duration::from_secs(4);

/// Where the data is (`database.url`).
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Engine);

#[derive(Clone, PartialEq, Eq)]
enum Engine {
    Sqlite(PathBuf),
    Postgres(postgres_connection::Server),
}

/// Without passwords.
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
    /// What is wrong with it, in words for the operator. The engine is chosen by the scheme alone: diesel would
    /// take any other text for the name of an SQLite file.
    pub fn parse(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() && !path.starts_with(':') && !path.contains(['?', '\0']) => {
                Ok(Self(Engine::Sqlite(PathBuf::from(path))))
            }
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self(Engine::Postgres(postgres_connection::Server::parse(url)?)))
            }
            _ => Err("use sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE".to_owned()),
        }
    }

    /// Where it is, whichever folder one is in; without passwords.
    pub(crate) fn absolute(&self) -> Self {
        match &self.0 {
            Engine::Sqlite(path) => Self(Engine::Sqlite(std::path::absolute(path).unwrap_or_else(|_| path.clone()))),
            Engine::Postgres(_) => self.clone(),
        }
    }

    /// `sqlite` or `postgres`.
    pub fn engine(&self) -> &'static str {
        match self.0 {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(_) => "postgres",
        }
    }

    /// The file that holds the data, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Engine::Sqlite(path) => Some(path),
            Engine::Postgres(_) => None,
        }
    }

    /// Whether there is something to open; opening an SQLite file makes it.
    pub(crate) fn is_there(&self) -> bool {
        match &self.0 {
            Engine::Sqlite(path) => path.is_file(),
            Engine::Postgres(_) => true,
        }
    }

    /// Opens one connection for the writer.
    pub(crate) fn connect_writer(&self) -> Result<DbConn, StoreError> {
        match &self.0 {
            Engine::Sqlite(path) => sqlite_connection::connect_writer(path).map(DbConn::Sqlite),
            Engine::Postgres(server) => server.connect_writer().map(DbConn::Pg),
        }
    }

    /// Opens reading connections to the database that this lock is for. That none can be made is said of their outage.
    pub(crate) fn pool(&self, size: u32, lock: &OwnLock, outage: Arc<Outage>) -> Result<DbPool, StoreError> {
        let file = match lock {
            OwnLock::File(file) => Some(file.id()),
            OwnLock::Node(_) => None,
        };
        Pool::builder()
            .max_size(size)
            // A server takes long to open one, so all are there before somebody needs them.
            .min_idle(matches!(self.0, Engine::Sqlite(_)).then_some(1))
            // For all of them at the start; a read waits for less.
            .connection_timeout(POOL_WAIT)
            .error_handler(Box::new(NoConnection(outage)))
            .build(Readers { url: self.clone(), file })
            .map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Takes the database for this process, or for all nodes with a bus. A file can't be shared, and is made if it is not
    /// there.
    pub(crate) fn lock(&self, nodes: Nodes) -> Result<OwnLock, StoreError> {
        match &self.0 {
            Engine::Sqlite(path) => DatabaseFile::take(path).map(OwnLock::File),
            Engine::Postgres(server) => server.lock(nodes).map(OwnLock::Node),
        }
    }
}

/// Held by the process whose database it is.
pub(crate) enum OwnLock {
    File(DatabaseFile),
    Node(#[allow(dead_code)] NodeLock), // Held, not read.
}

impl OwnLock {
    /// From here on [`look`](Self::look) compares with how the database is now. The connection has migrated it.
    pub(crate) fn watch(&mut self, conn: DbConn) -> Result<(), StoreError> {
        match (self, conn) {
            (Self::File(file), DbConn::Sqlite(conn)) => file.watch(conn),
            _ => Ok(()),
        }
    }

    /// Whether a restart would find what is stored. A server sees to its files itself.
    pub(crate) fn look(&mut self) -> Result<(), StoreError> {
        match self {
            Self::File(file) => file.look(),
            Self::Node(_) => Ok(()),
        }
    }

    /// Whether the last look said no.
    pub(crate) fn is_lost(&self) -> Arc<AtomicBool> {
        match self {
            Self::File(file) => file.is_lost(),
            Self::Node(_) => Arc::default(),
        }
    }
}

/// The pool tries again and again, and would say each time why it failed.
#[derive(Debug)]
struct NoConnection(Arc<Outage>);

impl HandleError<diesel::r2d2::Error> for NoConnection {
    fn handle_error(&self, error: diesel::r2d2::Error) {
        say_unreadable(&self.0, &error);
    }
}

/// Makes reading connections: they can't write, so that all writes go through the ledger.
pub(crate) struct Readers {
    url: DatabaseUrl,
    /// The file that is this process's own, whatever its name names by now.
    file: Option<FileId>,
}

impl ManageConnection for Readers {
    type Connection = DbConn;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<DbConn, Self::Error> {
        match &self.url.0 {
            Engine::Sqlite(path) => {
                if FileId::at(path).ok() != self.file {
                    let lost = "its file is not there".to_owned();
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

/// Brings the schema up to date.
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

/// Begins a transaction that will write, as the only one that does so now.
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
    fn the_scheme_chooses_the_engine() {
        let engine = |url| DatabaseUrl::parse(url).map(|url| url.engine()).ok();
        assert_eq!(engine("sqlite://data/handsup.db"), Some("sqlite"));
        assert_eq!(engine("sqlite:///var/lib/handsup.db"), Some("sqlite"));
        assert_eq!(engine("postgres://me:secret@db:5432/handsup?sslmode=prefer"), Some("postgres"));
        let with_tls = cfg!(feature = "postgres-tls");
        assert_eq!(engine("postgres://db/handsup?sslmode=require").is_some(), with_tls, "or it says so");
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
            let complaint = DatabaseUrl::parse(bad).unwrap_err();
            assert!(!complaint.contains("secret"), "{complaint}");
        }
    }
}
