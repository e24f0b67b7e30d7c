//! What only SQLite knows.

pub(crate) mod connection;
pub(crate) mod statements;
