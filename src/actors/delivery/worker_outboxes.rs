//! A `WorkerOutboxes` holds the outboxes of the sessions that live on one worker's thread. Sessions add and remove theirs;
//! the worker's `shard` fills them, without a lock.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use slab::Slab;

use super::{outbox::Outbox, receipts::Receipts};
use crate::{actors::room_id::RoomId, bus::ConnectionId, domain::AlarmCursor};

/// Counters shared by all shards of the node. All but `open` count from the start.
#[derive(Debug, Default)]
pub(crate) struct ShardStats {
    /// Sessions open now, registered or not.
    pub open: AtomicUsize,
    /// Alarm frames put into outboxes.
    pub queued: AtomicU64,
    /// Unread counts and alerts lost to a full mailbox of a shard.
    pub untold: AtomicU64,
    /// Room frames put into outboxes.
    pub room_frames: AtomicU64,
    /// Sockets closed because a full mailbox lost a frame of their room.
    pub closed_for_missing: AtomicU64,
    /// Sessions closed because their outbox was full.
    pub overflows: AtomicU64,
    /// Sessions closed because their client read nothing for too long.
    pub slow: AtomicU64,
    /// Times that a full mailbox made a shard's sessions read the store.
    pub resyncs: AtomicU64,
    /// Times that an inbox check found a session without an alarm of another node, and made it read the store.
    pub behind: AtomicU64,
}

/// A session of the shard that receives a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionTarget {
    pub slot: usize,
    pub connection: ConnectionId,
    /// For an alarm: the end of the user's inbox before it, `START` if no alarm can be missing. For an inbox check: the
    /// end of the inbox. Otherwise unused.
    pub after: AlarmCursor,
}

struct SessionEntry {
    connection: ConnectionId,
    outbox: Rc<RefCell<Outbox>>,
    /// Its room, and its key among the room's outboxes.
    room: Option<(RoomId, usize)>,
}

/// The outboxes of this worker's sessions in one room.
type RoomOutboxes = Slab<Rc<RefCell<Outbox>>>;

/// The outboxes of one worker, shared on its thread between the shard and the sessions.
#[derive(Clone)]
pub(crate) struct WorkerOutboxes {
    index: usize,
    sessions: Rc<RefCell<Slab<SessionEntry>>>,
    rooms: Rc<RefCell<HashMap<RoomId, RoomOutboxes>>>,
    /// Frames that wait in its outboxes now. Each worker has its own counter, so that workers don't contend for it.
    waiting: Arc<AtomicUsize>,
    pub(super) stats: Arc<ShardStats>,
    /// Takes the proofs of receipt of its sessions.
    pub(crate) receipts: Receipts,
}

impl WorkerOutboxes {
    pub(crate) fn new(index: usize, stats: Arc<ShardStats>, receipts: Receipts) -> Self {
        let (sessions, rooms, waiting) = (Rc::default(), Rc::default(), Arc::default());
        Self { index, sessions, rooms, waiting, stats, receipts }
    }

    /// The shard's index among the workers.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The counter of waiting frames, for a new outbox of this worker.
    pub(crate) fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    /// Adds a session's outbox, also to its room if it is in one. Returns its slot.
    pub(crate) fn add_session(
        &self,
        connection: ConnectionId,
        outbox: Rc<RefCell<Outbox>>,
        room: Option<RoomId>,
    ) -> usize {
        self.stats.open.fetch_add(1, Ordering::Relaxed);
        let room = room.map(|room| {
            let key = self.rooms.borrow_mut().entry(room).or_default().insert(Rc::clone(&outbox));
            (room, key)
        });
        self.sessions.borrow_mut().insert(SessionEntry { connection, outbox, room })
    }

    /// Removes a session; does nothing if its slot holds another connection.
    pub(crate) fn remove_session(&self, slot: usize, connection: ConnectionId) {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.get(slot).is_some_and(|session| session.connection == connection) {
            let SessionEntry { room, .. } = sessions.remove(slot);
            self.stats.open.fetch_sub(1, Ordering::Relaxed);
            if let Some((room, key)) = room
                && let Entry::Occupied(mut outboxes) = self.rooms.borrow_mut().entry(room)
            {
                outboxes.get_mut().remove(key);
                if outboxes.get().is_empty() {
                    outboxes.remove();
                }
            }
        }
    }

    /// Whether no frame waits in any outbox.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// Calls `act` with the outboxes of these sessions, as far as they are still open.
    pub(super) fn each_of(&self, targets: Vec<SessionTarget>, mut act: impl FnMut(&mut Outbox, AlarmCursor)) {
        let sessions = self.sessions.borrow();
        for SessionTarget { slot, connection, after } in targets {
            if let Some(entry) = sessions.get(slot).filter(|entry| entry.connection == connection) {
                act(&mut entry.outbox.borrow_mut(), after);
            }
        }
    }

    /// Calls `act` for each outbox in a room. The rooms stay borrowed meanwhile: an outbox wakes tasks but runs none.
    pub(super) fn each_in(&self, room: RoomId, mut act: impl FnMut(&mut Outbox)) {
        for (_, outbox) in self.rooms.borrow().get(&room).into_iter().flatten() {
            act(&mut outbox.borrow_mut());
        }
    }

    /// Calls `act` for each outbox of the worker.
    pub(super) fn each(&self, mut act: impl FnMut(&mut Outbox)) {
        // The outboxes are collected first, so that the slab is not borrowed while `act` wakes tasks.
        let outboxes: Vec<_> = self.sessions.borrow().iter().map(|(_, session)| Rc::clone(&session.outbox)).collect();
        for outbox in outboxes {
            act(&mut outbox.borrow_mut());
        }
    }
}
