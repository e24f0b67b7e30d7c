//! The ledger's thread. It takes up to 256 entries from the queue, runs them in one transaction, commits, passes the
//! changes to the commit listener, and only then answers the entries. So one fdatasync serves many writes (group
//! commit), and no write waits for others to arrive.
//!
//! If a statement fails, only its own entry is lost: the transaction is rolled back, and each entry is tried in one of
//! its own. If a COMMIT fails, the commit marker shows whether the transaction is on disk. If even that cannot be read,
//! the transaction is *in doubt*: its entries get `Unknown`, and its outcome is looked up before anything else is
//! written.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use diesel::connection::SimpleConnection;

use super::{
    OpenedStore, StoreError, WriteError,
    engine::{
        DbConn, begin_write,
        url::{DatabaseLock, DatabaseUrl},
    },
    ledger::{CommitListener, Entry, Item, Ledger, LedgerStats, log_recovery},
    tx::{LedgerRules, Tx, commit_marker::CommitMarker, flush::Effects},
    writes::fan_out,
};
use crate::{
    domain::{EventId, GoodsId},
    time_source::TimeSource,
};

/// Entries in one transaction.
const BATCH_LIMIT: usize = 256;
/// Time between the beginnings of two fan-out chunks, which makes 125,000 users a second. Without it, chunks would come
/// as fast as the disk allows: faster than the workers can write frames and read pongs, so that every bid would queue
/// behind thousands of sessions that were woken before it.
const CHUNK_INTERVAL: Duration = Duration::from_millis(8);
/// Fan-outs that share one chunk.
const CHUNK_FANOUTS_LIMIT: usize = 4;
/// Writes that a transaction needs to count for the pace estimate.
const PACE_WRITES_MIN: usize = 32;
/// How often an idle writer checks that its database file is still in place.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long fan-outs and the look-up of a transaction in doubt wait after a failed transaction.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The writer's thread. [`stop`](LedgerThread::stop) ends it after what is queued.
pub struct LedgerThread {
    ledger: Ledger,
    thread: JoinHandle<()>,
}

impl OpenedStore {
    /// Starts the node's one writer, which continues the fan-outs that an earlier run left unfinished. `listener` is
    /// called with everything that is committed; `soft_close_ms` is `auction.soft_close_s`, in milliseconds.
    ///
    /// # Errors
    /// The database can't be opened, or the thread can't be started.
    pub fn start_ledger(
        self,
        soft_close_ms: i64,
        time: Arc<dyn TimeSource>,
        listener: Box<dyn CommitListener>,
    ) -> Result<LedgerThread, StoreError> {
        let Self { ledger, entries, url, lock, sharing, .. } = self;
        let mut conn = url.connect_writer()?;
        // PostgreSQL may still be finishing the COMMIT of a node that was killed. This transaction waits for it, so
        // that everything read from now on includes it.
        begin_write(&mut conn)?;
        let marker = CommitMarker::create(&mut conn, time.now())?;
        conn.batch_execute("COMMIT")?;
        let fanouts = fan_out::unfinished(&mut conn)?;
        ledger.stats.open_fanouts.store(fanouts.len(), Ordering::Relaxed);
        let mut writer = Writer {
            url,
            lock,
            conn: Some(conn),
            marker,
            in_doubt: None,
            rules: LedgerRules { soft_close_ms, sharing },
            time,
            listener,
            stats: Arc::clone(&ledger.stats),
            fanouts,
            fanouts_resume: Instant::now(),
            single_fanout_turns: 0,
            stopping: false,
        };
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&entries))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(LedgerThread { ledger, thread })
    }
}

impl LedgerThread {
    /// A handle to the writer.
    #[cfg(feature = "test-support")]
    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// Whether the writer's thread is alive.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Makes the writer handle what is queued and waits for its end. Writes submitted later are not run.
    pub fn stop(self) {
        self.ledger.send_stop();
        if self.thread.join().is_err() {
            log::error!("the ledger's thread panicked");
        }
    }
}

/// The entries of one transaction.
type Batch = Vec<Box<dyn Entry>>;

