//! The pool of connections that read.

use std::{sync::Arc, time::Duration};

use diesel::{
    prelude::*,
    r2d2::{HandleError, ManageConnection, Pool, R2D2Connection},
};

use super::{
    DbConn,
    sqlite::connection as sqlite_connection,
    url::{DatabaseLock, DatabaseUrl, Engine},
};
use crate::{
    outage::Outage,
    store::{StoreError, database_file::FileId, read_outage::log_read_failure},
};

pub(crate) type DbPool = Pool<ReaderManager>;

/// How long the pool may take to open its first connections.
const POOL_TIMEOUT: Duration = Duration::from_secs(4);

impl DatabaseUrl {
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
