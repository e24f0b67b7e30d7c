//! The way to the ledger, the one writer: what a write is, how it is handed in and answered, and the figures.
//!
//! The writer's own thread is in `writer.rs`, what each write does in `writes/`.

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
    outage::{Failing, Outage},
};

/// Entries that may wait; beyond, a write is answered `NotStored` at once.
const QUEUE: usize = 4096;

/// One thing to write. May be run again after a rollback, so it must not keep what it did.
pub trait Write: Send + 'static {
    /// What its sender learns after the commit.
    type Out: Send + 'static;

    /// The goods that it will read, if it is known before.
    fn goods(&self) -> Option<GoodsId> {
        None
    }

    /// How many things it writes, where many are handed in as one; `None` if they are not such as others wait for, and the
    /// ledger's pace can't be told by them.
    fn weight(&self) -> Option<usize> {
        Some(1)
    }

    /// Does it inside the ledger's transaction.
    ///
    /// # Errors
    /// A failed statement: the batch is rolled back and its entries are tried singly.
    fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError>;
}

/// Figures for the health endpoint.
#[derive(Debug, Default)]
pub struct LedgerStats {
    pub(super) queued: AtomicUsize,
    overflows: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) last_commit_us: AtomicU64,
    pub(super) largest_batch: AtomicUsize,
    pub(super) failing: AtomicBool,
    pub(super) open_fanouts: AtomicUsize,
    pub(super) ns_each: AtomicU64,
    /// Of writes.
    pub(super) outage: Outage,
}

/// A reading of the ledger's figures.
#[derive(Debug, Clone, Copy)]
pub struct LedgerFigures {
    /// Entries waiting.
    pub queued: usize,
    /// Entries refused because the queue was full.
    pub overflows: u64,
    /// Entries dropped because their deadline had passed.
    pub expired: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Transactions that failed.
    pub failures: u64,
    /// Entries committed.
    pub entries: u64,
    /// How long the last transaction took, begin to commit, in µs.
    pub last_commit_us: u64,
    /// Most entries of one transaction so far.
    pub largest_batch: usize,
    /// The last transaction failed.
    pub failing: bool,
    /// Large audiences not yet all served.
    pub open_fanouts: usize,
}

/// Who is told of what has been committed: called on the ledger's thread, in commit order, before the answers.
pub type Observer = Box<dyn Fn(Vec<Committed>) + Send>;

/// The way to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    queue: SyncSender<Item>,
    stats: Arc<LedgerStats>,
    is_lost: Arc<AtomicBool>,
}

/// What the writer finds in its queue.
pub(super) enum Item {
    Write(Box<dyn Entry>),
    /// Everything before it is done, nothing after it.
    Stop,
}

impl Ledger {
    /// A way to a writer that is yet to be started on the receiving end.
    pub(super) fn channel(is_lost: Arc<AtomicBool>) -> (Self, Receiver<Item>, Arc<LedgerStats>) {
        let (queue, items) = sync_channel(QUEUE);
        let stats = Arc::new(LedgerStats::default());
        (Self { queue, stats: Arc::clone(&stats), is_lost }, items, stats)
    }

    /// Hands a write in; `reply` is called on the ledger's thread with what became of it, exactly once.
    /// A write that is still waiting at `deadline` is dropped unjudged.
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
            self.stats.overflows.fetch_add(1, Ordering::Relaxed);
            if let Item::Write(entry) = refused {
                entry.answer(Err(WriteError::NotStored));
            }
        }
    }

    /// Tells the writer to finish what is queued and end. Blocks while the queue is full.
    pub(super) fn send_stop(&self) {
        // An error means that the writer has ended already.
        let _ = self.queue.send(Item::Stop);
    }

    /// Hands a write in at once, and waits for what became of it.
    ///
    /// # Errors
    /// [`WriteError`]; `Unknown` also when nothing is heard until shortly after the deadline.
    pub fn write<W: Write>(
        &self,
        write: W,
        patience: Duration,
    ) -> impl Future<Output = Result<W::Out, WriteError>> + Send + use<W> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.submit(write, Instant::now() + patience, move |result| {
            let _ = tell.send(result);
        });
        // The deadline drops what still waits; what is being committed gets a little longer.
        async move {
            match tokio::time::timeout(patience + Duration::from_millis(600), told).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Err(WriteError::Unknown),
            }
        }
    }

    /// Whether a restart would not find what is stored: not even what is remembered of it holds then.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Whether writes have failed and have not been seen to succeed since. If they do by now, the log says so.
    pub(crate) fn is_failing(&self) -> bool {
        say_written(self.stats.outage.ended(Instant::now));
        self.stats.outage.is_out()
    }

    /// What one write takes of a transaction that has many of them, on average of the last ones; zero before the first.
    pub fn time_each(&self) -> Duration {
        Duration::from_nanos(self.stats.ns_each.load(Ordering::Relaxed))
    }

    /// The figures now.
    pub fn figures(&self) -> LedgerFigures {
        let stats = &self.stats;
        LedgerFigures {
            queued: stats.queued.load(Ordering::Relaxed),
            overflows: stats.overflows.load(Ordering::Relaxed),
            expired: stats.expired.load(Ordering::Relaxed),
            commits: stats.commits.load(Ordering::Relaxed),
            failures: stats.failures.load(Ordering::Relaxed),
            entries: stats.entries.load(Ordering::Relaxed),
            last_commit_us: stats.last_commit_us.load(Ordering::Relaxed),
            largest_batch: stats.largest_batch.load(Ordering::Relaxed),
            failing: stats.failing.load(Ordering::Relaxed),
            open_fanouts: stats.open_fanouts.load(Ordering::Relaxed),
        }
    }
}

pub(super) fn say_written(over: Option<Failing>) {
    if let Some(over) = over {
        log::info!("the database is written again after {}", over.in_all());
    }
}

/// A write on its way, its type erased.
pub(super) trait Entry: Send {
    fn deadline(&self) -> Instant;
    fn goods(&self) -> Option<GoodsId>;
    fn weight(&self) -> Option<usize>;
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, fate: Result<(), WriteError>);
}

type Reply<T> = Box<dyn FnOnce(Result<T, WriteError>) + Send>;

struct Job<W: Write> {
    write: W,
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

    fn answer(mut self: Box<Self>, fate: Result<(), WriteError>) {
        let result = match (fate, self.out.take()) {
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
    /// Nobody waits for ever: an entry that is lost on the way (the ledger's thread died) is answered all the same.
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply(Err(WriteError::Unknown));
        }
    }
}
