//! The handle to the ledger, the one writer of a node: what a [`Write`] is, how it is submitted and answered, and the
//! ledger's figures.
//!
//! The writer's thread is in `writer.rs`; `writes/` has each kind of write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use super::{StoreError, WriteError, room_event::Committed, tx::Tx};
use crate::{
    domain::GoodsId,
    metrics::{Counter, Histogram, ReadGauge, Registry},
    outage::{Outage, OutageReport},
};

/// Entries that may wait in the queue. A write that finds it full gets `NotStored` at once.
const QUEUE_LIMIT: usize = 4096;

/// A value that the ledger runs in a transaction. It may run again after a rollback, so it must not remember a run.
pub trait Write: Send + 'static {
    /// The result that its sender gets after the commit.
    type Out: Send + 'static;

    /// The goods that it will read, if that is known beforehand, so that the ledger can read them together with others.
    fn goods(&self) -> Option<GoodsId> {
        None
    }

    /// How many single writes this one stands for. `None` excludes its transaction from the pace estimate
    /// ([`Ledger::time_per_write`]).
    fn weight(&self) -> Option<usize> {
        Some(1)
    }

    /// Runs the write inside the ledger's transaction.
    ///
    /// # Errors
    /// A statement failed. The batch is rolled back, and each of its entries is tried in a transaction of its own.
    fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError>;
}

/// Live figures, which the writer's thread and all handles update.
#[derive(Debug)]
pub(super) struct LedgerStats {
    pub(super) queued: AtomicUsize,
    overflows: Counter,
    pub(super) expired: Counter,
    pub(super) failures: Counter,
    /// How many entries each transaction had.
    pub(super) commit_entries: Histogram,
    /// How long each transaction took that wrote something.
    pub(super) commit_time: Histogram,
    pub(super) fanout_chunks: Counter,
    pub(super) last_commit_us: AtomicU64,
    pub(super) largest_batch: AtomicUsize,
    pub(super) failing: AtomicBool,
    pub(super) open_fanouts: AtomicUsize,
    pub(super) ns_per_write: AtomicU64,
    /// The current outage of writes, if there is one.
    pub(super) outage: Outage,
}

impl Default for LedgerStats {
    fn default() -> Self {
        Self {
            queued: AtomicUsize::default(),
            overflows: Counter::default(),
            expired: Counter::default(),
            failures: Counter::default(),
            commit_entries: Histogram::of_sizes(),
            commit_time: Histogram::default(),
            fanout_chunks: Counter::default(),
            last_commit_us: AtomicU64::default(),
            largest_batch: AtomicUsize::default(),
            failing: AtomicBool::default(),
            open_fanouts: AtomicUsize::default(),
            ns_per_write: AtomicU64::default(),
            outage: Outage::default(),
        }
    }
}

/// The ledger's figures at one moment, for the health endpoint.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct LedgerFigures {
    #[serde(rename = "queue")]
    pub queued: usize,
    /// Entries refused because the queue was full or the writer had stopped.
    pub overflows: u64,
    /// Entries dropped because their deadline had passed.
    pub expired: u64,
    pub commits: u64,
    pub failures: u64,
    pub entries: u64,
    /// Duration of the last transaction that wrote something, from begin to commit, in µs.
    #[serde(skip)]
    pub last_commit_us: u64,
    /// The most entries that one transaction has had.
    pub largest_batch: usize,
    /// A transaction has failed, and none has written anything since.
    #[serde(skip)]
    pub failing: bool,
    /// Fan-outs of this node that are not finished.
    pub open_fanouts: usize,
}

/// Gets what each transaction has committed.
pub trait CommitListener: Send {
    /// Called on the ledger's thread, in commit order, before the writes are answered.
    fn on_commit(&self, committed: Vec<Committed>);
}

impl<F: Fn(Vec<Committed>) + Send> CommitListener for F {
    fn on_commit(&self, committed: Vec<Committed>) {
        self(committed);
    }
}

/// Handle to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    queue: SyncSender<Item>,
    pub(super) stats: Arc<LedgerStats>,
    is_lost: Arc<AtomicBool>,
}

/// An item of the writer's queue.
pub(super) enum Item {
    Write(Box<dyn Entry>),
    /// The writer ends here: it handles what was queued before this item, and nothing after it.
    Stop,
}

impl Ledger {
    /// A handle, and the receiving end of its queue, with which the writer is started.
    pub(super) fn channel(is_lost: Arc<AtomicBool>) -> (Self, Receiver<Item>) {
        let (queue, items) = sync_channel(QUEUE_LIMIT);
        (Self { queue, stats: Arc::default(), is_lost }, items)
    }

