//! The two database engines behind one interface. What only one engine needs is in `sqlite` and `postgres`.
//!
//! - here: a connection to either engine, migrations, the beginning of a write transaction
//! - `url`: which engine, where the database is, and the lock on it
//! - `pool`: the connections that read
//! - `sharing`: whether this process alone uses the database

pub(crate) mod pool;
pub(crate) mod postgres;
pub(crate) mod sharing;
pub(crate) mod sqlite;
pub(crate) mod url;

use diesel::{connection::SimpleConnection, prelude::*};

use self::{postgres::connection as postgres_connection, sqlite::connection as sqlite_connection};
use super::{StoreError, schema_version::Migrated};

/// A connection to either engine. Queries are written for this type.
#[derive(diesel::MultiConnection)]
pub(crate) enum DbConn {
    Sqlite(SqliteConnection),
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
