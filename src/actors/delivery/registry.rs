//! The open sessions of this node by user, and the shards through which they are sent something.
//!
//! A session is identified by its [`ConnectionId`], so a late request to remove an old one can't remove a newer one.

use std::{collections::HashMap, time::Instant};

use bytes::Bytes;

use super::{
    encode::encode_alarm,
    shard::{CloseSessions, InboxEnds, LiveAlarm, Push, ShardLink, TargetedFrame},
    worker_outboxes::SessionTarget,
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
    /// The language that its user has chosen.
    locale: Option<Locale>,
    /// Whether `locale` was set after the current inbox check began, so that the check may have read an older one.
    has_newer_locale: bool,
}

impl RegisteredSession {
    /// A session that is not counted yet.
    pub(crate) fn new(location: SessionLocation, receives_alarms: bool, locale: Option<Locale>, at: Timestamp) -> Self {
        Self { location, receives_alarms, at, is_counted: false, locale, has_newer_locale: true }
    }
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

    /// Sets the language of the user's sessions.
    pub(crate) fn set_locale(&mut self, user: UserId, locale: Option<Locale>) {
        for session in self.sessions_by_user.get_mut(&user).into_iter().flatten() {
            (session.locale, session.has_newer_locale) = (locale, true);
        }
    }

