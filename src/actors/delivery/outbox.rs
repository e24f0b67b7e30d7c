//! An `Outbox` holds the frames that wait for one client, in order and bounded by count and bytes. It is plain data
//! without actor or socket, and stays on one worker thread: the worker's shard puts frames in, the socket takes them
//! out.
//!
//! The outbox makes sure that a session gets its alarms without a gap, a duplicate or disorder. `cursor` is the last
//! alarm put in. While a session catches up, it reads the store from there. Alarms that arrive live meanwhile are not
//! queued; only the newest id is noted, and the session reads on until its cursor has reached it. Ids rise in commit
//! order, so no alarm is skipped.

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use bytes::{Bytes, BytesMut};

use super::frame::{Chunk, Frame, PING_BYTES};
use crate::protocol::Close;

/// Limits of one outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutboxLimits {
    /// `session.max_pending`
    pub frames: usize,
    /// `session.max_pending_bytes`
    pub bytes: usize,
}

/// What the outbox did with a live frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Put it in.
    Queued,
    /// Noted its id: the session will read it from the store.
    Noted,
    /// Nothing: the alarm was put in before.
    Stale,
    /// Dropped it and everything that waits, and began to close the session: the outbox is full.
    Overflow,
    /// Nothing: the session is closing or closed.
    Closed,
}

/// Sent trade messages remembered until they are marked as read. The trade's page marks any beyond.
const UNMARKED_MESSAGES_LIMIT: usize = 10_000;
/// The size up to which frames are joined into one chunk. It bounds what a client that stops reading holds in memory
/// outside its outbox.
const CHUNK_BYTES: usize = 16 * 1024;

/// Which live frames an outbox takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Alarms. Lost ones are read from the store, and pings prove receipt.
    Alarms,
    /// The frames of a room. Lost ones can't be read again, so the socket is closed and the client reads the room's
    /// state when it reconnects.
    Room,
}

pub(crate) struct Outbox {
    kind: Kind,
    limits: OutboxLimits,
    queue: VecDeque<Rc<Frame>>,
    /// Bytes in `queue`.
    bytes: usize,
    /// The number of frames in all outboxes of the worker.
    waiting: Arc<AtomicUsize>,
    /// The last alarm put in; the session's start before the first.
    cursor: i64,
    /// Whether live alarms are queued; if not, they are noted.
    live: bool,
    /// The newest alarm noted while not live; `i64::MAX` after a resync, when it is unknown.
    noted: i64,
    /// What was noted before the running catch-up read began, which will therefore find it.
    noted_before_read: i64,
    /// The store has been read up to here. Alarms between `cursor` and this one are not for this session (muted,
    /// superseded).
    covered: i64,
    /// Set when the session is to be closed after the frames that wait.
    close: Option<Close>,
    /// The socket is gone or has been closed.
    finished: bool,
    /// The alarm after which the session started.
    began_after: i64,
    /// Trade messages taken by the socket and not yet handed out to be marked as read. In the order of sending, which
    /// in a cluster may not be that of ids.
    taken_messages: Vec<i64>,
    /// The newest alarm or message that the socket has taken, 0 before the first.
    taken: i64,
    /// Sweeps since the socket last took a frame, while frames waited.
    stuck: u32,
    /// Wakes the task that takes frames.
    socket_waker: Option<Waker>,
    /// Wakes the task that reads the store, or marks messages as read.
    catch_up_waker: Option<Waker>,
}

impl Outbox {
    /// The outbox of a session that receives alarms. `waiting` counts the frames in all outboxes of the worker.
    pub(crate) fn of_alarms(limits: OutboxLimits, waiting: Arc<AtomicUsize>) -> Self {
        Self::new(Kind::Alarms, limits, waiting)
    }

    /// The outbox of a session in an auction or trade room.
    pub(crate) fn of_room(limits: OutboxLimits, waiting: Arc<AtomicUsize>) -> Self {
        Self::new(Kind::Room, limits, waiting)
    }

    fn new(kind: Kind, limits: OutboxLimits, waiting: Arc<AtomicUsize>) -> Self {
        Self {
            kind,
            limits,
            queue: VecDeque::new(),
            bytes: 0,
            waiting,
            cursor: 0,
            live: false,
            noted: 0,
            noted_before_read: 0,
            covered: 0,
            close: None,
            finished: false,
            began_after: 0,
            taken_messages: Vec::new(),
            taken: 0,
            stuck: 0,
            socket_waker: None,
            catch_up_waker: None,
        }
    }

    /// Starts the session after this alarm.
    pub(crate) fn begin_after(&mut self, cursor: i64) {
        self.cursor = cursor;
        self.began_after = cursor;
    }

