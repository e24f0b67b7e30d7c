//! Code that only SQLite needs: its connections, and prepared statements for what every bid does.

pub(crate) mod connection;
pub(crate) mod statements;