/// State of the ledger's thread.
struct Writer {
    url: DatabaseUrl,
    /// `None` after a failure that leaves its state unclear; the next transaction then opens a new one.
    conn: Option<DbConn>,
    /// Marker of the last transaction that is certainly on disk.
    marker: CommitMarker,
    /// A transaction whose commit failed and whose outcome could not be looked up yet.
    in_doubt: Option<Effects>,
    rules: LedgerRules,
    time: Arc<dyn TimeSource>,
    listener: Box<dyn CommitListener>,
    stats: Arc<LedgerStats>,
    /// Unfinished fan-outs. A chunk is written at the end of a transaction, behind the bids.
    fanouts: Vec<EventId>,
    /// When the next chunk may be written.
    fanouts_resume: Instant,
    /// How many of the next chunks serve one fan-out each. Set after a failed transaction, so that a fan-out that
    /// always fails does not block the others.
    single_fanout_turns: usize,
    /// The stop item has been read; nothing queued after it is written.
    stopping: bool,
    /// Keeps other processes off the database. It is the last field, so that it is released only after the connection
    /// is closed, which moves everything into the one database file.
    lock: DatabaseLock,
}

/// Where a transaction failed.
enum Failure {
    /// At its beginning: the database is not available, so trying each entry would not help.
    Begin(StoreError),
    /// At a statement or at the commit; it is certainly rolled back.
    Statement(StoreError),
    /// At the commit, and its outcome could not be looked up.
    Commit(StoreError),
}

impl Writer {
    fn run(&mut self, items: &Receiver<Item>) {
        while !self.stopping {
            let fanouts = self.due_fanouts();
            let mut batch = Batch::new();
            match self.next(items, !fanouts.is_empty()) {
                Ok(Some(Item::Write(entry))) => batch.push(entry),
                Ok(Some(Item::Stop)) | Err(()) => return,
                Ok(None) => {}
            }
            self.stats.queued.fetch_sub(batch.len(), Ordering::Relaxed);
            self.drop_expired(&mut batch);
            // If a transaction is in doubt, an empty one looks up its outcome, even if nobody writes.
            if batch.is_empty() && fanouts.is_empty() && self.in_doubt.is_none() {
                // It logs a failure itself, and sets the flag that reads check.
                let _ = self.lock.check();
            } else {
                if !fanouts.is_empty() {
                    self.fanouts_resume = Instant::now() + CHUNK_INTERVAL;
                }
                self.write(batch, &fanouts, Some(items));
            }
        }
    }

    /// Adds waiting entries until the batch is full.
    fn fill(&mut self, batch: &mut Batch, items: &Receiver<Item>) {
        let before = batch.len();
        while batch.len() < BATCH_LIMIT && !self.stopping {
            match items.try_recv() {
                Ok(Item::Write(entry)) => batch.push(entry),
                Ok(Item::Stop) | Err(TryRecvError::Disconnected) => self.stopping = true,
                Err(TryRecvError::Empty) => break,
            }
        }
        self.stats.queued.fetch_sub(batch.len() - before, Ordering::Relaxed);
        self.drop_expired(batch);
    }

