//! The state of one room: its members, and the joins and leaves that its sockets have not been sent yet.
//!
//! Joins and leaves are merged per user and sent in bounded amounts, so that a large room can't flood its own sockets.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;

use super::membership::RoomMembers;
use crate::actors::delivery::{encode::encode, frame::FrameKind, shard::RoomOrder};
use crate::{
    domain::{User, UserId},
    protocol::RoomFrame,
};

/// In a large room joins and leaves are gathered for this long per thousand sockets, within the two bounds below. Ten
/// thousand users who come one after another would otherwise be fifty million frames, and delay every bid.
const GATHER_MS_PER_THOUSAND: usize = 100;
const MAX_GATHER_INTERVAL: Duration = Duration::from_secs(1);
const MIN_GATHER_INTERVAL: Duration = Duration::from_millis(20);

/// Room membership, plus joins and leaves not yet broadcast.
pub(crate) struct RoomState {
    pub members: RoomMembers,
    /// Users who are present according to the frames sent so far. Clients that ask who is here get these users, because
    /// they go on from there with the frames that follow.
    announced: BTreeMap<UserId, Arc<User>>,
    /// The same users as a list. `None` after a change, until somebody asks for it.
    announced_list: Option<Arc<[Arc<User>]>>,
    /// The auction is over: the room is not recommended any more.
    pub is_over: bool,
    /// Users whose join or leave is not broadcast yet, oldest first, each once.
    pending: VecDeque<UserId>,
    is_pending: HashSet<UserId>,
    /// Bytes of joins and leaves that were sent ahead of room events in this gather interval.
    pub bytes_ahead: usize,
    /// The number of watchers that the sockets have been sent last.
    pub watchers_sent: usize,
    /// A gather interval is running; at its end pending joins and leaves are broadcast.
    pub is_gathering: bool,
}

impl RoomState {
    pub(crate) fn new(is_over: bool) -> Self {
        Self {
            members: RoomMembers::default(),
            announced: BTreeMap::new(),
            announced_list: None,
            is_over,
            pending: VecDeque::new(),
            is_pending: HashSet::new(),
            bytes_ahead: 0,
            watchers_sent: 0,
            is_gathering: false,
        }
    }

    /// How long joins and leaves are gathered. It grows with [`size`](Self::size), because as many users can leave at
    /// once.
    pub(crate) fn gather_interval(&self) -> Duration {
        let ms = self.size() * GATHER_MS_PER_THOUSAND / 1000;
        Duration::from_millis(ms as u64).clamp(MIN_GATHER_INTERVAL, MAX_GATHER_INTERVAL)
    }

    /// The sockets on this node or the users on all nodes, whichever are more.
    pub(crate) fn size(&self) -> usize {
        self.members.sockets().max(self.members.participants())
    }

    /// Notes that a user has joined or left. Several changes before the next broadcast are one entry.
    pub(crate) fn presence_changed(&mut self, user: UserId) {
        if self.members.sockets() == 0 {
            return self.apply_without_frames(Some(user));
        }
        if self.is_pending.insert(user) {
            self.pending.push_back(user);
        }
    }

    /// Whether joins or leaves wait to be broadcast.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes the frames of pending joins and leaves, oldest first, until they have at least `max_bytes`. `None` if
    /// there are no frames.
    pub(crate) fn take_pending(&mut self, max_bytes: usize) -> Option<RoomOrder> {
        let mut bytes = BytesMut::new();
        while bytes.len() < max_bytes
            && let Some(user) = self.pending.pop_front()
        {
            self.is_pending.remove(&user);
            // An announced user who is here now has left and come back. They get both frames, because their new page
            // waits for their own `enter`.
            if self.announced.contains_key(&user) {
                self.set_announced(user, None);
                let out = RoomFrame::Out { participants_count: self.announced.len(), user_id: user };
                bytes.extend_from_slice(&encode(&out));
            }
            if let Some(now) = self.members.user(user) {
                self.set_announced(user, Some(Arc::clone(&now)));
                bytes.extend_from_slice(&encode(&RoomFrame::Enter {
                    sender: user,
                    sender_name: &now.username,
                    participants_count: self.announced.len(),
                    user_id: user,
                }));
            }
        }
        (!bytes.is_empty()).then(|| RoomOrder::Frame { bytes: bytes.freeze(), kind: FrameKind::Other })
    }