    /// Offers a live alarm. `previous` is the one before it in the user's inbox, 0 if none can be missing. In a cluster
    /// that one may be delayed or lost; then the session reads both from the store, in order.
    pub(crate) fn offer_alarm(&mut self, frame: &Rc<Frame>, previous: i64) -> Offered {
        let id = frame.id;
        if self.close.is_some() || self.finished {
            return Offered::Closed;
        }
        if !self.live {
            self.noted = self.noted.max(id);
            self.wake_catch_up();
            return Offered::Noted;
        }
        if id <= self.cursor {
            return Offered::Stale;
        }
        if previous > self.cursor.max(self.covered) {
            self.read_from_store(id);
            return Offered::Noted;
        }
        if self.overflows(frame.bytes.len()) {
            return Offered::Overflow;
        }
        self.cursor = id;
        self.put(Rc::clone(frame));
        Offered::Queued
    }

    /// Offers a frame of the session's room.
    pub(crate) fn offer_room_frame(&mut self, frame: &Rc<Frame>) -> Offered {
        if self.close.is_some() || self.finished {
            return Offered::Closed;
        }
        if self.overflows(frame.bytes.len()) {
            return Offered::Overflow;
        }
        self.put(Rc::clone(frame));
        Offered::Queued
    }

    /// Makes the session read the store from its cursor, because alarms may have been lost. Does nothing in a room.
    pub(crate) fn resync(&mut self) {
        if self.kind == Kind::Alarms {
            self.read_from_store(i64::MAX);
        }
    }

    /// Compares the newest alarm of the user's inbox with what the session has. If it is behind, it reads the store.
    /// True if it was behind although live, so an alarm was lost.
    pub(crate) fn inbox_ends_with(&mut self, newest: i64) -> bool {
        let is_behind = self.kind == Kind::Alarms && newest > self.cursor.max(self.covered) && !self.is_closed();
        let was_live = self.live;
        if is_behind {
            self.read_from_store(newest);
        }
        is_behind && was_live
    }

    fn read_from_store(&mut self, noted: i64) {
        self.live = false;
        self.noted = self.noted.max(noted);
        self.wake_catch_up();
    }

    /// Puts in alarms read from the store, in ascending order. The limits do not apply: the page has a size of its own,
    /// and the next one is read when this one has been taken.
    pub(crate) fn put_page(&mut self, page: Vec<Frame>) {
        if self.close.is_some() || self.finished {
            return;
        }
        for frame in page {
            if frame.id > self.cursor {
                self.cursor = frame.id;
                self.put(Rc::new(frame));
            }
        }
    }

    /// Begins a read of the store and returns the alarm after which it starts. The read will find every alarm noted so
    /// far.
    pub(crate) fn begin_reading(&mut self) -> i64 {
        self.noted_before_read = self.noted_before_read.max(std::mem::take(&mut self.noted));
        self.cursor
    }

    /// A read has reached the end of the inbox. The session is live from now on, unless a newer alarm was noted
    /// meanwhile.
    pub(crate) fn reached_inbox_end(&mut self) {
        self.live = self.noted <= self.cursor;
        // An alarm noted before the read was stored by then; if the read did not bring it, it is not for this session.
        match std::mem::take(&mut self.noted_before_read) {
            i64::MAX => {}
            noted => self.covered = self.covered.max(noted),
        }
    }

    /// Whether the session has to read the store.
    pub(crate) fn wants_catch_up(&self) -> bool {
        !self.live && self.close.is_none() && !self.finished
    }

