//! The ledger's thread: takes what waits in the queue, does it in one transaction, commits, and only then answers.
//! One fdatasync serves up to 256 writes (group commit), without any artificial delay.
//!
//! A failed statement costs only its own entry: after the rollback the entries are tried singly. After a failed commit
//! the writer's mark tells what became of it.

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
    StoreError, WriteError,
    engine::{DatabaseUrl, DbConn, OwnLock, begin_write},
    ledger::{Entry, Item, Ledger, LedgerStats, Observer, say_written},
    tx::{Effects, LedgerRules, Tx, commit_marker::CommitMarker},
    writes::fan_out,
};
use crate::{
    domain::{EventId, GoodsId},
    time_source::TimeSource,
};

/// Most entries of one transaction.
const BATCH: usize = 256;
/// From the begin of one fan-out's chunk to the next: 125,000 users a second. As fast as the disk allows, chunks would
/// come faster than the workers can write frames and hear their pongs, and every bid would queue behind the thousands of
/// sessions that have been woken before it.
const CHUNK_EVERY: Duration = Duration::from_millis(8);
/// Most fan-outs that share a chunk.
const FANOUTS_AT_ONCE: usize = 4;
/// Writes of a transaction from which its pace can be told.
const MANY: usize = 32;
/// How often an idle writer looks whether its database is still there.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a fan-out waits after a failed transaction.
const PAUSE: Duration = Duration::from_millis(200);

/// The writer's thread; [`stop`](LedgerThread::stop) lets it finish what is queued.
pub struct LedgerThread {
    ledger: Ledger,
    thread: JoinHandle<()>,
}

impl LedgerThread {
    /// Starts the writer on a migrated database; it goes on with the fan-outs that an earlier run left open.
    ///
    /// # Errors
    /// The database can't be opened, or the thread can't be started.
    pub(super) fn start(
        url: DatabaseUrl,
        lock: OwnLock,
        rules: LedgerRules,
        time: Arc<dyn TimeSource>,
        observer: Observer,
    ) -> Result<Self, StoreError> {
        let mut conn = url.connect_writer()?;
        // A node killed in the middle of a COMMIT may still be served by its server: what the house is going to read
        // has to be read behind that.
        begin_write(&mut conn)?;
        let mark = CommitMarker::begin(&mut conn, time.now())?;
        conn.batch_execute("COMMIT")?;
        let fanouts = fan_out::open_ones(&mut conn)?;
        let (ledger, items, stats) = Ledger::channel(lock.is_lost());
        stats.open_fanouts.store(fanouts.len(), Ordering::Relaxed);
        let mut writer = Writer {
            url,
            lock,
            conn: Some(conn),
            mark,
            doubt: None,
            rules,
            time,
            observer,
            stats,
            fanouts,
            fanouts_resume: Instant::now(),
            fanouts_apart: 0,
            stopping: false,
        };
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.work(&items))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { ledger, thread })
    }

    /// The way to the writer.
    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// Whether the writer is there.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Lets the writer finish what is queued and waits for it. What comes later is not stored, and told so.
    pub fn stop(self) {
        self.ledger.send_stop();
        if self.thread.join().is_err() {
            log::error!("the ledger's thread had panicked");
        }
    }
}

type Batch = Vec<Box<dyn Entry>>;

struct Writer {
    url: DatabaseUrl,
    /// None after a failure that leaves the connection in doubt; the next transaction opens a new one.
    conn: Option<DbConn>,
    /// How far this writer has come.
    mark: CommitMarker,
    /// A transaction whose commit failed and whose fate could not be learned. Looked up before anything else is written.
    doubt: Option<Effects>,
    rules: LedgerRules,
    time: Arc<dyn TimeSource>,
    observer: Observer,
    stats: Arc<LedgerStats>,
    /// Large audiences that are not all served: a chunk goes with each transaction, behind the bids.
    fanouts: Vec<EventId>,
    fanouts_resume: Instant,
    /// A transaction has failed: so many fan-outs have their turn alone, so that one that can't go on doesn't hold up the
    /// others.
    fanouts_apart: usize,
    /// What is queued behind this isn't written any more.
    stopping: bool,
    /// The database is this process's own for as long as the writer lives. The last field: given back only when the
    /// connection is closed, which brings everything into the one file.
    lock: OwnLock,
}

