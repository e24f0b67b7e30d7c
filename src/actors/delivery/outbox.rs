//! What waits for one client: frames encoded once for all receivers, in order, bounded by count and bytes. Plain: no
//! actor, no socket. Lives on one worker thread; the worker's shard puts frames in, the session's socket takes them out.
//!
//! The rule that keeps a session's alarms without gap, double or disorder stands here: `cursor` is the last alarm that
//! was put in. A session that catches up reads the store from there; what comes live meanwhile is not queued but only
//! noted, and the store is read on until nothing newer is noted. Ids rise in commit order, so nothing is skipped.

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

use super::frame::{Chunk, Frame};
use crate::protocol::Close;

/// Limits of one client (`session.max_pending`, `session.max_pending_bytes`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutboxLimits {
    pub frames: usize,
    pub bytes: usize,
}

/// What became of a live alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It waits for the client.
    Queued,
    /// The session reads it from the store in its turn.
    Noted,
    /// The session has it already.
    Stale,
    /// Too much waits: the session is being closed.
    Overflow,
    /// The session is closing.
    Closed,
}

/// Messages taken that are remembered until they are marked as read; of more, the page of the trade marks the rest.
const MAX_MESSAGES: usize = 10_000;
/// Most bytes handed to the socket at once: what a client that stops reading holds outside this outbox.
const CHUNK_BYTES: usize = 16 * 1024;
/// Kept free behind joined frames.
const ROOM_FOR_PING: usize = 24;

/// What comes live into an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hears {
    /// Alarms: what is missed is read from the store, and receipt is proved.
    Alarms,
    /// The frames of a room: what is missed is missed, and the client must come back to see how things stand.
    Room,
}

pub(crate) struct Outbox {
    hears: Hears,
    limits: OutboxLimits,
    queue: VecDeque<Rc<Frame>>,
    bytes: usize,
    /// Frames that wait in all outboxes of the worker.
    waiting: Arc<AtomicUsize>,
    /// The last alarm put in.
    cursor: i64,
    /// Live alarms are queued; otherwise they are noted.
    live: bool,
    /// The newest alarm noted while not live.
    noted: i64,
    /// What was noted when the reading of the store began that is under way.
    reading: i64,
    /// Everything up to here is put in or not to be sent, whatever the cursor says (muted, superseded).
    covered: i64,
    close: Option<Close>,
    /// The socket has taken the last of it, or is gone.
    finished: bool,
    /// Where the session began.
    begun_after: i64,
    /// Messages of a room that the socket has taken and nobody has asked for yet, as they came: with several nodes not by id.
    taken_messages: Vec<i64>,
    /// The last alarm or message that the socket has taken, 0 before the first.
    taken: i64,
    /// Sweeps in a row that found something waiting and nothing taken since the one before.
    stuck: u32,
    reader: Option<Waker>,
    catch_up: Option<Waker>,
}

impl Outbox {
    /// The outbox of a session that hears alarms.
    pub(crate) fn of_alarms(limits: OutboxLimits, waiting: Arc<AtomicUsize>) -> Self {
        Self::new(Hears::Alarms, limits, waiting)
    }

    /// The outbox of a session in a room.
    pub(crate) fn of_room(limits: OutboxLimits, waiting: Arc<AtomicUsize>) -> Self {
        Self::new(Hears::Room, limits, waiting)
    }

    fn new(hears: Hears, limits: OutboxLimits, waiting: Arc<AtomicUsize>) -> Self {
        Self {
            hears,
            limits,
            queue: VecDeque::new(),
            bytes: 0,
            waiting,
            cursor: 0,
            live: false,
            noted: 0,
            reading: 0,
            covered: 0,
            close: None,
            finished: false,
            begun_after: 0,
            taken_messages: Vec::new(),
            taken: 0,
            stuck: 0,
            reader: None,
            catch_up: None,
        }
    }

    /// The session begins after this alarm.
    pub(crate) fn begin_after(&mut self, cursor: i64) {
        self.cursor = cursor;
        self.begun_after = cursor;
    }

    /// A live alarm for this session's user, and the one before it in his inbox (0: nothing can have been missed). With
    /// several nodes that one may still be on its way, or lost: then both are read from the store, in order.
    pub(crate) fn offer(&mut self, frame: &Rc<Frame>, after: i64) -> Offered {
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
        if after > self.cursor.max(self.covered) {
            self.read_from_store(id);
            return Offered::Noted;
        }
        if self.is_over(frame.bytes.len()) {
            return Offered::Overflow;
        }
        self.cursor = id;
        self.put(Rc::clone(frame));
        Offered::Queued
    }

    /// A frame of the session's room.
    pub(crate) fn hear(&mut self, frame: &Rc<Frame>) -> Offered {
        if self.close.is_some() || self.finished {
            return Offered::Closed;
        }
        if self.is_over(frame.bytes.len()) {
            return Offered::Overflow;
        }
        self.put(Rc::clone(frame));
        Offered::Queued
    }

    /// Alarms may have been missed: the store is read from the cursor on.
    pub(crate) fn resync(&mut self) {
        if self.hears == Hears::Alarms {
            self.read_from_store(i64::MAX);
        }
    }

