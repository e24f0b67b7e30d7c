//! Whether one node or several use the database.

/// Whose the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// One node's own.
    One,
    /// Shared by all nodes that have a bus.
    Several,
}
