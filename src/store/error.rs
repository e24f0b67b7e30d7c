//! Errors of reads ([`StoreError`]) and of writes ([`WriteError`]). Their texts go to logs, never to clients.

/// A failed database operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached or is locked; try again later.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The database file was damaged, replaced or moved: a restart would not find what is stored.
    #[error("the database is lost: {0}")]
    Lost(String),
    /// The database has a migration that this program does not know.
    #[error("the database was used by a newer version (its migration {0} is not known to version {version}); run that version, or go back to a backup", version = env!("CARGO_PKG_VERSION"))]
    Newer(String),
    /// A statement failed.
    #[error("statement failed: {0}")]
    Statement(diesel::result::Error),
    /// A row holds a value that this service never writes. The text names the table or column.
    #[error("unreadable row: {0}")]
    Row(&'static str),
    /// The task panicked; its transaction was rolled back.
    #[error("a database task panicked")]
    Panicked,
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Statement(error)
    }
}

/// Why a write failed, as its sender learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Certainly not stored: the queue was full, its deadline passed, or the transaction was rolled back.
    #[error("not stored")]
    NotStored,
    /// The commit failed, and whether it is on disk could not be found out.
    #[error("fate of the commit unknown")]
    Unknown,
}
