//! An `Outbox` holds the frames that wait for one client, in order and bounded by count and bytes. It is plain data
//! without actor or socket, and stays on one worker thread: the worker's shard puts frames in, the socket takes them
//! out. `alarms` decides which alarms it takes live, and which the session reads from the store.

mod alarms;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::Waker,
    time::Instant,
};

use bytes::{Bytes, BytesMut};

pub(crate) use self::alarms::Offered;
use self::alarms::{Alarms, Noted};
use super::{
    frame::{CHUNK_BYTES, Chunk, Frame, FrameKind, PING_BYTES},
    shard_stats::{SessionEnd, WorkerStats},
};
use crate::{
    domain::{AlarmCursor, AlarmId, TradeMessageId},
    protocol::Close,
};

/// Limits of one outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutboxLimits {
    /// `session.max_pending`
    pub frames: usize,
    /// `session.max_pending_bytes`
    pub bytes: usize,
}

/// Sent trade messages remembered until they are marked as read. The trade's page marks any beyond.
const UNMARKED_MESSAGES_LIMIT: usize = 10_000;

/// Which live frames an outbox takes.
enum Content {
    /// Alarms. Lost ones are read from the store, and pings prove receipt.
    Alarms(Alarms),
    /// The frames of a room. Lost ones can't be read again, so the socket is closed and the client reads the room's
    /// state when it reconnects.
    Room(TakenMessages),
}

/// The trade messages that the socket of a room has taken.
#[derive(Default)]
struct TakenMessages {
    /// Those not yet handed out to be marked as read. In the order of sending, which in a cluster may not be that of
    /// ids.
    unmarked: Vec<TradeMessageId>,
    newest: Option<TradeMessageId>,
}

pub(crate) struct Outbox {
    content: Content,
    limits: OutboxLimits,
    queue: VecDeque<Rc<Frame>>,
    bytes: usize,
    /// The figures of the worker's outboxes.
    worker: Arc<WorkerStats>,
    /// Set when the session is to be closed after the frames that wait.
    close: Option<Close>,
    /// The socket is gone or has been closed.
    finished: bool,
    /// The client has sent a close frame, with this code if it has one.
    client_close: Option<Option<u16>>,
    /// The oldest live alarm that the socket has taken and nobody has proved to be received, and its commit.
    unproved: Option<(AlarmId, Instant)>,
    /// Sweeps since the socket last took a frame, while frames waited.
    stuck: u32,
    /// Wakes the task that takes frames.
    socket_waker: Option<Waker>,
    /// Wakes the task that reads the store, or marks messages as read.
    catch_up_waker: Option<Waker>,
}

impl Outbox {
    /// The outbox of a session that receives alarms. `worker` has the figures of the worker's outboxes.
    pub(crate) fn of_alarms(limits: OutboxLimits, worker: Arc<WorkerStats>) -> Self {
        Self::new(Content::Alarms(Alarms::new()), limits, worker)
    }

    /// The outbox of a session in an auction or trade room.
    pub(crate) fn of_room(limits: OutboxLimits, worker: Arc<WorkerStats>) -> Self {
        Self::new(Content::Room(TakenMessages::default()), limits, worker)
    }

    fn new(content: Content, limits: OutboxLimits, worker: Arc<WorkerStats>) -> Self {
        Self {
            content,
            limits,
            queue: VecDeque::new(),
            bytes: 0,
            worker,
            close: None,
            finished: false,
            client_close: None,
            unproved: None,
            stuck: 0,
            socket_waker: None,
            catch_up_waker: None,
        }
    }

    /// The alarms of a session; `None` in a room.
    fn alarms(&mut self) -> Option<&mut Alarms> {
        match &mut self.content {
            Content::Alarms(alarms) => Some(alarms),
            Content::Room(_) => None,
        }
    }

    /// Starts the session after this alarm.
    pub(crate) fn begin_after(&mut self, cursor: AlarmCursor) {
        if let Some(alarms) = self.alarms() {
            alarms.begin_after(cursor);
        }
    }

    /// Offers a live alarm. `previous` is the one before it in the user's inbox, `START` if none can be missing. In a
    /// cluster that one may be delayed or lost; then the session reads both from the store, in order.
    pub(crate) fn offer_alarm(&mut self, id: AlarmId, frame: &Rc<Frame>, previous: AlarmCursor) -> Offered {
        if self.is_closed() {
            return Offered::Closed;
        }
        // A room gets no alarms.
        let offered = self.alarms().map_or(Offered::Stale, |alarms| alarms.offer(id, previous));
        match offered {
            Offered::Queued => {
                let offered = self.put_within_limits(frame);
                if let (Offered::Queued, Some(alarms)) = (offered, self.alarms()) {
                    alarms.advance(id);
                }
                return offered;
            }
            Offered::Noted => self.wake_catch_up(),
            _ => {}
        }
        offered
    }