    /// Whether no frame waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the session is closing or closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.close.is_some() || self.finished
    }

    /// Puts in a frame that is neither an alarm nor a room's: an answer, a ping. A full outbox closes the session.
    pub(crate) fn control(&mut self, bytes: Bytes) {
        if self.close.is_none() && !self.finished && !self.overflows(bytes.len()) {
            self.put(Rc::new(Frame::new(0, bytes)));
        }
    }

    /// Closes the session after the frames that wait. Only the first call counts.
    pub(crate) fn close(&mut self, close: Close) {
        if self.close.is_none() && !self.finished {
            self.close = Some(close);
            self.wake_socket();
            self.wake_catch_up();
        }
    }

    /// Takes the next frames, joined up to [`CHUNK_BYTES`], so that one write sends several. The first frame may be
    /// longer.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        let fits =
            |length: usize, next: Option<&Rc<Frame>>| next.is_some_and(|next| length + next.bytes.len() <= CHUNK_BYTES);
        let mut count = 1;
        let first = self.queue.pop_front()?;
        let mut length = first.bytes.len();
        self.record_taken(first.id);
        let chunk = if fits(length, self.queue.front()) {
            let mut joined = BytesMut::with_capacity(CHUNK_BYTES.min(self.bytes + PING_BYTES));
            joined.extend_from_slice(&first.bytes);
            while fits(length, self.queue.front()) {
                let Some(frame) = self.queue.pop_front() else { break };
                self.record_taken(frame.id);
                count += 1;
                length += frame.bytes.len();
                joined.extend_from_slice(&frame.bytes);
            }
            Chunk::Joined(joined)
        } else {
            Chunk::One(first)
        };
        self.stuck = 0;
        self.bytes -= length;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.wake_catch_up_if_empty();
        Some(chunk)
    }

    /// Takes the next frame alone, for server-sent events, which frame it differently.
    pub(crate) fn take_one(&mut self) -> Option<Rc<Frame>> {
        let frame = self.queue.pop_front()?;
        self.bytes -= frame.bytes.len();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.stuck = 0;
        self.record_taken(frame.id);
        self.wake_catch_up_if_empty();
        Some(frame)
    }

    /// Runs every second. If frames wait and the socket has taken none for more than `limit` sweeps, drops them, closes
    /// the session and returns true. (Pongs do not count: they prove that the client lives, not that it reads.)
    pub(crate) fn sweep(&mut self, limit: u32) -> bool {
        if self.queue.is_empty() {
            self.stuck = 0;
            return false;
        }
        self.stuck += 1;
        let is_too_slow = self.stuck > limit;
        if is_too_slow {
            self.drop_waiting();
            self.close(Close::TooSlow);
        }
        is_too_slow
    }

    /// The newest alarm or message that the socket has taken. A ping sent now can prove receipt up to it.
    pub(crate) fn taken(&self) -> i64 {
        self.taken
    }

    /// Whether pings behind the frames are to prove their receipt.
    pub(crate) fn proves_receipt(&self) -> bool {
        self.kind == Kind::Alarms
    }

    /// Takes the trade messages that the socket has taken since the last call, so that they are marked as read.
    pub(crate) fn take_messages_to_mark(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.taken_messages)
    }

    /// Requeues ids whose mark-as-read failed, before newer ones.
    pub(crate) fn requeue_unmarked(&mut self, messages: Vec<i64>) {
        let newer = std::mem::replace(&mut self.taken_messages, messages);
        self.taken_messages.extend(newer);
        self.taken_messages.truncate(UNMARKED_MESSAGES_LIMIT);
    }

    /// When all frames are taken, wakes the catch-up task. A live alarm session has nothing to read and is not woken; a
    /// room is never live, and its task marks the taken messages as read.
    fn wake_catch_up_if_empty(&mut self) {
        if self.queue.is_empty() && self.wants_catch_up() {
            self.wake_catch_up();
        }
    }

    fn record_taken(&mut self, id: i64) {
        self.taken = self.taken.max(id);
        if self.kind == Kind::Room && id > 0 && self.taken_messages.len() < UNMARKED_MESSAGES_LIMIT {
            self.taken_messages.push(id);
        }
    }

    /// The newest alarm that the client can acknowledge: the newest one sent, or the one after which its session
    /// started.
    pub(crate) fn acknowledgeable(&self) -> i64 {
        self.taken.max(self.began_after)
    }

    /// The close to send now: `None` while frames wait before it.
    pub(crate) fn due_close(&self) -> Option<Close> {
        self.close.filter(|_| self.queue.is_empty())
    }

    /// Ends the session: its socket is gone or has been closed. Drops the frames that wait.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.drop_waiting();
        self.wake_catch_up();
    }

    /// Sets the waker of the task that takes frames; it is used once.
    pub(crate) fn set_socket_waker(&mut self, waker: &Waker) {
        self.socket_waker = Some(waker.clone());
    }

    /// Sets the waker of the task that reads the store or marks messages as read; it is used once.
    pub(crate) fn set_catch_up_waker(&mut self, waker: &Waker) {
        self.catch_up_waker = Some(waker.clone());
    }

    fn put(&mut self, frame: Rc<Frame>) {
        self.bytes += frame.bytes.len();
        self.queue.push_back(frame);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.wake_socket();
    }

    /// Whether `more` bytes exceed a limit. If so, drops the frames that wait and closes the session; the client
    /// resumes from its inbox.
    fn overflows(&mut self, more: usize) -> bool {
        let overflows = self.queue.len() >= self.limits.frames || self.bytes + more > self.limits.bytes;
        if overflows {
            self.drop_waiting();
            self.close(Close::TooSlow);
        }
        overflows
    }

    fn drop_waiting(&mut self) {
        self.waiting.fetch_sub(self.queue.len(), Ordering::Relaxed);
        self.queue = VecDeque::new();
        self.bytes = 0;
    }

    fn wake_socket(&mut self) {
        if let Some(waker) = self.socket_waker.take() {
            waker.wake();
        }
    }

    fn wake_catch_up(&mut self) {
        if let Some(waker) = self.catch_up_waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