    /// An inbox check begins. Returns the users who have a session.
    pub(crate) fn begin_check(&mut self) -> Vec<UserId> {
        self.sessions_by_user.values_mut().flatten().for_each(|session| session.has_newer_locale = false);
        self.users()
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

// Sending.

impl Registry {
    /// Adds a worker's shard.
    pub(crate) fn attach_shard(&mut self, index: usize, link: ShardLink) {
        // Workers start in any order. A place of the list whose shard is not attached yet may hold any link, because no
        // session is on that shard.
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

    /// Sends the alarms of one commit to the sessions of their receivers: one message for each shard. `locale` is the
    /// language of users who have chosen none.
    pub(crate) fn deliver(
        &self,
        alarms: &[(Alarm, Vec<Receiver>)],
        committed_at: Instant,
        locale: impl Fn() -> Locale,
    ) {
        let mut pushes: Vec<Vec<TargetedFrame>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (alarm, receivers) in alarms {
            for (shard, delivery) in self.deliveries((alarm, committed_at), receivers, locale(), self.shards.len()) {
                if let Some(push) = pushes.get_mut(shard) {
                    push.push(delivery);
                }
            }
        }
        for (shard, push) in self.shards.iter().zip(pushes) {
            if !push.is_empty() {
                shard.push(Push(push));
            }
        }
    }

    /// The deliveries of an alarm, each with its shard: one for each shard and language that has any receiver. An alarm
    /// is encoded once for each language, however many receivers it has.
    fn deliveries(
        &self,
        (alarm, committed_at): (&Alarm, Instant),
        receivers: &[Receiver],
        default: Locale,
        shards: usize,
    ) -> Vec<(usize, TargetedFrame)> {
        const LOCALES: usize = Locale::ALL.len();
        // Those of a shard are side by side, in the order of the languages.
        let mut targets: Vec<Vec<SessionTarget>> = vec![Vec::new(); shards * LOCALES];
        for Receiver { user, after } in receivers {
            for session in self.sessions(*user).filter(|session| session.receives_alarms) {
                let SessionLocation { shard, slot, connection } = session.location;
                let locale = session.locale.unwrap_or(default);
                if let Some(targets) = targets.get_mut(shard * LOCALES + locale as usize) {
                    targets.push(SessionTarget { slot, connection, after: *after });
                }
            }
        }
        let mut frames: [Option<Bytes>; LOCALES] = Default::default();
        let filled = targets.into_iter().enumerate().filter(|(_, targets)| !targets.is_empty());
        let delivery = |(at, targets): (usize, Vec<SessionTarget>)| {
            let (shard, locale) = (at / LOCALES, at % LOCALES);
            let frame = frames[locale].get_or_insert_with(|| encode_alarm(alarm, false, Locale::ALL[locale])).clone();
            (shard, TargetedFrame { alarm: Some(LiveAlarm { id: alarm.id, committed_at }), frame, targets })
        };
        filled.map(delivery).collect()
    }

    /// Sends a frame that is not an alarm to the user's alarm sessions.
    pub(crate) fn send_to_user(&self, user: UserId, frame: &Bytes) {
        self.each_shard(self.alarm_sessions(user).map(|location| (location, AlarmCursor::START)), |shard, targets| {
            shard.push_or_drop(Push(vec![TargetedFrame { alarm: None, frame: frame.clone(), targets }]));
        });
    }

    /// Sends users' sessions the newest alarms of their inboxes, sets their language, and closes the sessions of users
    /// who are no longer active.
    pub(crate) fn check_inboxes(&mut self, ends: &[InboxEnd]) {
        for end in ends {
            let sessions = self.sessions_by_user.get_mut(&end.user).into_iter().flatten();
            sessions.filter(|session| !session.has_newer_locale).for_each(|session| session.locale = end.locale);
        }
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
        RegisteredSession::new(location(connection), receives_alarms, None, Timestamp::from_secs(0))
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

    /// A session of a user who has chosen this language, on this shard.
    fn session_in(connection: u64, shard: usize, locale: Option<Locale>) -> RegisteredSession {
        let location = SessionLocation { shard, slot: 0, connection: ConnectionId(connection) };
        RegisteredSession::new(location, true, locale, Timestamp::from_secs(0))
    }

    fn receivers(users: std::ops::RangeInclusive<i64>) -> Vec<Receiver> {
        users.map(|id| Receiver { user: user(id), after: AlarmCursor::START }).collect()
    }

    fn end(id: i64, locale: Option<Locale>) -> InboxEnd {
        InboxEnd { user: user(id), end: AlarmCursor::START, is_active: true, locale }
    }

    fn notice() -> Alarm {
        let at = Timestamp::from_secs(1);
        let goods = crate::domain::GoodsState {
            id: crate::domain::GoodsId::from_stored(1),
            seller: user(9),
            title: "camera".to_owned(),
            phase: crate::domain::Phase::Live,
            starts_at: at,
            ends_at: at,
            start_price: crate::domain::Price::from_stored(1),
            min_increment: crate::domain::Price::from_stored(1),
            lead: None,
            bid_seq: crate::domain::BidSeq::NONE,
            ending_soon_done: false,
        };
        let (id, event) = (crate::domain::AlarmId::from_stored(5), crate::domain::EventId::from_stored(5));
        Alarm::about(crate::domain::AlarmKind::AuctionStarted, id, event, &goods, None, at)
    }

    #[test]
    fn an_alarm_is_encoded_once_for_each_language_whatever_its_receivers() {
        let mut registry = Registry::default();
        // Users 1 to 30: a third has chosen each language, a third none; on two of the shards.
        for id in 1..=30 {
            let locale = [None, Some(Locale::Ko), Some(Locale::En)][id as usize % 3];
            registry.register(user(id), session_in(id as u64, id as usize % 2, locale));
        }
        for default in Locale::ALL {
            let deliveries = registry.deliveries((&notice(), Instant::now()), &receivers(1..=40), default, 3);
            let of = |locale: Locale| {
                let expected = encode_alarm(&notice(), false, locale);
                deliveries.iter().filter(|(_, one)| one.frame == expected).map(|(shard, one)| (*shard, one)).collect()
            };
            for locale in Locale::ALL {
                let found: Vec<(usize, &TargetedFrame)> = of(locale);
                assert_eq!(found.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [0, 1]);
                assert!(found.iter().all(|(_, one)| one.frame.as_ptr() == found[0].1.frame.as_ptr()), "the same bytes");
                let targets: usize = found.iter().map(|(_, one)| one.targets.len()).sum();
                assert_eq!(targets, if locale == default { 20 } else { 10 });
            }
            assert_eq!(deliveries.len(), 4, "each shard one for each language");
        }
        registry.set_locale(user(3), Some(Locale::En));
        let one = registry.deliveries((&notice(), Instant::now()), &receivers(3..=3), Locale::Ko, 3);
        assert!(one.len() == 1 && one[0].1.frame == encode_alarm(&notice(), false, Locale::En));
        assert!(registry.deliveries((&notice(), Instant::now()), &receivers(50..=60), Locale::Ko, 3).is_empty());
    }

    #[test]
    fn an_inbox_check_sets_the_language_unless_it_may_have_read_an_older_one() {
        let mut registry = Registry::default();
        registry.register(user(1), session_in(1, 0, None));
        let locale = |registry: &Registry| registry.sessions(user(1)).next().unwrap().locale;
        registry.check_inboxes(&[end(1, Some(Locale::En))]);
        assert_eq!(locale(&registry), None, "it has registered since the check began");
        assert_eq!(registry.begin_check(), [user(1)]);
        registry.check_inboxes(&[end(1, Some(Locale::En))]);
        assert_eq!(locale(&registry), Some(Locale::En));
        registry.begin_check();
        registry.set_locale(user(1), Some(Locale::Ko));
        registry.check_inboxes(&[end(1, Some(Locale::En))]);
        assert_eq!(locale(&registry), Some(Locale::Ko), "it was set since the check began");
        registry.begin_check();
        registry.check_inboxes(&[end(1, None)]);
        assert_eq!(locale(&registry), None);
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