    /// Offers a frame of the session's room.
    pub(crate) fn offer_room_frame(&mut self, frame: &Rc<Frame>) -> Offered {
        if self.is_closed() { Offered::Closed } else { self.put_within_limits(frame) }
    }

    /// Makes the session read the store from its cursor, because alarms may have been lost. Does nothing in a room.
    pub(crate) fn resync(&mut self) {
        if let Some(alarms) = self.alarms() {
            alarms.read_up_to(Noted::Unknown);
            self.wake_catch_up();
        }
    }

    /// Compares the newest alarm of the user's inbox with what the session has. If it is behind, it reads the store.
    /// True if it was behind although live, so an alarm was lost.
    pub(crate) fn catch_up_to(&mut self, newest: AlarmCursor) -> bool {
        let is_closed = self.is_closed();
        let Some(alarms) = self.alarms().filter(|alarms| !is_closed && newest > alarms.complete_up_to()) else {
            return false;
        };
        let was_live = alarms.is_live();
        alarms.read_up_to(Noted::UpTo(newest));
        self.wake_catch_up();
        was_live
    }

    /// Puts in alarms read from the store, in ascending order. The limits do not apply: the page has a size of its own,
    /// and the next one is read when this one has been taken.
    pub(crate) fn put_page(&mut self, page: impl IntoIterator<Item = (AlarmId, Bytes)>) {
        if self.is_closed() {
            return;
        }
        let mut replayed = 0;
        for (id, bytes) in page {
            if self.alarms().is_some_and(|alarms| alarms.advance(id)) {
                self.put(Rc::new(Frame::new(FrameKind::Alarm(id), bytes)));
                replayed += 1;
            }
        }
        self.worker.backlog_reads.inc();
        self.worker.replayed.inc_by(replayed);
    }

    /// Begins a read of the store and returns the position after which it starts. The read will find every alarm noted
    /// so far.
    pub(crate) fn begin_reading(&mut self) -> AlarmCursor {
        self.alarms().map_or(AlarmCursor::START, Alarms::begin_reading)
    }

    /// A read has reached the end of the inbox. The session is live from now on, unless a newer alarm was noted
    /// meanwhile.
    pub(crate) fn reached_inbox_end(&mut self) {
        if let Some(alarms) = self.alarms() {
            alarms.reached_inbox_end();
        }
    }

    /// Whether the session has to read the store.
    pub(crate) fn wants_catch_up(&self) -> bool {
        matches!(&self.content, Content::Alarms(alarms) if !alarms.is_live()) && !self.is_closed()
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
        if !self.is_closed() && !self.overflows(bytes.len()) {
            self.put(Rc::new(Frame::new(FrameKind::Other, bytes)));
        }
    }

