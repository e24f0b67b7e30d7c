//! Who is connected: sessions by user id, and which alarms are known to have reached whom. Plain.
//!
//! A seat is told apart by its connection id, which rises: a late leave must not evict a newer session.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Unbounded},
};

use crate::domain::{AlarmId, Timestamp, UserId};

/// One session's place: which worker's shard, which slot there, and for which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub shard: usize,
    pub slot: usize,
    pub connection: u64,
}

/// A session that is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registered {
    pub seat: Seat,
    /// Whether it hears alarms; otherwise it is in a room.
    pub hears_alarms: bool,
    /// When it was opened.
    pub at: Timestamp,
    /// Whether other nodes may know of it.
    pub is_counted: bool,
}

#[derive(Default)]
pub(crate) struct Registry {
    seats: HashMap<UserId, Vec<Registered>>,
    sessions: usize,
    /// Received marks that are not on disk yet.
    received: BTreeMap<UserId, AlarmId>,
    /// The last user whose mark was handed out to be written.
    handed_out: Option<UserId>,
}

impl Registry {
    /// Seats a session.
    pub(crate) fn enter(&mut self, user: UserId, session: Registered) {
        self.seats.entry(user).or_default().push(session);
        self.sessions += 1;
    }

    /// The oldest of the user's sessions, if they are more than the most that are allowed.
    pub(crate) fn one_too_many(&self, user: UserId, most: usize) -> Option<u64> {
        let seats = self.seats.get(&user).filter(|seats| seats.len() > most)?;
        seats.iter().map(|one| one.seat.connection).min()
    }

    /// Other nodes may know of a session from now on; false if it has left.
    pub(crate) fn counted(&mut self, user: UserId, connection: u64) -> bool {
        let mut seats = self.seats.get_mut(&user).into_iter().flatten();
        let session = seats.find(|one| one.seat.connection == connection);
        session.map(|session| session.is_counted = true).is_some()
    }

    /// A session leaves; what it was, if it was there. A user without sessions leaves nothing behind.
    pub(crate) fn leave(&mut self, user: UserId, connection: u64) -> Option<Registered> {
        let seats = self.seats.get_mut(&user)?;
        let at = seats.iter().position(|one| one.seat.connection == connection)?;
        let left = seats.swap_remove(at);
        self.sessions -= 1;
        if seats.is_empty() {
            self.seats.remove(&user);
        }
        Some(left)
    }

