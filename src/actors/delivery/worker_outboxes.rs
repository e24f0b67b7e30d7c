//! A `WorkerOutboxes` holds the outboxes of the sessions that live on one worker's thread. Sessions add and remove theirs;
//! the worker's `shard` fills them, without a lock.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use slab::Slab;

use super::{
    outbox::Outbox,
    receipts::Receipts,
    shard_stats::{ShardStats, WorkerStats},
};
use crate::{actors::room_id::RoomId, bus::ConnectionId, domain::AlarmCursor};

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
    worker: Arc<WorkerStats>,
    pub(super) stats: Arc<ShardStats>,
    /// Takes the proofs of receipt of its sessions.
    pub(crate) receipts: Receipts,
}

impl WorkerOutboxes {
    pub(crate) fn new(index: usize, stats: Arc<ShardStats>, receipts: Receipts) -> Self {
        let (sessions, rooms, worker) = (Rc::default(), Rc::default(), stats.add_worker());
        Self { index, sessions, rooms, worker, stats, receipts }
    }

    /// The shard's index among the workers.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The worker's figures, for a new outbox.
    pub(crate) fn worker(&self) -> Arc<WorkerStats> {
        Arc::clone(&self.worker)
    }

    /// Adds a session's outbox, also to its room if it is in one. Returns its slot.
    pub(crate) fn add_session(
        &self,
        connection: ConnectionId,
        outbox: Rc<RefCell<Outbox>>,
        room: Option<RoomId>,
    ) -> usize {
        self.stats.open.fetch_add(1, Ordering::Relaxed);
        self.stats.sessions.opened(room);
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
            let SessionEntry { room, outbox, .. } = sessions.remove(slot);
            self.stats.open.fetch_sub(1, Ordering::Relaxed);
            self.stats.sessions.ended(outbox.borrow().end());
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
        self.worker.waiting.load(Ordering::Relaxed) == 0
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
