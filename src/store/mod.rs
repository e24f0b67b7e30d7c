//! The database layer: everything that is on disk, and the only place that uses diesel.
//!
//! [`Store`] reads, on a small pool of connections that can't write (`reads/`). The [`Ledger`] writes: one thread per
//! node runs every write (`writes/`) in a transaction (`tx/`). `engine/` hides the differences between SQLite and
//! PostgreSQL.
//!
//! - `ledger`: the queue of writes; `writer`: the thread that runs them, and who is notified of a commit
//! - `rows`, `schema`, `columns`: the tables, their rows, and how ids and times are kept in columns
//! - `room_event`: what a commit means for rooms and other listeners
//! - `read_outage`: how failing reads are logged; `error`: why a call of the store fails
//! - `database_file`: the SQLite file, its lock, and whether it is still there
//! - `search`: the words that goods are found by
//! - `backup`, `copy`, `schema_version`: for the commands that work on a whole database

mod backup;
mod columns;
mod copy;
mod database_file;
mod engine;
mod error;
mod ledger;
mod read_outage;
mod read_stats;
mod reads;
mod room_event;
mod rows;
mod schema;
mod schema_version;
mod search;
mod tx;
mod writer;
pub(crate) mod writes;

#[cfg(test)]
pub(crate) mod test_support {
    /// A new database in a folder of its own.
    pub(crate) fn open() -> (tempfile::TempDir, super::OpenedStore) {
        let folder = tempfile::tempdir().unwrap();
        let url = super::DatabaseUrl::parse(&format!("sqlite://{}", folder.path().join("x.db").display())).unwrap();
        let opened = super::Store::open(&url, 1).unwrap();
        (folder, opened)
    }
}

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use diesel::{connection::SimpleConnection, prelude::*};
use tokio::sync::Semaphore;

pub(crate) use self::engine::postgres::connection::MASK;
use self::{
    engine::{DbConn, pool::DbPool, url::DatabaseLock},
    ledger::Item,
    read_outage::{log_read_failure, log_reads_recovered},
    read_stats::ReadStats,
};
use crate::{metrics::Registry, outage::Outage};
pub(crate) use {
    self::backup::{BackupError, backup},
    self::copy::{CopiedTable, CopyError, copy},
    self::error::{DatabaseUrlError, Loss},
    self::ledger::{CommitListener, LedgerFigures},
    self::reads::{
        AuditEntry, BacklogPage, BidListing, Delivery, DeliveryQuery, ExportCursor, ExportPage, ExportPart, GoodsCard,
        GoodsFacts, GoodsFilter, InboxEnd, LedGoods, Page, Preferences, ROOM_EVENTS_LIMIT, RoomCursor, RoomLine,
        TradeAccess, TradeHistory, TradeInfo, TradeListing, TradeMessage, UserDetail, UserGoods,
    },
    self::room_event::RoomEvent,
};
pub use {
    self::engine::sharing::Sharing,
    self::engine::url::DatabaseUrl,
    self::error::{StoreError, WriteError},
    self::ledger::{Ledger, Write},
    self::reads::{AlarmQuery, GoodsDetail},
    self::room_event::Committed,
    self::tx::Tx,
    self::writer::LedgerThread,
};

/// How long a read may wait for a connection, and how long a search may take.
const READ_TIMEOUT: Duration = Duration::from_millis(400);
/// Reads that may be under way or wait for a connection; beyond that a read fails at once.
const WAITING_READS_LIMIT: usize = 2048;

/// Reads the database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    engine: &'static str,
    pool: DbPool,
    /// The database file is lost (`StoreError::Lost`), so nothing may be read from it.
    is_lost: Arc<AtomicBool>,
    /// One permit per connection, so that a read only takes a blocking thread when a connection is free.
    read_permits: Arc<Semaphore>,
    /// [`WAITING_READS_LIMIT`] permits, one per read from its call to its answer.
    pending_read_permits: Arc<Semaphore>,
    /// Permits for searches, a quarter of the connections: each scans all goods.
    search_permits: Arc<Semaphore>,
    /// Permits for backlog reads, half of the connections: ten thousand sessions that read theirs at once must leave
    /// connections to others.
    backlog_permits: Arc<Semaphore>,
    /// Tracks failing reads, failing connection attempts included.
    outage: Arc<Outage>,
    stats: ReadStats,
}

/// A database that is open, migrated and locked.
pub struct OpenedStore {
    pub store: Store,
    /// Writes to the database. Writes wait until [`start_ledger`](Self::start_ledger) starts the writer.
    pub ledger: Ledger,
    entries: Receiver<Item>,
    url: DatabaseUrl,
    lock: DatabaseLock,
    sharing: Sharing,
}

impl Store {
    /// Opens the database, migrates its schema and locks it for this process alone.
    ///
    /// # Errors
    /// The database can't be opened, is in use by another process, or a migration fails.
    pub fn open(url: &DatabaseUrl, pool_size: u32) -> Result<OpenedStore, StoreError> {
        Self::open_for(Sharing::Exclusive, url, pool_size)
    }

