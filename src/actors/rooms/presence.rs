//! A room with what is to be told in it: whose coming and going is yet to be told to its sockets, who has been told to be
//! there, and with several nodes the course of its events.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;

use super::{cluster_sync::ClusterSync, membership::Room};
use crate::actors::delivery::{encode::encode, shard::RoomOrder};
use crate::{
    domain::{User, UserId},
    protocol::RoomFrame,
};

/// In larger rooms comings and goings are gathered for so long per thousand sockets, at most a second: ten thousand who
/// come in one after another are fifty million frames, which must not keep anybody's bid waiting.
const GATHER_MS_PER_THOUSAND: usize = 100;
const GATHER_AT_MOST: Duration = Duration::from_secs(1);
const GATHER_AT_LEAST: Duration = Duration::from_millis(20);

pub(crate) struct RoomState {
    pub room: Room,
    /// Who is in the room as far as it has been told: what a page shows must go with the frames that follow it.
    told: BTreeMap<UserId, Arc<User>>,
    /// The same as a list, until it changes.
    list: Option<Arc<[Arc<User>]>>,
    /// The auction is over: nothing here to recommend.
    pub is_over: bool,
    /// Who has come or gone and has not been told of, in that order, each once.
    untold: VecDeque<UserId>,
    is_untold: HashSet<UserId>,
    /// Bytes of comings and goings that were told ahead of news since they were told last by themselves.
    pub told_ahead: usize,
    pub gathering: bool,
    pub hearing: ClusterSync,
}

impl RoomState {
    pub(crate) fn new(is_over: bool) -> Self {
        Self {
            room: Room::default(),
            told: BTreeMap::new(),
            list: None,
            is_over,
            untold: VecDeque::new(),
            is_untold: HashSet::new(),
            told_ahead: 0,
            gathering: false,
            hearing: ClusterSync::default(),
        }
    }

    /// How long comings and goings are gathered. As many as are in the room, on whichever node, can go at once.
    pub(crate) fn gather_for(&self) -> Duration {
        let ms = self.size() * GATHER_MS_PER_THOUSAND / 1000;
        Duration::from_millis(ms as u64).clamp(GATHER_AT_LEAST, GATHER_AT_MOST)
    }

    /// How many have something to do with this room: sockets here, users anywhere.
    pub(crate) fn size(&self) -> usize {
        self.room.sockets().max(self.room.participants())
    }

    /// Somebody has come, or gone. However often he does before it is told, it is remembered once.
    pub(crate) fn moved(&mut self, user: UserId) {
        if self.room.sockets() == 0 {
            return self.tell_nobody(Some(user));
        }
        if self.is_untold.insert(user) {
            self.untold.push_back(user);
        }
    }

    /// Somebody has come or gone and has not been told of.
    pub(crate) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Frames of comings and goings that have not been told, in order, up to so many bytes.
    pub(crate) fn take_untold(&mut self, at_most: usize) -> Option<RoomOrder> {
        let mut bytes = BytesMut::new();
        while bytes.len() < at_most
            && let Some(user) = self.untold.pop_front()
        {
            self.is_untold.remove(&user);
            // Who is there again has gone in between, and his new page waits for his coming.
            if self.told.contains_key(&user) {
                self.is_told(user, None);
                let out = RoomFrame::Out { participants_count: self.told.len(), user_id: user };
                bytes.extend_from_slice(&encode(&out));
            }
            if let Some(now) = self.room.user(user) {
                self.is_told(user, Some(Arc::clone(&now)));
                bytes.extend_from_slice(&encode(&RoomFrame::Enter {
                    sender: user,
                    sender_name: &now.username,
                    participants_count: self.told.len(),
                    user_id: user,
                }));
            }
        }
        (!bytes.is_empty()).then(|| RoomOrder::Frame { bytes: bytes.freeze(), id: 0 })
    }

    /// What a room hears before its news: nobody bids before he has come in. Of a crowd only so much until it is told by
    /// itself again, however many news there are: who reads is not too slow.
    pub(crate) fn take_ahead(&mut self, at_most: usize) -> Option<RoomOrder> {
        let ahead = self.take_untold(at_most.saturating_sub(self.told_ahead));
        if let Some(RoomOrder::Frame { bytes, .. }) = &ahead {
            self.told_ahead += bytes.len();
        }
        ahead
    }

    fn is_told(&mut self, user: UserId, now: Option<Arc<User>>) {
        self.list = None;
        match now {
            Some(now) => drop(self.told.insert(user, now)),
            None => drop(self.told.remove(&user)),
        }
    }

    /// There is nobody to tell it to.
    fn tell_nobody(&mut self, more: Option<UserId>) {
        self.is_untold.clear();
        for user in std::mem::take(&mut self.untold).into_iter().chain(more) {
            self.is_told(user, self.room.user(user));
        }
    }

