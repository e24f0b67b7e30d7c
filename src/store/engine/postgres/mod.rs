//! Code that only PostgreSQL needs: its connections, and the statements that read and write a batch of bids.

pub(crate) mod batch;
pub(crate) mod connection;