    /// Like [`open`](Self::open); nodes that share a database share the lock too.
    ///
    /// # Errors
    /// Like [`open`](Self::open).
    pub fn open_for(sharing: Sharing, url: &DatabaseUrl, pool_size: u32) -> Result<OpenedStore, StoreError> {
        let mut lock = url.lock(sharing)?;
        let mut conn = url.connect_writer()?;
        let schema = engine::migrate(&mut conn)?;
        if schema.done > 0 {
            log::info!(migrations = schema.done; "migrations done");
        }
        let goods: i64 = schema::goods::table.count().get_result(&mut conn)?;
        let (version, engine, database) = (env!("CARGO_PKG_VERSION"), url.engine(), url.absolute());
        log::info!(
            version, engine, database:%, new = schema.is_new, schema:% = schema.version, goods;
            "the database is open"
        );
        lock.watch(conn)?;
        let outage = Arc::new(Outage::new());
        let store = Self {
            engine: url.engine(),
            pool: url.pool(pool_size, &lock, Arc::clone(&outage))?,
            is_lost: lock.lost_flag(),
            read_permits: Arc::new(Semaphore::new(pool_size as usize)),
            pending_read_permits: Arc::new(Semaphore::new(WAITING_READS_LIMIT)),
            search_permits: Arc::new(Semaphore::new((pool_size as usize / 4).max(1))),
            backlog_permits: Arc::new(Semaphore::new((pool_size as usize / 2).max(1))),
            outage,
            stats: ReadStats::default(),
        };
        let (ledger, entries) = Ledger::channel(lock.lost_flag());
        Ok(OpenedStore { store, ledger, entries, url: url.clone(), lock, sharing })
    }

    /// Adds the figures about reads to the metrics.
    pub(crate) fn register(&self, to: &mut Registry) {
        let connections = (&self.read_permits, self.pool.max_size() as usize);
        self.stats.register(to, connections, (&self.pending_read_permits, WAITING_READS_LIMIT));
    }

    /// The engine's name: `sqlite` or `postgres`.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// Runs a read that may scan a whole table: few run at a time, each for at most [`READ_TIMEOUT`].
    async fn search<T: Send + 'static>(
        &self,
        search: impl FnOnce(&mut DbConn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = tokio::time::timeout(READ_TIMEOUT, Arc::clone(&self.search_permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            self.stats.failures.inc();
            self.stats.timeouts.inc();
            return Err(StoreError::Unavailable("too many searches are running".to_owned()));
        };
        // A slow search is the client's doing and no sign of an outage, so it does not go through `read`.
        self.try_read(move |conn| {
            let _permit = permit;
            search::search(READ_TIMEOUT, || search(conn))
        })
        .await
    }

    /// Runs a read, and logs outages, so that callers need not.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut DbConn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = self.try_read(read).await;
        match &result {
            Ok(_) => log_reads_recovered(self.outage.record_success(Instant::now)),
            Err(error) => log_read_failure(&self.outage, error),
        }
        result
    }

    /// During an outage, tries a read and logs whether the database is back. Called now and then, because nobody else
    /// may read for a long time.
    pub async fn probe_if_failing(&self) {
        if self.outage.is_ongoing() {
            let _ = self.read(|conn| Ok(conn.batch_execute("SELECT 1")?)).await;
        }
    }

    /// Runs a read without logging, and counts it.
    async fn try_read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut DbConn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = self.read_on_thread(begun, read).await;
        self.stats.time.observe(begun.elapsed());
        if result.is_err() {
            self.stats.failures.inc();
        }
        result
    }

    /// Runs a read that has begun to wait on a blocking thread.
    async fn read_on_thread<T: Send + 'static>(
        &self,
        begun: Instant,
        read: impl FnOnce(&mut DbConn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let busy = |what: &str| {
            self.stats.timeouts.inc();
            StoreError::Unavailable(what.to_owned())
        };
        if self.is_lost.load(Ordering::Acquire) {
            return Err(Loss::FoundBefore.into());
        }
        let _pending = Arc::clone(&self.pending_read_permits)
            .try_acquire_owned()
            .map_err(|_| busy("too many reads are waiting"))?;
        let permit = tokio::time::timeout(READ_TIMEOUT, Arc::clone(&self.read_permits).acquire_owned()).await;
        let connection_wait = self.stats.connection_wait.clone();
        let Ok(Ok(permit)) = permit else {
            connection_wait.observe(begun.elapsed());
            return Err(busy("no read connection became free in time"));
        };
        let pool = self.pool.clone();
        let done = tokio::task::spawn_blocking(move || {
            // The thread holds the permit, not the future: a caller that goes away must not free it early.
            let _permit = permit;
            let conn = pool.get_timeout(READ_TIMEOUT);
            connection_wait.observe(begun.elapsed());
            read(&mut *conn.map_err(|error| StoreError::Unavailable(error.to_string()))?)
        });
        // If the disk hangs, the thread and the permit stay taken, but the caller gets an answer.
        match tokio::time::timeout(READ_TIMEOUT * 2, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Panicked),
            Err(_) => Err(busy("the read takes too long")),
        }
    }
}