/// How far a failed transaction came.
enum Failure {
    /// The database itself: no use in trying each entry.
    Begin(StoreError),
    /// One of the entries, or the commit; rolled back for certain.
    Statement(StoreError),
    /// The commit, and what became of it could not be learned.
    Commit(StoreError),
}

impl Writer {
    fn work(&mut self, items: &Receiver<Item>) {
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
            // In doubt, an empty transaction looks up what became of the last one, also when nobody writes.
            if batch.is_empty() && fanouts.is_empty() && self.doubt.is_none() {
                // What is wrong is said in the log, and kept for whoever reads.
                let _ = self.lock.look();
            } else {
                if !fanouts.is_empty() {
                    self.fanouts_resume = Instant::now() + CHUNK_EVERY;
                }
                self.write(batch, &fanouts, Some(items));
            }
        }
    }

    /// Adds what waits in the queue, as far as one transaction may have it.
    fn join(&mut self, batch: &mut Batch, items: &Receiver<Item>) {
        let before = batch.len();
        while batch.len() < BATCH && !self.stopping {
            match items.try_recv() {
                Ok(Item::Write(entry)) => batch.push(entry),
                Ok(Item::Stop) | Err(TryRecvError::Disconnected) => self.stopping = true,
                Err(TryRecvError::Empty) => break,
            }
        }
        self.stats.queued.fetch_sub(batch.len() - before, Ordering::Relaxed);
        self.drop_expired(batch);
    }

    /// The next item; `None` at once if a fan-out step is due and nothing waits, or when something else is to be done.
    fn next(&self, items: &Receiver<Item>, fanout_due: bool) -> Result<Option<Item>, ()> {
        if fanout_due {
            match items.try_recv() {
                Ok(item) => Ok(Some(item)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(()),
            }
        } else {
            let wait = match self.doubt {
                Some(_) => PAUSE,
                None if self.fanouts.is_empty() => LOOK_EVERY,
                None => self.fanouts_resume.saturating_duration_since(Instant::now()),
            };
            match items.recv_timeout(wait) {
                Ok(item) => Ok(Some(item)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(()),
            }
        }
    }

    fn drop_expired(&self, batch: &mut Batch) {
        let now = Instant::now();
        let (in_time, expired): (Batch, Batch) = batch.drain(..).partition(|entry| now < entry.deadline());
        *batch = in_time;
        self.stats.expired.fetch_add(expired.len() as u64, Ordering::Relaxed);
        for entry in expired {
            entry.answer(Err(WriteError::NotStored));
        }
    }

    /// One transaction, which what waits in `more` joins.
    fn write(&mut self, mut batch: Batch, fanouts: &[EventId], more: Option<&Receiver<Item>>) {
        match self.transact(&mut batch, fanouts, more) {
            Ok(effects) => self.done(batch, effects),
            Err(Failure::Statement(error)) if batch.len() + fanouts.len() > 1 => {
                self.say_failed(&error);
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
                let (fate, error) = match failure {
                    Failure::Begin(error) | Failure::Statement(error) => (WriteError::NotStored, error),
                    Failure::Commit(error) => (WriteError::Unknown, error),
                };
                self.say_failed(&error);
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                self.stats.failing.store(true, Ordering::Relaxed);
                self.pause_fanouts();
                for entry in batch {
                    entry.answer(Err(fate));
                }
            }
        }
    }

    /// Whatever fails, and however often: it is one outage until it is over.
    fn say_failed(&self, error: &StoreError) {
        // Of a lost database it was said once.
        if !matches!(error, StoreError::Lost(_))
            && let Some(failing) = self.stats.outage.failed(Instant::now())
        {
            log::error!("writes to the database fail{failing}: {error}");
        }
    }

    /// After a failure: the bids come first, and if it was a fan-out's fault, the others get their turn.
    fn pause_fanouts(&mut self) {
        self.fanouts_resume = Instant::now() + PAUSE;
        self.fanouts_apart = self.fanouts.len();
        if !self.fanouts.is_empty() {
            self.fanouts.rotate_left(1);
        }
    }

    /// The fan-outs whose next chunk is due. Several at once share it: starts of one moment often have the same likers,
    /// whose sockets are then written to once.
    fn due_fanouts(&self) -> Vec<EventId> {
        let at_once = if self.fanouts_apart > 0 { 1 } else { FANOUTS_AT_ONCE };
        let is_due = Instant::now() >= self.fanouts_resume;
        self.fanouts.iter().take(if is_due { at_once } else { 0 }).copied().collect()
    }

    /// So many of the first fan-outs have had their turn, and these are done.
    fn served(&mut self, turns: usize, done: &[EventId]) {
        if turns > 0 {
            self.fanouts_apart = self.fanouts_apart.saturating_sub(1);
            // In turns: none stands still.
            self.fanouts.rotate_left(turns);
            self.fanouts.retain(|open| !done.contains(open));
        }
    }

    /// Tells the house what is on disk.
    fn publish(&mut self, effects: Effects) {
        if self.fanouts.is_empty() && !effects.fanouts.is_empty() {
            // Their first users were a chunk, too. And others that begin at this moment can join: they share all chunks
            // only if none is ahead.
            self.fanouts_resume = self.fanouts_resume.max(Instant::now() + CHUNK_EVERY);
        }
        for event in effects.fanouts {
            if !self.fanouts.contains(&event) {
                self.fanouts.push(event);
            }
        }
        self.stats.open_fanouts.store(self.fanouts.len(), Ordering::Relaxed);
        if !effects.committed.is_empty() {
            (self.observer)(effects.committed);
        }
    }

    /// Looks up what became of the transaction in doubt: if it is on disk after all, whoever it concerns is told now.
    fn settle_doubt(&mut self, conn: &mut DbConn) -> Result<(), StoreError> {
        let Some(mark) = self.doubt.as_ref().and_then(|effects| effects.mark) else { return Ok(()) };
        let is_stored = mark.is_stored(conn)?;
        if let Some(effects) = self.doubt.take()
            && is_stored
        {
            log::warn!("a commit that had failed is stored after all");
            self.mark = mark;
            self.publish(effects);
        }
        Ok(())
    }

    fn done(&mut self, batch: Batch, effects: Effects) {
        if let Some(mark) = effects.mark {
            self.mark = mark;
            // Something was written for certain; an empty transaction shows nothing.
            self.stats.failing.store(false, Ordering::Relaxed);
            say_written(self.stats.outage.worked(Instant::now));
        }
        self.stats.commits.fetch_add(1, Ordering::Relaxed);
        self.stats.entries.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.stats.largest_batch.fetch_max(batch.len(), Ordering::Relaxed);
        self.publish(effects);
        for entry in batch {
            entry.answer(Ok(()));
        }
    }

    /// What became of a commit that failed: looked up on a new connection.
    fn learn_fate(&mut self, mark: Option<CommitMarker>, error: StoreError) -> Result<(), Failure> {
        let Some(mark) = mark else { return Err(Failure::Commit(error)) };
        let looked_up = self.url.connect_writer().and_then(|mut conn| Ok((mark.is_stored(&mut conn)?, conn)));
        match looked_up {
            Ok((is_stored, conn)) => {
                self.conn = Some(conn);
                if is_stored { Ok(()) } else { Err(Failure::Statement(error)) }
            }
            Err(_) => Err(Failure::Commit(error)),
        }
    }

    /// A connection on which a transaction has begun. One that has been lost since the last time costs nobody anything.
    fn begin(&mut self) -> Result<DbConn, StoreError> {
        // Taken out, so that a connection in doubt is not used again.
        if let Some(mut conn) = self.conn.take() {
            match self.settle_doubt(&mut conn).and_then(|()| begin_write(&mut conn)) {
                Ok(()) => return Ok(conn),
                // Locked by somebody else: another connection would have to wait as well.
                Err(error) if matches!(conn, DbConn::Sqlite(_)) => return Err(error),
                Err(error) if conn.batch_execute("ROLLBACK").is_ok() => {
                    self.conn = Some(conn);
                    return Err(error);
                }
                // Another one may be had at once.
                Err(error) => self.say_failed(&error),
            }
        }
        let mut conn = self.url.connect_writer()?;
        self.settle_doubt(&mut conn)?;
        begin_write(&mut conn)?;
        Ok(conn)
    }

    /// Remembers what a write takes where many are written together: an eighth of each transaction that has many.
    fn learn_pace(&self, took: Duration, writes: usize) {
        if writes >= MANY {
            let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / writes as u64;
            let before = self.stats.ns_each.load(Ordering::Relaxed);
            let now = if before == 0 { ns } else { before - before / 8 + ns / 8 };
            self.stats.ns_each.store(now, Ordering::Relaxed);
        }
    }

    fn transact(
        &mut self,
        batch: &mut Batch,
        fanouts: &[EventId],
        more: Option<&Receiver<Item>>,
    ) -> Result<Effects, Failure> {
        let begun = Instant::now();
        let conn = self.lock.look().and_then(|()| self.begin());
        // Only now: beside other nodes the turn may be long in coming, and what has come meanwhile need not wait for
        // the next. If nothing can be written, all that waits hears so at once.
        if let Some(items) = more {
            self.join(batch, items);
        }
        let mut conn = conn.map_err(Failure::Begin)?;
        let now = self.time.now();
        let (mark, rules) = (self.mark, self.rules);
        let goods: Vec<GoodsId> = batch.iter().filter_map(|entry| entry.goods()).collect();
        let work = catch_unwind(AssertUnwindSafe(|| {
            let mut tx = Tx::new(&mut conn, mark, now, rules);
            tx.fetch_goods(&goods)?;
            for entry in batch.iter_mut() {
                entry.run(&mut tx)?;
            }
            let mut done = Vec::new();
            for event in fanouts {
                if fan_out::step(&mut tx, *event, fan_out::CHUNK / fanouts.len())? {
                    done.push(*event);
                }
            }
            Ok((tx.finish()?, done))
        }))
        .unwrap_or(Err(StoreError::Panicked));
        match work {
            Ok((effects, done)) => {
                match conn.batch_execute("COMMIT") {
                    Ok(()) => {
                        // Committed where a restart would not find it: if the file comes back, this will be looked up.
                        if let Err(lost) = self.lock.look() {
                            self.doubt = effects.mark.is_some().then_some(effects);
                            return Err(Failure::Commit(lost));
                        }
                        self.conn = Some(conn);
                    }
                    Err(error) => {
                        // Closing the connection ends whatever is left of the transaction.
                        drop(conn);
                        if let Err(failure) = self.learn_fate(effects.mark, error.into()) {
                            if matches!(failure, Failure::Commit(_)) && effects.mark.is_some() {
                                self.doubt = Some(effects);
                            }
                            return Err(failure);
                        }
                    }
                }
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                if effects.mark.is_some() {
                    self.stats.last_commit_us.store(micros, Ordering::Relaxed);
                }
                if fanouts.is_empty()
                    && let Some(writes) = batch.iter().map(|entry| entry.weight()).sum()
                {
                    self.learn_pace(begun.elapsed(), writes);
                }
                self.served(fanouts.len(), &done);
                Ok(effects)
            }
            Err(error) => {
                // A connection that can't roll back is dropped, which rolls back.
                if conn.batch_execute("ROLLBACK").is_ok() {
                    self.conn = Some(conn);
                }
                Err(Failure::Statement(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::{Store, writes::Probe},
        time_source::SystemTime,
    };

    fn writer(folder: &tempfile::TempDir) -> Writer {
        let url = DatabaseUrl::parse(&format!("sqlite://{}", folder.path().join("x.db").display())).unwrap();
        drop(Store::open(&url, 1).unwrap());
        let (_, _, stats) = Ledger::channel(Arc::default());
        let mark = CommitMarker::begin(&mut url.connect_writer().unwrap(), SystemTime.now()).unwrap();
        Writer {
            lock: url.lock(crate::store::Nodes::One).unwrap(),
            url,
            conn: None,
            mark,
            doubt: None,
            rules: LedgerRules { soft_close_ms: 0, several_writers: false },
            time: Arc::new(SystemTime),
            observer: Box::new(|_| {}),
            stats,
            fanouts: Vec::new(),
            fanouts_resume: Instant::now(),
            fanouts_apart: 0,
            stopping: false,
        }
    }

    fn failed() -> StoreError {
        StoreError::Unavailable("the commit seemed to fail".to_owned())
    }

    #[test]
    fn what_was_in_doubt_and_is_stored_is_told_before_anything_else_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder);
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        writer.observer = Box::new(move |all| tell.lock().unwrap().extend(all));
        let user = crate::domain::User::first_seen(crate::domain::UserId::from_stored(7), None, None);
        let mut conn = writer.url.connect_writer().unwrap();
        let in_doubt = |mark| Effects {
            mark: Some(mark),
            committed: vec![crate::store::Committed::UserChanged(user.clone())],
            fanouts: Vec::new(),
        };
        let stored = writer.mark.next();
        stored.write(&mut conn).unwrap();
        writer.doubt = Some(in_doubt(stored));
        writer.settle_doubt(&mut conn).unwrap();
        assert_eq!(told.lock().unwrap().len(), 1);
        assert_eq!(writer.mark, stored, "the next one goes on from there");
        writer.settle_doubt(&mut conn).unwrap();
        assert_eq!(told.lock().unwrap().len(), 1, "once");
        writer.doubt = Some(in_doubt(stored.next()));
        writer.settle_doubt(&mut conn).unwrap();
        assert_eq!(told.lock().unwrap().len(), 1, "it was rolled back");
        assert!(writer.doubt.is_none());
    }

    #[test]
    fn a_commit_that_failed_is_stored_if_the_mark_says_so_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder);
        writer.stats.failing.store(true, Ordering::Relaxed);
        let (ledger, items, _) = Ledger::channel(Arc::default());
        ledger.submit(Probe::touching(), Instant::now() + Duration::from_secs(5), |_| {});
        let Ok(Item::Write(entry)) = items.recv() else { panic!("it was handed in") };
        let Ok(effects) = writer.transact(&mut vec![entry], &[], None) else { panic!("it is written") };
        let written = effects.mark.expect("it left its mark");
        assert!(writer.learn_fate(Some(written), failed()).is_ok(), "it is on disk");
        let another = writer.learn_fate(Some(written.next()), failed());
        assert!(matches!(another, Err(Failure::Statement(_))), "it is not");
        assert!(matches!(writer.learn_fate(None, failed()), Err(Failure::Commit(_))), "nothing can tell");
        writer.conn = None;
        drop(writer.url.lock(crate::store::Nodes::One));
        std::fs::remove_dir_all(folder.path()).unwrap();
        std::fs::write(folder.path(), "in the way").unwrap();
        assert!(matches!(writer.learn_fate(Some(written), failed()), Err(Failure::Commit(_))), "nobody can be asked");
        std::fs::remove_file(folder.path()).unwrap();
    }
}
