//! Everything that is on disk: schema, reads, the ledger and what it writes. The only room that knows diesel.
//!
//! Reads run on a small pool of connections that can't write; every write goes through the ledger's one thread.

mod backup;
mod copy;
mod database_file;
mod engine;
mod error;
mod ledger;
mod readable;
mod reads;
mod room_event;
mod rows;
mod schema;
mod schema_version;
mod search;
mod tx;
mod writer;
pub mod writes;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use diesel::{connection::SimpleConnection, prelude::*};
use tokio::sync::Semaphore;

pub use self::{
    backup::{BackupError, backup},
    copy::{Copied, CopyError, copy},
    engine::{DatabaseUrl, nodes::Nodes},
    error::{StoreError, WriteError},
    ledger::{Ledger, LedgerFigures, Observer, Write},
    reads::{
        AlarmPage, AlarmQuery, BidListing, GoodsCard, GoodsDetail, GoodsFacts, GoodsFilter, InboxAlarm, InboxEnd,
        MOST_NEWS, Page, RoomLine, RoomMark, SessionStart, TradeAccess, TradeInfo, TradeListing, TradeMessage,
        TradeTalk, UserGoods,
    },
    room_event::{Committed, RoomEvent},
    tx::{LedgerRules, Tx},
    writer::LedgerThread,
};
use self::{
    engine::{DbConn, DbPool, OwnLock},
    readable::{say_readable, say_unreadable},
};
use crate::{outage::Outage, time_source::TimeSource};

/// How long a read may wait for its turn.
const READ_PATIENCE: Duration = Duration::from_millis(400);
/// Reads that may wait for a connection; beyond, a read fails at once.
const MAX_WAITING_READS: usize = 2048;

/// The reading side. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    engine: &'static str,
    pool: DbPool,
    /// What is read would not be found after a restart.
    is_lost: Arc<AtomicBool>,
    /// As many as there are connections: a blocking thread is only taken when a connection is free for it.
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Searches look at everything there is: they get a part of the connections and no more.
    searches: Arc<Semaphore>,
    /// Sessions that read their backlog wait here for each other, so that ten thousand of them that do it at once leave
    /// connections to others.
    backlogs: Arc<Semaphore>,
    /// Of reads, connecting for them included.
    outage: Arc<Outage>,
}

/// A database that is opened, migrated, and this process's own.
pub struct OpenedStore {
    /// The reading side.
    pub store: Store,
    url: DatabaseUrl,
    lock: OwnLock,
}

impl Store {
    /// Opens the database, brings its schema up to date and takes it for this process alone.
    ///
    /// # Errors
    /// It can't be opened, is in use by another process, or a migration fails.
    pub fn open(url: &DatabaseUrl, pool_size: u32) -> Result<OpenedStore, StoreError> {
        Self::open_for(Nodes::One, url, pool_size)
    }

    /// The same, for this process alone or for all nodes with a bus.
    ///
    /// # Errors
    /// Like [`open`](Self::open).
    pub fn open_for(nodes: Nodes, url: &DatabaseUrl, pool_size: u32) -> Result<OpenedStore, StoreError> {
        let mut lock = url.lock(nodes)?;
        let mut conn = url.connect_writer()?;
        let schema = engine::migrate(&mut conn)?;
        if schema.done > 0 {
            log::info!("{} migrations done", schema.done);
        }
        let goods: i64 = schema::goods::table.count().get_result(&mut conn)?;
        log::info!(
            "version {}, engine {}: {} {}, schema {}, {goods} goods",
            env!("CARGO_PKG_VERSION"),
            url.engine(),
            if schema.is_new { "made" } else { "opened" },
            url.absolute(),
            schema.version,
        );
        lock.watch(conn)?;
        let outage = Arc::new(Outage::new());
        let store = Self {
            engine: url.engine(),
            pool: url.pool(pool_size, &lock, Arc::clone(&outage))?,
            is_lost: lock.is_lost(),
            turns: Arc::new(Semaphore::new(pool_size as usize)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING_READS)),
            searches: Arc::new(Semaphore::new((pool_size as usize / 4).max(1))),
            backlogs: Arc::new(Semaphore::new((pool_size as usize / 2).max(1))),
            outage,
        };
        Ok(OpenedStore { store, url: url.clone(), lock })
    }

    /// `sqlite` or `postgres`.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// Runs a read that may look at everything there is, beside few of its kind and for a bounded time.
    async fn search<T: Send + 'static>(
        &self,
        search: impl FnOnce(&mut DbConn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = tokio::time::timeout(READ_PATIENCE, Arc::clone(&self.searches).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(StoreError::Unavailable("too many searches".to_owned())) };
        // What takes too long here is the searcher's, and no sign of the database.
        self.try_read(move |conn| {
            let _turn = turn;
            search::search(READ_PATIENCE, || search(conn))
        })
        .await
    }

    /// Runs a read. That reads fail is said in the log here, and not by each reader.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut DbConn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = self.try_read(read).await;
        match &result {
            Ok(_) => say_readable(self.outage.worked(Instant::now)),
            Err(error) => say_unreadable(&self.outage, error),
        }
        result
    }

    /// If the database could not be read: whether it can be by now, which is said in the log. For whoever calls it now and
    /// then, so that it is said also when nobody reads.
    pub async fn look_again(&self) {
        if self.outage.is_out() {
            let _ = self.read(|conn| Ok(conn.batch_execute("SELECT 1")?)).await;
        }
    }

    /// The same on a blocking thread; the caller's thread stays free.
    async fn try_read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut DbConn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let busy = |what: &str| StoreError::Unavailable(what.to_owned());
        if self.is_lost.load(Ordering::Acquire) {
            return Err(StoreError::Lost("nothing of it is read".to_owned()));
        }
        let _waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| busy("too many reads wait"))?;
        let turn = tokio::time::timeout(READ_PATIENCE, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| busy("no turn to read in time"))?
            .map_err(|_| busy("closed"))?;
        let pool = self.pool.clone();
        let done = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the future: a caller that goes away must not free the turn early.
            let _turn = turn;
            let mut conn =
                pool.get_timeout(READ_PATIENCE).map_err(|error| StoreError::Unavailable(error.to_string()))?;
            read(&mut conn)
        });
        // A disk that hangs keeps its thread and its turn, but not whoever asked.
        match tokio::time::timeout(READ_PATIENCE * 2, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Panicked),
            Err(_) => Err(busy("the read takes too long")),
        }
    }
}

impl OpenedStore {
    /// Starts the one writer. `observer` is told of everything that is committed.
    ///
    /// # Errors
    /// The database can't be opened, or the thread can't be started.
    pub fn start_ledger(
        self,
        rules: LedgerRules,
        time: Arc<dyn TimeSource>,
        observer: Observer,
    ) -> Result<LedgerThread, StoreError> {
        LedgerThread::start(self.url, self.lock, rules, time, observer)
    }
}
