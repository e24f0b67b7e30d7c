//! Where the database is and which engine it has ([`DatabaseUrl`]), and the lock on it ([`DatabaseLock`]).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    DbConn,
    postgres::connection::{NodeLock, Server},
    sharing::Sharing,
    sqlite::connection as sqlite_connection,
};
use crate::store::{DatabaseUrlError, StoreError, database_file::DatabaseFile};

/// The setting `database.url`: engine and place of the database. Displayed without passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(pub(super) Engine);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite(PathBuf),
    Postgres(Server),
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
            Some(("postgres" | "postgresql", _)) => Ok(Self(Engine::Postgres(Server::parse(url)?))),
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

    /// Locks the database for this process or for its cluster. An SQLite file is always locked for this process, and
    /// created if it does not exist.
    pub(crate) fn lock(&self, sharing: Sharing) -> Result<DatabaseLock, StoreError> {
        match &self.0 {
            Engine::Sqlite(path) => DatabaseFile::lock(path).map(DatabaseLock::File),
            Engine::Postgres(server) => server.lock(sharing).map(DatabaseLock::Node),
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
