//! Whether this process alone uses the database.

/// Who uses the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// This process alone.
    Exclusive,
    /// Several nodes of one service, which share a bus too.
    Shared,
}
