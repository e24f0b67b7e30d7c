//! The open sessions of this node by user, and the shards through which they are sent something.
//!
//! A session is identified by its [`ConnectionId`], so a late request to remove an old one can't remove a newer one.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    encode::encode_alarm,
    shard::{CloseSessions, Delivery, InboxEnds, Push},
    shard_handle::SessionTarget,
    shard_link::ShardLink,
};
use crate::{
    bus::ConnectionId,
    domain::{Alarm, AlarmCursor, Locale, Receiver, Timestamp, UserId},
    protocol::Close,
    store::InboxEnd,
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
    pub at: Timestamp,
    /// Whether Redis may hold it among its user's sockets, so that it must be removed there when it ends.
    pub is_counted: bool,
}

/// The sessions and their shards.
#[derive(Default)]
pub(crate) struct Registry {
    /// By index of the worker.
    pub shards: Vec<ShardLink>,
    sessions_by_user: HashMap<UserId, Vec<RegisteredSession>>,
    session_count: usize,
}

// Who is connected.

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
}

// What they are sent.

impl Registry {
    /// Adds a worker's shard.
    pub(crate) fn attach_shard(&mut self, index: usize, link: ShardLink) {
        // Workers start in any order. No session is on a shard that is not attached yet, so its place may hold any
        // link.
        while self.shards.len() <= index {
            self.shards.push(link.clone());
        }
        self.shards[index] = link;
    }

    /// Groups sessions by shard, each with its [`SessionTarget::after`].
    fn by_shard(&self, sessions: impl Iterator<Item = (SessionLocation, AlarmCursor)>) -> Vec<Vec<SessionTarget>> {
        let mut by_shard: Vec<Vec<SessionTarget>> = vec![Vec::new(); self.shards.len()];
        for (SessionLocation { shard, slot, connection }, after) in sessions {
            if let Some(targets) = by_shard.get_mut(shard) {
                targets.push(SessionTarget { slot, connection, after });
            }
        }
        by_shard
    }

    /// Calls `send` for each shard that has any of these sessions.
    fn each_shard(
        &self,
        sessions: impl Iterator<Item = (SessionLocation, AlarmCursor)>,
        send: impl Fn(&ShardLink, Vec<SessionTarget>),
    ) {
        for (shard, targets) in self.shards.iter().zip(self.by_shard(sessions)) {
            if !targets.is_empty() {
                send(shard, targets);
            }
        }
    }

    /// Sends the alarms of one commit to the sessions of their receivers: one message for each shard.
    pub(crate) fn deliver(&self, alarms: &[(Alarm, Vec<Receiver>)], locale: impl Fn() -> Locale) {
        let mut pushes: Vec<Vec<Delivery>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (alarm, receivers) in alarms {
            let sessions = |to: &Receiver| {
                let after = to.after;
                self.alarm_sessions(to.user).map(move |location| (location, after))
            };
            let targets = self.by_shard(receivers.iter().flat_map(sessions));
            if targets.iter().all(Vec::is_empty) {
                continue;
            }
            let frame = encode_alarm(alarm, false, locale());
            for (push, targets) in pushes.iter_mut().zip(targets) {
                if !targets.is_empty() {
                    push.push(Delivery { alarm: Some(alarm.id), frame: frame.clone(), targets });
                }
            }
        }
        for (shard, push) in self.shards.iter().zip(pushes) {
            if !push.is_empty() {
                shard.push(Push(push));
            }
        }
    }

    /// Sends a frame that is not an alarm to the user's alarm sessions.
    pub(crate) fn send_to_user(&self, user: UserId, frame: &Bytes) {
        self.each_shard(self.alarm_sessions(user).map(|location| (location, AlarmCursor::START)), |shard, targets| {
            shard.push_or_drop(Push(vec![Delivery { alarm: None, frame: frame.clone(), targets }]));
        });
    }

    /// Sends users' sessions the newest alarms of their inboxes, and closes the sessions of users who are no longer
    /// active.
    pub(crate) fn check_inboxes(&self, ends: &[InboxEnd]) {
        ends.iter().filter(|end| !end.is_active).for_each(|end| self.close_user(end.user));
        let sessions = |end: &InboxEnd| {
            let newest = end.end;
            self.alarm_sessions(end.user).map(move |location| (location, newest))
        };
        self.each_shard(ends.iter().flat_map(sessions), |shard, targets| shard.check_inboxes(InboxEnds(targets)));
    }

    /// Closes these sessions.
    pub(crate) fn close(&self, sessions: impl Iterator<Item = SessionLocation>, close: Close) {
        self.each_shard(sessions.map(|location| (location, AlarmCursor::START)), |shard, targets| {
            shard.close(CloseSessions::These(targets, close));
        });
    }

    /// Closes all sessions of a user who is no longer active.
    pub(crate) fn close_user(&self, user: UserId) {
        self.close(self.sessions(user).map(|session| session.location), Close::TokenRefused);
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
}
