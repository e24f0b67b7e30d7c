//! The hub's plain data: the open sessions by user, and how far each user has received alarms.
//!
//! A session is identified by its [`ConnectionId`], so a late request to remove an old one can't remove a newer one.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Unbounded},
};

use crate::{
    bus::ConnectionId,
    domain::{AlarmId, Timestamp, UserId},
};

/// Where a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionLocation {
    /// Index of its worker's shard.
    pub shard: usize,
    /// Its slot in that shard. Slots are reused, so `connection` says whether the session is still there.
    pub slot: usize,
    pub connection: ConnectionId,
}

/// A registered session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegisteredSession {
    pub location: SessionLocation,
    /// Whether it receives its user's alarms; if not, it is in a room.
    pub receives_alarms: bool,
    /// When it was opened.
    pub at: Timestamp,
    /// Whether Redis may hold it among its user's sockets, so that it must be removed there when it ends.
    pub is_counted: bool,
}

#[derive(Default)]
pub(crate) struct Registry {
    sessions_by_user: HashMap<UserId, Vec<RegisteredSession>>,
    session_count: usize,
    /// Received cursors that are not stored yet.
    received: BTreeMap<UserId, AlarmId>,
    /// The last user of the last batch of cursors; the next batch begins after them.
    last_in_batch: Option<UserId>,
}

impl Registry {
    /// Adds a session.
    pub(crate) fn register(&mut self, user: UserId, session: RegisteredSession) {
        self.sessions_by_user.entry(user).or_default().push(session);
        self.session_count += 1;
    }

    /// The connection of the user's oldest session, if they have more than `limit`.
    pub(crate) fn oldest_over_limit(&self, user: UserId, limit: usize) -> Option<ConnectionId> {
        let sessions = self.sessions_by_user.get(&user).filter(|sessions| sessions.len() > limit)?;
        sessions.iter().map(|session| session.location.connection).min()
    }

    /// Sets `is_counted` of a session; false if the session has ended.
    pub(crate) fn set_counted(&mut self, user: UserId, connection: ConnectionId) -> bool {
        let mut sessions = self.sessions_by_user.get_mut(&user).into_iter().flatten();
        let session = sessions.find(|session| session.location.connection == connection);
        session.map(|session| session.is_counted = true).is_some()
    }

    /// Removes a session and returns it; `None` if it was not there. A user without sessions takes no memory.
    pub(crate) fn unregister(&mut self, user: UserId, connection: ConnectionId) -> Option<RegisteredSession> {
        let sessions = self.sessions_by_user.get_mut(&user)?;
        let at = sessions.iter().position(|session| session.location.connection == connection)?;
        let removed = sessions.swap_remove(at);
        self.session_count -= 1;
        if sessions.is_empty() {
            self.sessions_by_user.remove(&user);
        }
        Some(removed)
    }