    /// Takes pending joins and leaves to send ahead of a room event, so that nobody bids before they have joined: at
    /// most `max_bytes` per gather interval, however many events there are, so that no client that reads is too slow.
    pub(crate) fn take_pending_ahead(&mut self, max_bytes: usize) -> Option<RoomOrder> {
        let ahead = self.take_pending(max_bytes.saturating_sub(self.bytes_ahead));
        if let Some(RoomOrder::Frame { bytes, .. }) = &ahead {
            self.bytes_ahead += bytes.len();
        }
        ahead
    }

    fn set_announced(&mut self, user: UserId, now: Option<Arc<User>>) {
        self.announced_list = None;
        match now {
            Some(now) => drop(self.announced.insert(user, now)),
            None => drop(self.announced.remove(&user)),
        }
    }

    /// Settles all pending changes, and that of `more`, without frames: no socket is here to receive them.
    pub(crate) fn apply_without_frames(&mut self, more: Option<UserId>) {
        self.is_pending.clear();
        for user in std::mem::take(&mut self.pending).into_iter().chain(more) {
            self.set_announced(user, self.members.user(user));
        }
    }

    /// Takes the number of watchers to send, if it differs from the one sent last by a hundredth of that or more.
    /// `elsewhere` are the visitors on other nodes.
    pub(crate) fn take_watchers(&mut self, elsewhere: usize) -> Option<usize> {
        let watchers = self.watchers(elsewhere);
        let (changed, before) = (watchers.abs_diff(self.watchers_sent), self.watchers_sent);
        if self.members.sockets() == 0 || changed == 0 || changed * 100 < before {
            return None;
        }
        self.watchers_sent = watchers;
        Some(watchers)
    }

    /// How many watch: users on all nodes, visitors here and those `elsewhere`.
    pub(crate) fn watchers(&self, elsewhere: usize) -> usize {
        self.members.participants() + self.members.visitors() + elsewhere
    }

    /// How many users are in the room, according to the frames sent so far.
    pub(crate) fn count(&self) -> usize {
        self.announced.len()
    }