    /// Closes the session after the frames that wait. Only the first call counts.
    pub(crate) fn close(&mut self, close: Close) {
        if !self.is_closed() {
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
        self.record_taken(&first);
        // The first one waits longest; one flush counts once.
        if let Some(committed_at) = first.committed_at {
            self.worker.to_socket.observe(committed_at.elapsed());
        }
        let chunk = if fits(length, self.queue.front()) {
            let mut joined = BytesMut::with_capacity(CHUNK_BYTES.min(self.bytes + PING_BYTES));
            joined.extend_from_slice(&first.bytes);
            while fits(length, self.queue.front()) {
                let Some(frame) = self.queue.pop_front() else { break };
                self.record_taken(&frame);
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
        self.worker.waiting.fetch_sub(count, Ordering::Relaxed);
        self.wake_catch_up_if_empty();
        Some(chunk)
    }

    /// Takes the next frame alone, for server-sent events, which frame it differently.
    pub(crate) fn take_one(&mut self) -> Option<Rc<Frame>> {
        let frame = self.queue.pop_front()?;
        self.bytes -= frame.bytes.len();
        self.worker.waiting.fetch_sub(1, Ordering::Relaxed);
        self.stuck = 0;
        self.record_taken(&frame);
        if let Some(committed_at) = frame.committed_at {
            self.worker.to_socket.observe(committed_at.elapsed());
        }
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

    /// The newest alarm that the socket has taken; `START` in a room. A ping sent now can prove receipt up to it.
    pub(crate) fn taken(&self) -> AlarmCursor {
        match &self.content {
            Content::Alarms(alarms) => alarms.taken,
            Content::Room(_) => AlarmCursor::START,
        }
    }

    /// The number in the next heartbeat's ping: the newest alarm or message that the socket has taken, 0 before the
    /// first.
    pub(crate) fn ping_number(&self) -> i64 {
        match &self.content {
            Content::Alarms(alarms) => alarms.taken.get(),
            Content::Room(messages) => messages.newest.map_or(0, TradeMessageId::get),
        }
    }

    /// The newest alarm that the client can acknowledge: the newest one sent, or the one after which its session
    /// started.
    pub(crate) fn acknowledgeable(&self) -> AlarmCursor {
        match &self.content {
            Content::Alarms(alarms) => alarms.acknowledgeable(),
            Content::Room(_) => AlarmCursor::START,
        }
    }

    /// Takes the trade messages that the socket has taken since the last call, so that they are marked as read.
    pub(crate) fn take_messages_to_mark(&mut self) -> Vec<TradeMessageId> {
        match &mut self.content {
            Content::Room(messages) => std::mem::take(&mut messages.unmarked),
            Content::Alarms(_) => Vec::new(),
        }
    }

    /// Requeues ids whose mark-as-read failed, before newer ones.
    pub(crate) fn requeue_unmarked(&mut self, failed: Vec<TradeMessageId>) {
        if let Content::Room(TakenMessages { unmarked, .. }) = &mut self.content {
            let newer = std::mem::replace(unmarked, failed);
            unmarked.extend(newer);
            unmarked.truncate(UNMARKED_MESSAGES_LIMIT);
        }
    }

    /// When all frames are taken, wakes the task that has more to do then: it reads the next page, or marks the taken
    /// messages as read. A live alarm session has nothing to read and is not woken.
    fn wake_catch_up_if_empty(&mut self) {
        let has_work = matches!(self.content, Content::Room(_)) || self.wants_catch_up();
        if self.queue.is_empty() && has_work {
            self.wake_catch_up();
        }
    }

    fn record_taken(&mut self, frame: &Frame) {
        match (&mut self.content, frame.kind) {
            (Content::Alarms(alarms), FrameKind::Alarm(id)) => {
                alarms.taken = alarms.taken.max(AlarmCursor::after(id));
                if let Some(committed_at) = frame.committed_at {
                    self.unproved.get_or_insert((id, committed_at));
                }
            }
            (Content::Room(messages), FrameKind::Trade(id)) => {
                messages.newest = messages.newest.max(Some(id));
                if messages.unmarked.len() < UNMARKED_MESSAGES_LIMIT {
                    messages.unmarked.push(id);
                }
            }
            _ => {}
        }
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

    /// Ends the session because the client has sent a close frame, with this code if it has one.
    pub(crate) fn finish_for_client(&mut self, code: Option<u16>) {
        self.client_close = Some(code);
        self.finish();
    }

    /// How the session has ended.
    pub(crate) fn end(&self) -> SessionEnd {
        match (self.close, self.client_close) {
            (Some(close), _) => SessionEnd::Server(close),
            (None, Some(code)) => SessionEnd::Client(code),
            (None, None) => SessionEnd::Lost,
        }
    }

    /// The client has proved that it has every alarm up to this one.
    pub(crate) fn prove(&mut self, up_to: AlarmId) {
        if let Some((_, committed_at)) = self.unproved.take_if(|(oldest, _)| *oldest <= up_to) {
            self.worker.to_receipt.observe(committed_at.elapsed());
        }
    }

    /// Sets the waker of the task that takes frames; it is used once.
    pub(crate) fn set_socket_waker(&mut self, waker: &Waker) {
        self.socket_waker = Some(waker.clone());
    }

    /// Sets the waker of the task that reads the store or marks messages as read; it is used once.
    pub(crate) fn set_catch_up_waker(&mut self, waker: &Waker) {
        self.catch_up_waker = Some(waker.clone());
    }

    fn put_within_limits(&mut self, frame: &Rc<Frame>) -> Offered {
        if self.overflows(frame.bytes.len()) {
            return Offered::Overflow;
        }
        self.put(Rc::clone(frame));
        Offered::Queued
    }

    fn put(&mut self, frame: Rc<Frame>) {
        self.bytes += frame.bytes.len();
        self.queue.push_back(frame);
        self.worker.waiting.fetch_add(1, Ordering::Relaxed);
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
        self.worker.waiting.fetch_sub(self.queue.len(), Ordering::Relaxed);
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