    /// Everybody who has a session.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.seats.keys().copied().collect()
    }

    /// The user's sessions.
    pub(crate) fn registered(&self, user: UserId) -> impl Iterator<Item = &Registered> {
        self.seats.get(&user).into_iter().flatten()
    }

    /// The user's sessions that hear alarms.
    pub(crate) fn hearing(&self, user: UserId) -> impl Iterator<Item = Seat> {
        self.registered(user).filter(|one| one.hears_alarms).map(|one| one.seat)
    }

    /// All the user's sessions.
    pub(crate) fn all(&self, user: UserId) -> impl Iterator<Item = Seat> {
        self.registered(user).map(|one| one.seat)
    }

    /// Open sessions and connected users.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.sessions, self.seats.len())
    }

    /// A session proved that its user has everything up to here.
    pub(crate) fn received(&mut self, user: UserId, up_to: AlarmId) {
        let mark = self.received.entry(user).or_insert(up_to);
        *mark = (*mark).max(up_to);
    }

    /// What is known of the user's mark beyond the disk.
    pub(crate) fn received_mark(&self, user: UserId) -> Option<AlarmId> {
        self.received.get(&user).copied()
    }

    /// There are marks that are not on disk.
    pub(crate) fn has_marks(&self) -> bool {
        !self.received.is_empty()
    }

    /// Some marks to write down, at most `limit`: of neighbours, whose rows share pages, and of each in his turn.
    pub(crate) fn marks_to_write(&mut self, limit: usize) -> Vec<(UserId, AlarmId)> {
        let begin = self.handed_out.map_or(Unbounded, Excluded);
        let behind = self.received.range((begin, Unbounded));
        let before = self.handed_out.map(|last| self.received.range(..=last));
        let all = behind.chain(before.into_iter().flatten());
        let marks: Vec<_> = all.take(limit).map(|(user, up_to)| (*user, *up_to)).collect();
        self.handed_out = marks.last().map(|(user, _)| *user);
        marks
    }

    /// These marks are on disk; newer ones stay.
    pub(crate) fn marks_written(&mut self, written: &[(UserId, AlarmId)]) {
        for (user, up_to) in written {
            if self.received.get(user) == Some(up_to) {
                self.received.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserId {
        UserId::from_stored(id)
    }

    fn seat(connection: u64) -> Seat {
        Seat { shard: 0, slot: 0, connection }
    }

    fn session(connection: u64, hears_alarms: bool) -> Registered {
        Registered { seat: seat(connection), hears_alarms, at: Timestamp::from_secs(0), is_counted: false }
    }

    #[test]
    fn of_too_many_sessions_of_a_user_the_oldest_is_named() {
        let mut registry = Registry::default();
        for connection in [2, 1, 3] {
            registry.enter(user(1), session(connection, true));
        }
        registry.enter(user(2), session(4, true));
        assert_eq!(registry.counts(), (4, 2));
        assert_eq!([3, 2].map(|most| registry.one_too_many(user(1), most)), [None, Some(1)]);
        assert_eq!(registry.one_too_many(user(2), 1), None);
        registry.leave(user(1), 1);
        assert_eq!(registry.one_too_many(user(1), 1), Some(2));
    }

    #[test]
    fn a_socket_in_a_room_counts_and_hears_no_alarms() {
        let mut registry = Registry::default();
        registry.enter(user(1), session(1, false));
        registry.enter(user(1), session(2, true));
        assert_eq!(registry.one_too_many(user(1), 1), Some(1));
        assert_eq!(registry.hearing(user(1)).collect::<Vec<_>>(), [seat(2)]);
        assert_eq!(registry.all(user(1)).count(), 2);
    }

    #[test]
    fn a_late_leave_evicts_nobody_else() {
        let mut registry = Registry::default();
        let second = session(2, true);
        registry.enter(user(1), second);
        assert_eq!((registry.leave(user(1), 1), registry.leave(user(2), 2)), (None, None));
        assert_eq!(registry.all(user(1)).collect::<Vec<_>>(), [seat(2)]);
        assert_eq!((registry.leave(user(1), 2), registry.leave(user(1), 2)), (Some(second), None));
        assert_eq!(registry.counts(), (0, 0));
    }

    #[test]
    fn who_has_left_before_others_know_of_him_is_not_there() {
        let mut registry = Registry::default();
        registry.enter(user(1), session(1, true));
        registry.enter(user(1), session(2, true));
        registry.leave(user(1), 1);
        assert!(!registry.counted(user(1), 1) && registry.counted(user(1), 2));
        assert!(registry.leave(user(1), 2).is_some_and(|left| left.is_counted));
    }

    #[test]
    fn a_mark_never_goes_back_and_survives_an_older_write() {
        let mut registry = Registry::default();
        registry.received(user(1), AlarmId::from_stored(5));
        let writing = registry.marks_to_write(10);
        registry.received(user(1), AlarmId::from_stored(9));
        registry.received(user(1), AlarmId::from_stored(7));
        registry.marks_written(&writing);
        assert_eq!(registry.received_mark(user(1)), Some(AlarmId::from_stored(9)));
        let writing = registry.marks_to_write(10);
        registry.marks_written(&writing);
        assert_eq!(registry.received_mark(user(1)), None);
    }

    #[test]
    fn marks_are_written_in_turns() {
        let mut registry = Registry::default();
        for id in [4, 2, 5, 1, 3] {
            registry.received(user(id), AlarmId::from_stored(9));
        }
        let mut turns = || -> Vec<i64> { registry.marks_to_write(2).iter().map(|(user, _)| user.get()).collect() };
        assert_eq!(
            [turns(), turns(), turns()],
            [vec![1, 2], vec![3, 4], vec![5, 1]],
            "whether or not they are written"
        );
        let all = registry.marks_to_write(10);
        assert_eq!(all.len(), 5, "each once");
        registry.marks_written(&all);
        assert!(registry.marks_to_write(10).is_empty());
        registry.received(user(1), AlarmId::from_stored(10));
        assert_eq!(registry.marks_to_write(10).len(), 1);
    }
}
