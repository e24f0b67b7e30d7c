//! What only PostgreSQL knows.

pub(crate) mod batch;
pub(crate) mod connection;