    /// These users, ordered by id.
    pub(crate) fn list(&mut self) -> Arc<[Arc<User>]> {
        Arc::clone(self.announced_list.get_or_insert_with(|| self.announced.values().map(Arc::clone).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::ConnectionId;
    use proptest::prelude::*;

    fn user(id: i64) -> Arc<User> {
        Arc::new(User::first_seen(UserId::from_stored(id), None, None))
    }

    /// A client that applies the frames it receives.
    #[derive(Default)]
    struct Page {
        present: std::collections::BTreeSet<i64>,
        frames: usize,
    }

    impl Page {
        fn receive(&mut self, order: Option<RoomOrder>) {
            let Some(RoomOrder::Frame { mut bytes, .. }) = order else { return };
            while !bytes.is_empty() {
                let header = if bytes[1] == 126 { 4 } else { 2 };
                let length =
                    if header == 4 { usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) } else { bytes[1].into() };
                let frame: serde_json::Value = serde_json::from_slice(&bytes[header..header + length]).unwrap();
                bytes = bytes.split_off(header + length);
                let id = frame["user_id"].as_i64().unwrap();
                match frame["response_type"].as_str().unwrap() {
                    "enter" => assert!(self.present.insert(id), "{frame} twice"),
                    _ => assert!(self.present.remove(&id), "{frame} for somebody who was not there"),
                }
                assert_eq!(frame["participants_count"], self.present.len(), "{frame}");
                self.frames += 1;
            }
        }
    }

    /// A room with one socket, a visitor's, so that there is somebody to send frames to.
    fn room_with_visitor() -> RoomState {
        let mut room = RoomState::new(false);
        assert!(room.members.enter(None, ConnectionId(0)).is_none());
        room
    }

    #[test]
    fn watchers_are_sent_when_they_have_changed_by_a_hundredth() {
        let mut room = room_with_visitor();
        assert_eq!(room.take_watchers(0), Some(1));
        assert_eq!(room.take_watchers(0), None, "no change");
        for connection in 1..=199 {
            room.members.enter(Some(user(connection)), ConnectionId(connection.unsigned_abs()));
        }
        assert_eq!(room.take_watchers(0), Some(200));
        assert_eq!(room.take_watchers(1), None, "half a hundredth");
        assert_eq!(room.take_watchers(2), Some(202), "visitors on other nodes count");
        room.members.leave(ConnectionId(1));
        room.members.leave(ConnectionId(0));
        assert_eq!(room.take_watchers(2), None, "not quite a hundredth of 202");
        room.members.leave(ConnectionId(2));
        assert_eq!(room.take_watchers(2), Some(199));
        let mut empty = RoomState::new(false);
        assert_eq!(empty.take_watchers(5), None, "no socket is here to receive it");
    }

    #[test]
    fn repeated_joins_and_leaves_of_one_user_are_one_pending_entry() {
        let (mut room, mut page) = (room_with_visitor(), Page::default());
        for turn in 0..10_000 {
            let connection = 1 + turn;
            room.members.enter(Some(user(1)), ConnectionId(connection));
            room.presence_changed(user(1).id);
            room.members.leave(ConnectionId(connection));
            room.presence_changed(user(1).id);
        }
        page.receive(room.take_pending(usize::MAX));
        assert_eq!(page.frames, 0, "they were never announced");
        room.members.enter(Some(user(1)), ConnectionId(1));
        room.presence_changed(user(1).id);
        page.receive(room.take_pending(usize::MAX));
        for connection in [1, 2] {
            room.members.leave(ConnectionId(connection));
            room.presence_changed(user(1).id);
            room.members.enter(Some(user(1)), ConnectionId(connection + 1));
            room.presence_changed(user(1).id);
        }
        page.receive(room.take_pending(usize::MAX));
        assert_eq!(page.frames, 3, "enter, then out and enter for their new page");
    }

    #[test]
    fn joins_ahead_of_room_events_are_bounded() {
        let mut room = room_with_visitor();
        for id in 1..10_000 {
            room.members.enter(Some(user(id)), ConnectionId(id.cast_unsigned()));
            room.presence_changed(UserId::from_stored(id));
        }
        let orders = std::iter::repeat_with(|| room.take_pending_ahead(50_000)).map_while(|order| order).count();
        assert_eq!((orders, (50_000..50_300).contains(&room.bytes_ahead)), (1, true), "however many events follow");
        assert!(room.has_pending());
    }

    proptest! {
        /// In any mix of joins, leaves and broadcasts, a page that applies all frames knows who is present, and the
        /// list that a new page gets agrees with the frames sent so far.
        #[test]
        fn a_page_that_applies_all_frames_knows_who_is_present(steps in prop::collection::vec((0u64..6, 0usize..400), 1..150)) {
            let (mut room, mut page) = (room_with_visitor(), Page::default());
            let mut open = std::collections::BTreeSet::new();
            for (which, at_most) in steps {
                // Two sockets for each user.
                let id = UserId::from_stored(1 + which.cast_signed() / 2);
                let change = if open.remove(&which) {
                    room.members.leave(ConnectionId(100 + which))
                } else {
                    open.insert(which);
                    room.members.enter(Some(user(id.get())), ConnectionId(100 + which))
                };
                if change.unwrap().anywhere {
                    room.presence_changed(id);
                }
                page.receive(room.take_pending(at_most));
                prop_assert_eq!(room.list().iter().map(|user| user.id.get()).collect::<Vec<_>>(), Vec::from_iter(page.present.clone()));
            }
            page.receive(room.take_pending(usize::MAX));
            prop_assert_eq!(Vec::from_iter(page.present), room.members.users().map(|user| user.id.get()).collect::<Vec<_>>());
        }
    }
}