    /// How many are in the room as far as it has been told.
    pub(crate) fn count(&self) -> usize {
        self.told.len()
    }

    /// Who they are, by id.
    pub(crate) fn list(&mut self) -> Arc<[Arc<User>]> {
        Arc::clone(self.list.get_or_insert_with(|| self.told.values().map(Arc::clone).collect()))
    }

    /// Nobody is here to hear anything any more.
    pub(crate) fn stop_hearing(&mut self) {
        // Generations begin with 1: whatever an earlier one finds out means nothing any more.
        self.hearing = ClusterSync::default();
        self.tell_nobody(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(id: i64) -> Arc<User> {
        Arc::new(User::first_seen(UserId::from_stored(id), None, None))
    }

    /// What a page in the room has made of what it heard.
    #[derive(Default)]
    struct Page {
        there: std::collections::BTreeSet<i64>,
        heard: usize,
    }

    impl Page {
        fn hears(&mut self, told: Option<RoomOrder>) {
            let Some(RoomOrder::Frame { mut bytes, .. }) = told else { return };
            while !bytes.is_empty() {
                let header = if bytes[1] == 126 { 4 } else { 2 };
                let length =
                    if header == 4 { usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) } else { bytes[1].into() };
                let frame: serde_json::Value = serde_json::from_slice(&bytes[header..header + length]).unwrap();
                bytes = bytes.split_off(header + length);
                let id = frame["user_id"].as_i64().unwrap();
                match frame["response_type"].as_str().unwrap() {
                    "enter" => assert!(self.there.insert(id), "{frame} twice"),
                    _ => assert!(self.there.remove(&id), "{frame} for somebody who was not there"),
                }
                assert_eq!(frame["participants_count"], self.there.len(), "{frame}");
                self.heard += 1;
            }
        }
    }

    /// A room with a visitor, who hears what happens.
    fn heard_hall() -> RoomState {
        let mut hall = RoomState::new(false);
        assert!(hall.room.enter(None, 0).is_none());
        hall
    }

    #[test]
    fn who_comes_and_goes_without_end_is_remembered_once() {
        let (mut hall, mut page) = (heard_hall(), Page::default());
        for turn in 0..10_000 {
            let connection = 1 + turn;
            hall.room.enter(Some(user(1)), connection);
            hall.moved(user(1).id);
            hall.room.leave(connection);
            hall.moved(user(1).id);
        }
        page.hears(hall.take_untold(usize::MAX));
        assert_eq!(page.heard, 0, "nobody has heard of him");
        hall.room.enter(Some(user(1)), 1);
        hall.moved(user(1).id);
        page.hears(hall.take_untold(usize::MAX));
        for connection in [1, 2] {
            hall.room.leave(connection);
            hall.moved(user(1).id);
            hall.room.enter(Some(user(1)), connection + 1);
            hall.moved(user(1).id);
        }
        page.hears(hall.take_untold(usize::MAX));
        assert_eq!(page.heard, 3, "he came, went, and his new page waits for his coming");
    }

    #[test]
    fn of_a_crowd_only_so_much_is_told_ahead_of_news() {
        let mut hall = heard_hall();
        for id in 1..10_000 {
            hall.room.enter(Some(user(id)), id.cast_unsigned());
            hall.moved(UserId::from_stored(id));
        }
        let told = std::iter::repeat_with(|| hall.take_ahead(50_000)).map_while(|told| told).count();
        assert_eq!((told, (50_000..50_300).contains(&hall.told_ahead)), (1, true), "however many news");
        assert!(hall.has_untold());
    }

    proptest! {
        /// However comings, goings and tellings are mixed, a page that follows the frames knows who is there, and what a
        /// new page would show is what has been told.
        #[test]
        fn a_page_that_follows_knows_who_is_there(steps in prop::collection::vec((0u64..6, 0usize..400), 1..150)) {
            let (mut hall, mut page) = (heard_hall(), Page::default());
            let mut open = std::collections::BTreeSet::new();
            for (which, at_most) in steps {
                // Two sockets for each user.
                let id = UserId::from_stored(1 + which.cast_signed() / 2);
                let change = if open.remove(&which) {
                    hall.room.leave(100 + which)
                } else {
                    open.insert(which);
                    hall.room.enter(Some(user(id.get())), 100 + which)
                };
                if change.unwrap().anywhere {
                    hall.moved(id);
                }
                page.hears(hall.take_untold(at_most));
                prop_assert_eq!(hall.list().iter().map(|user| user.id.get()).collect::<Vec<_>>(), Vec::from_iter(page.there.clone()));
            }
            page.hears(hall.take_untold(usize::MAX));
            prop_assert_eq!(Vec::from_iter(page.there), hall.room.users().map(|user| user.id.get()).collect::<Vec<_>>());
        }
    }
}
