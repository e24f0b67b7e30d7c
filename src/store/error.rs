//! Errors of reads ([`StoreError`]) and of writes ([`WriteError`]). Their texts go to logs, never to clients.

/// A failed database operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached or is locked; try again later.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The database file was damaged, replaced or moved: a restart would not find what is stored.
    #[error("the database is lost: {0}")]
    Lost(#[from] Loss),
    /// The database has a migration that this program does not know.
    #[error("the database was used by a newer version (its migration {0} is not known to version {version}); run that version, or go back to a backup", version = env!("CARGO_PKG_VERSION"))]
    Newer(String),
    #[error("statement failed: {0}")]
    Statement(#[from] diesel::result::Error),
    /// A row holds a value that this service never writes. The text names the table or column.
    #[error("unreadable row: {0}")]
    Row(&'static str),
    /// The task panicked; its transaction was rolled back.
    #[error("a database task panicked")]
    Panicked,
}

/// What is wrong with `database.url`. The texts cite no password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// It names neither engine.
    #[error("use sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE")]
    Scheme,
    /// An escape is not whole.
    #[error("in a postgres:// URL two hex digits must follow a % (write %25 for a % itself)")]
    Escape,
    /// It is no URL.
    #[error("not a postgres:// URL: {0}")]
    Form(#[from] url::ParseError),
    /// What looks like a path may be the rest of a password.
    #[error("unexpected @ after the host of a postgres:// URL (write %2F for a / in a password)")]
    AtInPath,
    /// It asks for TLS.
    #[error("this program is built without TLS to PostgreSQL (feature postgres-tls)")]
    NoTls,
}

/// Why a restart would not find what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The file was moved away or can't be reached.
    #[error("its file can't be found: {0}")]
    NotFound(std::io::ErrorKind),
    /// Another file is at its path.
    #[error("another file has its name")]
    Replaced,
    /// The file is shorter than what was written.
    #[error("its file has been cut")]
    Cut,
    /// The file has no header, or an older one.
    #[error("its file has been overwritten")]
    Overwritten,
    /// The WAL file was moved away or can't be reached.
    #[error("its -wal file can't be found: {0}")]
    WalNotFound(std::io::ErrorKind),
    /// Another file is at the WAL's path.
    #[error("another file has the name of its -wal file")]
    WalReplaced,
    /// The WAL file is shorter than what was written.
    #[error("its -wal file has been cut")]
    WalCut,
    /// The last check has failed.
    #[error("reads are refused")]
    FoundBefore,
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