    /// The inbox ends with this alarm: if the session has not had it, the store is read. True if that was news to it.
    pub(crate) fn inbox_ends_with(&mut self, newest: i64) -> bool {
        let is_behind = self.hears == Hears::Alarms && newest > self.cursor.max(self.covered) && !self.is_closed();
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

    /// Alarms read from the store, ascending. Bounded by the page that was asked for, so the limits don't apply:
    /// the next page is read when this one has left.
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

    /// A reading of the store begins: where, and what was noted so far will be in it.
    pub(crate) fn begin_reading(&mut self) -> i64 {
        self.reading = self.reading.max(std::mem::take(&mut self.noted));
        self.cursor
    }

    /// A reading came to the end of the list: live from here on, unless something newer was noted since it began.
    pub(crate) fn end_of_list(&mut self) {
        self.live = self.noted <= self.cursor;
        // What was noted before the reading began was on disk then.
        match std::mem::take(&mut self.reading) {
            i64::MAX => {}
            noted => self.covered = self.covered.max(noted),
        }
    }

    /// Whether the store has to be read.
    pub(crate) fn wants_catch_up(&self) -> bool {
        !self.live && self.close.is_none() && !self.finished
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The session is closing or closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.close.is_some() || self.finished
    }

    /// A frame that is no alarm: an answer, a ping.
    pub(crate) fn control(&mut self, bytes: Bytes) {
        if self.close.is_none() && !self.finished && !self.is_over(bytes.len()) {
            self.put(Rc::new(Frame::new(0, bytes)));
        }
    }

    /// Ends the session after what waits; the first close counts.
    pub(crate) fn close(&mut self, close: Close) {
        if self.close.is_none() && !self.finished {
            self.close = Some(close);
            self.wake_reader();
            self.wake_catch_up();
        }
    }

    /// What the socket gets next: waiting frames joined, so that several leave in one write.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        let fits =
            |length: usize, next: Option<&Rc<Frame>>| next.is_some_and(|next| length + next.bytes.len() <= CHUNK_BYTES);
        let mut count = 1;
        let first = self.queue.pop_front()?;
        let mut length = first.bytes.len();
        self.took(first.id);
        let chunk = if fits(length, self.queue.front()) {
            let mut joined = BytesMut::with_capacity(CHUNK_BYTES.min(self.bytes + ROOM_FOR_PING));
            joined.extend_from_slice(&first.bytes);
            while fits(length, self.queue.front()) {
                let Some(frame) = self.queue.pop_front() else { break };
                self.took(frame.id);
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
        self.taken_all();
        Some(chunk)
    }

    /// The next frame alone, with the alarm that it is (0: none), for a wire that frames it its own way.
    pub(crate) fn take_one(&mut self) -> Option<Rc<Frame>> {
        let frame = self.queue.pop_front()?;
        self.bytes -= frame.bytes.len();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.stuck = 0;
        self.took(frame.id);
        self.taken_all();
        Some(frame)
    }

    /// Called every second: a client that has taken nothing for `limit` seconds although something waits is let go, and
    /// what waits is dropped. True if it was this one's turn. (A pong proves that the client lives, not that it reads.)
    pub(crate) fn sweep(&mut self, limit: u32) -> bool {
        if self.queue.is_empty() {
            self.stuck = 0;
            return false;
        }
        self.stuck += 1;
        let gone = self.stuck > limit;
        if gone {
            self.drop_waiting();
            self.close(Close::TooSlow);
        }
        gone
    }

    /// The last alarm that the socket has taken; behind it a ping can prove receipt.
    pub(crate) fn taken(&self) -> i64 {
        self.taken
    }

    /// Whether a ping behind the frames is to prove their receipt.
    pub(crate) fn proves_receipt(&self) -> bool {
        self.hears == Hears::Alarms
    }

    /// Messages that the socket has taken since the last time that this was asked.
    pub(crate) fn take_messages(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.taken_messages)
    }

    /// These are still to be asked for.
    pub(crate) fn not_after_all(&mut self, messages: Vec<i64>) {
        let newer = std::mem::replace(&mut self.taken_messages, messages);
        self.taken_messages.extend(newer);
        self.taken_messages.truncate(MAX_MESSAGES);
    }

    /// Whoever waited for that goes on: not with every live alarm, but in a room always, where what was taken is marked.
    fn taken_all(&mut self) {
        if self.queue.is_empty() && self.wants_catch_up() {
            self.wake_catch_up();
        }
    }

    fn took(&mut self, id: i64) {
        self.taken = self.taken.max(id);
        if self.hears == Hears::Room && id > 0 && self.taken_messages.len() < MAX_MESSAGES {
            self.taken_messages.push(id);
        }
    }

    /// The last alarm that the client can acknowledge: one that was sent, or that it said it had when it came.
    pub(crate) fn acknowledgeable(&self) -> i64 {
        self.taken.max(self.begun_after)
    }

    /// The close that is to be sent, once nothing waits before it.
    pub(crate) fn due_close(&self) -> Option<Close> {
        self.close.filter(|_| self.queue.is_empty())
    }

    /// The socket is gone, or has taken the close.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.drop_waiting();
        self.wake_catch_up();
    }

    pub(crate) fn set_reader(&mut self, waker: &Waker) {
        self.reader = Some(waker.clone());
    }

    pub(crate) fn set_catch_up(&mut self, waker: &Waker) {
        self.catch_up = Some(waker.clone());
    }

    fn put(&mut self, frame: Rc<Frame>) {
        self.bytes += frame.bytes.len();
        self.queue.push_back(frame);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.wake_reader();
    }

    /// Over the limit: what waits is dropped (it is in the inbox), and the client is told to resume.
    fn is_over(&mut self, more: usize) -> bool {
        let over = self.queue.len() >= self.limits.frames || self.bytes + more > self.limits.bytes;
        if over {
            self.drop_waiting();
            self.close(Close::TooSlow);
        }
        over
    }

    fn drop_waiting(&mut self) {
        self.waiting.fetch_sub(self.queue.len(), Ordering::Relaxed);
        self.queue = VecDeque::new();
        self.bytes = 0;
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_catch_up(&mut self) {
        if let Some(waker) = self.catch_up.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