    /// The users who have a session.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.sessions_by_user.keys().copied().collect()
    }

    /// The user's sessions.
    pub(crate) fn sessions(&self, user: UserId) -> impl Iterator<Item = &RegisteredSession> {
        self.sessions_by_user.get(&user).into_iter().flatten()
    }

    /// The user's sessions that receive alarms.
    pub(crate) fn alarm_sessions(&self, user: UserId) -> impl Iterator<Item = SessionLocation> {
        self.sessions(user).filter(|session| session.receives_alarms).map(|session| session.location)
    }

    /// The numbers of open sessions and of connected users.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.session_count, self.sessions_by_user.len())
    }

    /// A session has proved that its user received every alarm up to `up_to`.
    pub(crate) fn received(&mut self, user: UserId, up_to: AlarmId) {
        let cursor = self.received.entry(user).or_insert(up_to);
        *cursor = (*cursor).max(up_to);
    }

    /// The user's received cursor, if it is not stored yet.
    pub(crate) fn received_cursor(&self, user: UserId) -> Option<AlarmId> {
        self.received.get(&user).copied()
    }

    /// Whether some received cursors are not stored yet.
    pub(crate) fn has_unwritten_cursors(&self) -> bool {
        !self.received.is_empty()
    }

    /// The next batch of at most `limit` received cursors. Batches go round in the order of user ids: neighbours' rows
    /// share database pages, and each user gets their turn.
    pub(crate) fn cursors_to_write(&mut self, limit: usize) -> Vec<(UserId, AlarmId)> {
        let begin = self.last_in_batch.map_or(Unbounded, Excluded);
        let after = self.received.range((begin, Unbounded));
        let before = self.last_in_batch.map(|last| self.received.range(..=last));
        let all = after.chain(before.into_iter().flatten());
        let cursors: Vec<_> = all.take(limit).map(|(user, up_to)| (*user, *up_to)).collect();
        self.last_in_batch = cursors.last().map(|(user, _)| *user);
        cursors
    }

    /// Forgets the cursors that are stored now; a cursor that has advanced meanwhile stays.
    pub(crate) fn cursors_written(&mut self, written: &[(UserId, AlarmId)]) {
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

    fn location(connection: u64) -> SessionLocation {
        SessionLocation { shard: 0, slot: 0, connection: ConnectionId(connection) }
    }

    fn session(connection: u64, receives_alarms: bool) -> RegisteredSession {
        let at = Timestamp::from_secs(0);
        RegisteredSession { location: location(connection), receives_alarms, at, is_counted: false }
    }

    #[test]
    fn the_oldest_session_of_a_user_over_the_limit_is_named() {
        let mut registry = Registry::default();
        for connection in [2, 1, 3] {
            registry.register(user(1), session(connection, true));
        }
        registry.register(user(2), session(4, true));
        assert_eq!(registry.counts(), (4, 2));
        assert_eq!([3, 2].map(|limit| registry.oldest_over_limit(user(1), limit)), [None, Some(ConnectionId(1))]);
        assert_eq!(registry.oldest_over_limit(user(2), 1), None);
        registry.unregister(user(1), ConnectionId(1));
        assert_eq!(registry.oldest_over_limit(user(1), 1), Some(ConnectionId(2)));
    }

    #[test]
    fn a_socket_in_a_room_counts_and_receives_no_alarms() {
        let mut registry = Registry::default();
        registry.register(user(1), session(1, false));
        registry.register(user(1), session(2, true));
        assert_eq!(registry.oldest_over_limit(user(1), 1), Some(ConnectionId(1)));
        assert_eq!(registry.alarm_sessions(user(1)).collect::<Vec<_>>(), [location(2)]);
        assert_eq!(registry.sessions(user(1)).count(), 2);
    }

    #[test]
    fn a_late_unregister_removes_no_other_session() {
        let mut registry = Registry::default();
        let second = session(2, true);
        registry.register(user(1), second);
        assert_eq!(
            (registry.unregister(user(1), ConnectionId(1)), registry.unregister(user(2), ConnectionId(2))),
            (None, None)
        );
        assert_eq!(registry.sessions(user(1)).collect::<Vec<_>>(), [&second]);
        assert_eq!(
            (registry.unregister(user(1), ConnectionId(2)), registry.unregister(user(1), ConnectionId(2))),
            (Some(second), None)
        );
        assert_eq!(registry.counts(), (0, 0));
    }

    #[test]
    fn a_session_that_ended_before_it_was_counted_is_not_found() {
        let mut registry = Registry::default();
        registry.register(user(1), session(1, true));
        registry.register(user(1), session(2, true));
        registry.unregister(user(1), ConnectionId(1));
        assert!(!registry.set_counted(user(1), ConnectionId(1)) && registry.set_counted(user(1), ConnectionId(2)));
        assert!(registry.unregister(user(1), ConnectionId(2)).is_some_and(|removed| removed.is_counted));
    }

    #[test]
    fn a_received_cursor_never_goes_back_and_survives_an_older_write() {
        let mut registry = Registry::default();
        registry.received(user(1), AlarmId::from_stored(5));
        let writing = registry.cursors_to_write(10);
        registry.received(user(1), AlarmId::from_stored(9));
        registry.received(user(1), AlarmId::from_stored(7));
        registry.cursors_written(&writing);
        assert_eq!(registry.received_cursor(user(1)), Some(AlarmId::from_stored(9)));
        let writing = registry.cursors_to_write(10);
        registry.cursors_written(&writing);
        assert_eq!(registry.received_cursor(user(1)), None);
    }

    #[test]
    fn batches_of_cursors_go_round_all_users() {
        let mut registry = Registry::default();
        for id in [4, 2, 5, 1, 3] {
            registry.received(user(id), AlarmId::from_stored(9));
        }
        let mut batch = || -> Vec<i64> { registry.cursors_to_write(2).iter().map(|(user, _)| user.get()).collect() };
        assert_eq!(
            [batch(), batch(), batch()],
            [vec![1, 2], vec![3, 4], vec![5, 1]],
            "whether or not they are written"
        );
        let all = registry.cursors_to_write(10);
        assert_eq!(all.len(), 5, "each once");
        registry.cursors_written(&all);
        assert!(registry.cursors_to_write(10).is_empty());
        registry.received(user(1), AlarmId::from_stored(10));
        assert_eq!(registry.cursors_to_write(10).len(), 1);
    }
}