    /// Takes the next item. Returns `None` if there is other work to do first: at once if a chunk is due and the queue
    /// is empty, otherwise after a wait.
    fn next(&self, items: &Receiver<Item>, fanout_due: bool) -> Result<Option<Item>, ()> {
        if fanout_due {
            match items.try_recv() {
                Ok(item) => Ok(Some(item)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(()),
            }
        } else {
            let wait = match self.in_doubt {
                Some(_) => RETRY_PAUSE,
                None if self.fanouts.is_empty() => LOCK_CHECK_INTERVAL,
                None => self.fanouts_resume.saturating_duration_since(Instant::now()),
            };
            match items.recv_timeout(wait) {
                Ok(item) => Ok(Some(item)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(()),
            }
        }
    }

    /// Answers entries whose deadline has passed with `NotStored`, and removes them.
    fn drop_expired(&self, batch: &mut Batch) {
        let now = Instant::now();
        let (in_time, expired): (Batch, Batch) = batch.drain(..).partition(|entry| now < entry.deadline());
        *batch = in_time;
        self.stats.expired.inc_by(expired.len() as u64);
        for entry in expired {
            entry.answer(Err(WriteError::NotStored));
        }
    }

    /// Writes a batch in one transaction, which entries waiting in `more` join, and answers its entries.
    fn write(&mut self, mut batch: Batch, fanouts: &[EventId], more: Option<&Receiver<Item>>) {
        match self.transact(&mut batch, fanouts, more) {
            Ok(effects) => self.complete(batch, effects),
            Err(Failure::Statement(error)) if batch.len() + fanouts.len() > 1 => {
                self.log_failure(&error);
                self.pause_fanouts();
                for entry in batch {
                    let mut single = vec![entry];
                    self.drop_expired(&mut single);
                    if !single.is_empty() {
                        self.write(single, &[], None);
                    }
                }
            }
            Err(failure) => {
                let (outcome, error) = match failure {
                    Failure::Begin(error) | Failure::Statement(error) => (WriteError::NotStored, error),
                    Failure::Commit(error) => (WriteError::Unknown, error),
                };
                self.log_failure(&error);
                self.stats.failures.inc();
                self.stats.failing.store(true, Ordering::Relaxed);
                self.pause_fanouts();
                for entry in batch {
                    entry.answer(Err(outcome));
                }
            }
        }
    }

    /// Logs a failure as part of the current outage, however often and wherever writes fail.
    fn log_failure(&self, error: &StoreError) {
        // The check that found the database lost has logged it.
        if !matches!(error, StoreError::Lost(_))
            && let Some(failing) = self.stats.outage.record_failure(Instant::now())
        {
            let (failures, lasted_s) = (failing.failures, failing.lasted_s());
            log::error!(failures, lasted_s, error:%; "writes to the database fail");
        }
    }

    /// Delays fan-outs after a failure, so that bids come first. Rotates them, so that one that fails does not block
    /// others.
    fn pause_fanouts(&mut self) {
        self.fanouts_resume = Instant::now() + RETRY_PAUSE;
        self.single_fanout_turns = self.fanouts.len();
        if !self.fanouts.is_empty() {
            self.fanouts.rotate_left(1);
        }
    }

    /// The fan-outs that get the next chunk; none if it is not due yet. Several share a chunk, because auctions that
    /// start together often have the same likers, whose sockets are then written to once.
    fn due_fanouts(&self) -> Vec<EventId> {
        let limit = if self.single_fanout_turns > 0 { 1 } else { CHUNK_FANOUTS_LIMIT };
        let is_due = Instant::now() >= self.fanouts_resume;
        self.fanouts.iter().take(if is_due { limit } else { 0 }).copied().collect()
    }

    /// Moves the first `served` fan-outs, which just had a chunk, behind the others, and removes finished ones.
    fn advance_fanouts(&mut self, served: usize, finished: &[EventId]) {
        if served > 0 {
            self.single_fanout_turns = self.single_fanout_turns.saturating_sub(1);
            self.fanouts.rotate_left(served);
            self.fanouts.retain(|event| !finished.contains(event));
        }
    }

    /// Adds the fan-outs of a committed transaction and passes its changes to the listener.
    fn publish(&mut self, effects: Effects) {
        if self.fanouts.is_empty() && !effects.fanouts.is_empty() {
            // Their first users were a chunk as well. The wait also lets other fan-outs of the same moment begin, so
            // that all of them start level and share every chunk.
            self.fanouts_resume = self.fanouts_resume.max(Instant::now() + CHUNK_INTERVAL);
        }
        for event in effects.fanouts {
            if !self.fanouts.contains(&event) {
                self.fanouts.push(event);
            }
        }
        self.stats.open_fanouts.store(self.fanouts.len(), Ordering::Relaxed);
        if !effects.committed.is_empty() {
            self.listener.on_commit(effects.committed);
        }
    }

    /// Looks up the outcome of the transaction in doubt, if there is one. If it is on disk, publishes it now.
    fn resolve_in_doubt(&mut self, conn: &mut DbConn) -> Result<(), StoreError> {
        let Some(marker) = self.in_doubt.as_ref().and_then(|effects| effects.marker) else { return Ok(()) };
        let is_stored = marker.is_stored(conn)?;
        if let Some(effects) = self.in_doubt.take()
            && is_stored
        {
            log::warn!("a commit that seemed to fail is stored after all");
            self.marker = marker;
            self.publish(effects);
        }
        Ok(())
    }

    /// Publishes a committed transaction and answers its entries.
    fn complete(&mut self, batch: Batch, effects: Effects) {
        if let Some(marker) = effects.marker {
            self.marker = marker;
            // Only a transaction that wrote something shows that writes work.
            self.stats.failing.store(false, Ordering::Relaxed);
            log_recovery(self.stats.outage.record_success(Instant::now));
        }
        self.stats.commit_entries.observe_size(batch.len());
        self.stats.largest_batch.fetch_max(batch.len(), Ordering::Relaxed);
        self.publish(effects);
        for entry in batch {
            entry.answer(Ok(()));
        }
    }

    /// Looks up on a new connection whether a transaction is stored whose COMMIT failed with `error`.
    fn commit_outcome(&mut self, marker: Option<CommitMarker>, error: StoreError) -> Result<(), Failure> {
        let Some(marker) = marker else { return Err(Failure::Commit(error)) };
        let looked_up = self.url.connect_writer().and_then(|mut conn| Ok((marker.is_stored(&mut conn)?, conn)));
        match looked_up {
            Ok((is_stored, conn)) => {
                self.conn = Some(conn);
                if is_stored { Ok(()) } else { Err(Failure::Statement(error)) }
            }
            Err(_) => Err(Failure::Commit(error)),
        }
    }

    /// Begins a transaction and returns its connection. If the connection was lost since the last transaction, opens a
    /// new one, so that no entry fails for it.
    fn begin(&mut self) -> Result<DbConn, StoreError> {
        // Taken out, so that a connection in an unclear state is not used again.
        if let Some(mut conn) = self.conn.take() {
            match self.resolve_in_doubt(&mut conn).and_then(|()| begin_write(&mut conn)) {
                Ok(()) => return Ok(conn),
                // Another process holds the lock: a new connection would have to wait as well.
                Err(error) if matches!(conn, DbConn::Sqlite(_)) => return Err(error),
                Err(error) if conn.batch_execute("ROLLBACK").is_ok() => {
                    self.conn = Some(conn);
                    return Err(error);
                }
                // The connection is lost; a new one may work at once.
                Err(error) => self.log_failure(&error),
            }
        }
        let mut conn = self.url.connect_writer()?;
        self.resolve_in_doubt(&mut conn)?;
        begin_write(&mut conn)?;
        Ok(conn)
    }

    /// Updates the pace estimate, a moving average in which the newest large transaction counts one eighth.
    fn record_pace(&self, took: Duration, writes: usize) {
        if writes >= PACE_WRITES_MIN {
            let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / writes as u64;
            let before = self.stats.ns_per_write.load(Ordering::Relaxed);
            let now = if before == 0 { ns } else { before - before / 8 + ns / 8 };
            self.stats.ns_per_write.store(now, Ordering::Relaxed);
        }
    }

    /// Runs one transaction: begins it, fills the batch, runs the entries and then the fan-outs, and commits.
    fn transact(
        &mut self,
        batch: &mut Batch,
        fanouts: &[EventId],
        more: Option<&Receiver<Item>>,
    ) -> Result<Effects, Failure> {
        let begun = Instant::now();
        let conn = self.lock.check().and_then(|()| self.begin());
        // The batch is filled only now: with other nodes, beginning may take long, and entries that arrived meanwhile
        // can join this transaction. If it could not begin, they are answered at once.
        if let Some(items) = more {
            self.fill(batch, items);
        }
        let mut conn = conn.map_err(Failure::Begin)?;
        let now = self.time.now();
        let (marker, rules) = (self.marker, self.rules);
        let goods: Vec<GoodsId> = batch.iter().filter_map(|entry| entry.goods()).collect();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut tx = Tx::new(&mut conn, marker, now, rules);
            tx.preload_goods(&goods)?;
            for entry in batch.iter_mut() {
                entry.run(&mut tx)?;
            }
            let mut finished = Vec::new();
            for event in fanouts {
                if fan_out::step(&mut tx, *event, fan_out::CHUNK_LIMIT / fanouts.len())? {
                    finished.push(*event);
                }
            }
            Ok((tx.finish()?, finished))
        }))
        .unwrap_or(Err(StoreError::Panicked));
        match result {
            Ok((effects, finished)) => {
                let effects = self.commit(conn, effects)?;
                let took = begun.elapsed();
                if effects.marker.is_some() {
                    self.stats.commit_time.observe(took);
                    self.stats.last_commit_us.store(took.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
                }
                if !fanouts.is_empty() {
                    self.stats.fanout_chunks.inc();
                }
                if fanouts.is_empty()
                    && let Some(writes) = batch.iter().map(|entry| entry.weight()).sum()
                {
                    self.record_pace(took, writes);
                }
                self.advance_fanouts(fanouts.len(), &finished);
                Ok(effects)
            }
            Err(error) => {
                // A connection that cannot roll back is dropped, which also ends the transaction.
                if conn.batch_execute("ROLLBACK").is_ok() {
                    self.conn = Some(conn);
                }
                Err(Failure::Statement(error))
            }
        }
    }