    /// Queues a write. `reply` is called exactly once with the result: on the ledger's thread, or on the caller's if
    /// the queue is full. A write that still waits at `deadline` is not run and gets `NotStored`.
    pub fn submit<W: Write>(
        &self,
        write: W,
        deadline: Instant,
        reply: impl FnOnce(Result<W::Out, WriteError>) + Send + 'static,
    ) {
        let entry = Box::new(Job { write, out: None, deadline, reply: Some(Box::new(reply)) });
        self.stats.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) =
            self.queue.try_send(Item::Write(entry))
        {
            self.stats.queued.fetch_sub(1, Ordering::Relaxed);
            self.stats.overflows.inc();
            if let Item::Write(entry) = refused {
                entry.answer(Err(WriteError::NotStored));
            }
        }
    }

    /// Makes the writer handle what is queued and then end. Blocks while the queue is full.
    pub(super) fn send_stop(&self) {
        // Fails only if the writer has ended already.
        let _ = self.queue.send(Item::Stop);
    }

    /// Queues a write at once, before the future is polled, and waits for its result.
    ///
    /// # Errors
    /// [`WriteError`]; `Unknown` also if there is no result shortly after the timeout.
    pub fn write<W: Write>(
        &self,
        write: W,
        timeout: Duration,
    ) -> impl Future<Output = Result<W::Out, WriteError>> + Send + use<W> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.submit(write, Instant::now() + timeout, move |result| {
            let _ = sender.send(result);
        });
        // At the deadline a queued write is dropped. One that is being committed gets a little longer.
        async move {
            match tokio::time::timeout(timeout + Duration::from_millis(600), receiver).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Err(WriteError::Unknown),
            }
        }
    }

    /// Whether the database file is lost: a restart would not find what is stored, so facts remembered from it do not
    /// hold.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Whether writes are failing. Logs the recovery if the outage is over by now.
    pub(crate) fn is_failing(&self) -> bool {
        log_recovery(self.stats.outage.take_ended(Instant::now));
        self.stats.outage.is_ongoing()
    }

    /// Average time per write in the latest large transactions; zero before the first one.
    pub fn time_per_write(&self) -> Duration {
        Duration::from_nanos(self.stats.ns_per_write.load(Ordering::Relaxed))
    }

    /// The figures now.
    pub fn figures(&self) -> LedgerFigures {
        let stats = &self.stats;
        LedgerFigures {
            queued: stats.queued.load(Ordering::Relaxed),
            overflows: stats.overflows.get(),
            expired: stats.expired.get(),
            commits: stats.commit_entries.count(),
            failures: stats.failures.get(),
            entries: stats.commit_entries.sum(),
            last_commit_us: stats.last_commit_us.load(Ordering::Relaxed),
            largest_batch: stats.largest_batch.load(Ordering::Relaxed),
            failing: stats.failing.load(Ordering::Relaxed),
            open_fanouts: stats.open_fanouts.load(Ordering::Relaxed),
        }
    }
}

impl Ledger {
    /// Adds the ledger's figures to the metrics.
    pub(crate) fn register(&self, to: &mut Registry) {
        let stats = &self.stats;
        let read = |figure: fn(&LedgerStats) -> u64| {
            let stats = Arc::clone(stats);
            ReadGauge::new(move || figure(&stats))
        };
        let queued = read(|stats| stats.queued.load(Ordering::Relaxed) as u64);
        to.register("ledger_queue", "Writes that wait for the ledger", queued);
        let failing = read(|stats| stats.failing.load(Ordering::Relaxed).into());
        to.register("ledger_failing", "1 after a failed transaction, until one writes something again", failing);
        let open = read(|stats| stats.open_fanouts.load(Ordering::Relaxed) as u64);
        to.register("fan_outs_open", "Fan-outs of this node with users who have no alarm yet", open);
        to.register("fan_out_chunks", "Chunks of fan-outs written", stats.fanout_chunks.clone());
        to.register("ledger_overflows", "Writes refused because the queue was full", stats.overflows.clone());
        to.register("ledger_expired", "Writes dropped after their deadline", stats.expired.clone());
        to.register("ledger_failures", "Transactions that failed", stats.failures.clone());
        to.register("ledger_commit_entries", "Writes in each transaction", stats.commit_entries.clone());
        let help = "Time of each transaction that wrote something, from its begin to the end of its commit";
        to.register("ledger_commit_seconds", help, stats.commit_time.clone());
    }
}

/// Logs that an outage of writes is over, if it is.
pub(super) fn log_recovery(over: Option<OutageReport>) {
    if let Some(over) = over {
        log::info!(failures = over.failures, lasted_s = over.lasted_s(); "writes to the database work again");
    }
}

/// A queued write of any type.
pub(super) trait Entry: Send {
    fn deadline(&self) -> Instant;
    fn goods(&self) -> Option<GoodsId>;
    fn weight(&self) -> Option<usize>;
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, outcome: Result<(), WriteError>);
}

/// Called with the result of a write.
type Reply<T> = Box<dyn FnOnce(Result<T, WriteError>) + Send>;

/// A queued write with its deadline and its reply.
struct Job<W: Write> {
    write: W,
    /// Result of the last run; its sender gets it only after the commit.
    out: Option<W::Out>,
    deadline: Instant,
    reply: Option<Reply<W::Out>>,
}

impl<W: Write> Entry for Job<W> {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn goods(&self) -> Option<GoodsId> {
        self.write.goods()
    }

    fn weight(&self) -> Option<usize> {
        self.write.weight()
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.out = Some(self.write.run(tx)?);
        Ok(())
    }

    fn answer(mut self: Box<Self>, outcome: Result<(), WriteError>) {
        let result = match (outcome, self.out.take()) {
            (Ok(()), Some(out)) => Ok(out),
            (Ok(()), None) => Err(WriteError::NotStored),
            (Err(error), _) => Err(error),
        };
        if let Some(reply) = self.reply.take() {
            reply(result);
        }
    }
}

impl<W: Write> Drop for Job<W> {
    /// Answers an entry that is dropped without an answer, as when the ledger's thread dies, so that nobody waits for
    /// ever.
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply(Err(WriteError::Unknown));
        }
    }
}