    /// Commits the open transaction. An outcome that can't be learned now is looked up before the next transaction.
    fn commit(&mut self, mut conn: DbConn, effects: Effects) -> Result<Effects, Failure> {
        match conn.batch_execute("COMMIT") {
            Ok(()) => {
                // Committed to a file that a restart would not find. If it comes back, the outcome is looked up.
                if let Err(lost) = self.lock.check() {
                    self.in_doubt = effects.marker.is_some().then_some(effects);
                    return Err(Failure::Commit(lost));
                }
                self.conn = Some(conn);
            }
            Err(error) => {
                // Closing the connection ends the transaction, if it is still open.
                drop(conn);
                if let Err(failure) = self.commit_outcome(effects.marker, error.into()) {
                    if matches!(failure, Failure::Commit(_)) && effects.marker.is_some() {
                        self.in_doubt = Some(effects);
                    }
                    return Err(failure);
                }
            }
        }
        Ok(effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::{Sharing, Store, writes::Probe},
        time_source::SystemTime,
    };

    fn writer(folder: &tempfile::TempDir) -> Writer {
        let url = DatabaseUrl::parse(&format!("sqlite://{}", folder.path().join("x.db").display())).unwrap();
        drop(Store::open(&url, 1).unwrap());
        let marker = CommitMarker::create(&mut url.connect_writer().unwrap(), SystemTime.now()).unwrap();
        Writer {
            lock: url.lock(Sharing::Exclusive).unwrap(),
            url,
            conn: None,
            marker,
            in_doubt: None,
            rules: LedgerRules { soft_close_ms: 0, sharing: Sharing::Exclusive },
            time: Arc::new(SystemTime),
            listener: Box::new(|_| {}),
            stats: Arc::default(),
            fanouts: Vec::new(),
            fanouts_resume: Instant::now(),
            single_fanout_turns: 0,
            stopping: false,
        }
    }

    fn failed() -> StoreError {
        StoreError::Unavailable("the commit seemed to fail".to_owned())
    }

    #[test]
    fn a_transaction_in_doubt_is_published_once_and_only_if_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder);
        let published = Arc::new(std::sync::Mutex::new(Vec::new()));
        let observed = Arc::clone(&published);
        writer.listener = Box::new(move |changes| observed.lock().unwrap().extend(changes));
        let user = crate::domain::User::first_seen(crate::domain::UserId::from_stored(7), None, None);
        let mut conn = writer.url.connect_writer().unwrap();
        let effects = |marker| Effects {
            marker: Some(marker),
            committed: vec![crate::store::Committed::UserChanged(user.clone())],
            fanouts: Vec::new(),
        };
        let stored = writer.marker.next();
        stored.write(&mut conn).unwrap();
        writer.in_doubt = Some(effects(stored));
        writer.resolve_in_doubt(&mut conn).unwrap();
        assert_eq!(published.lock().unwrap().len(), 1);
        assert_eq!(writer.marker, stored, "the next transaction continues from there");
        writer.resolve_in_doubt(&mut conn).unwrap();
        assert_eq!(published.lock().unwrap().len(), 1, "once");
        writer.in_doubt = Some(effects(stored.next()));
        writer.resolve_in_doubt(&mut conn).unwrap();
        assert_eq!(published.lock().unwrap().len(), 1, "it was rolled back");
        assert!(writer.in_doubt.is_none());
    }

    #[test]
    fn a_failed_commit_counts_as_stored_only_if_its_marker_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder);
        writer.stats.failing.store(true, Ordering::Relaxed);
        let (ledger, items) = Ledger::channel(Arc::default());
        ledger.submit(Probe::after_failure(), Instant::now() + Duration::from_secs(5), |_| {});
        let Ok(Item::Write(entry)) = items.recv() else { panic!("it was submitted") };
        let Ok(effects) = writer.transact(&mut vec![entry], &[], None) else { panic!("it is written") };
        let written = effects.marker.expect("it wrote a marker");
        assert!(writer.commit_outcome(Some(written), failed()).is_ok(), "it is on disk");
        let another = writer.commit_outcome(Some(written.next()), failed());
        assert!(matches!(another, Err(Failure::Statement(_))), "it is not on disk");
        assert!(
            matches!(writer.commit_outcome(None, failed()), Err(Failure::Commit(_))),
            "without a marker the outcome is unknown"
        );
        writer.conn = None;
        drop(writer.url.lock(Sharing::Exclusive));
        std::fs::remove_dir_all(folder.path()).unwrap();
        std::fs::write(folder.path(), "in the way").unwrap();
        assert!(
            matches!(writer.commit_outcome(Some(written), failed()), Err(Failure::Commit(_))),
            "the database cannot be opened"
        );
        std::fs::remove_file(folder.path()).unwrap();
    }
}
