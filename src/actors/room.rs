//! Who is in a room: users, not tabs. Plain; everything is in memory and goes with the sockets, so no crash leaves a
//! ghost (fault 8).

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::Arc,
};

use crate::domain::{GoodsId, User, UserId};

/// Which room: each goods item can have two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoomId {
    /// The auction room, for everybody.
    Auction(GoodsId),
    /// The trade chat, for seller and buyer.
    Trade(GoodsId),
}

struct Present {
    user: Arc<User>,
    sockets: usize,
}

/// One room.
#[derive(Default)]
pub(super) struct Room {
    /// Open sockets, with their user (none: a visitor).
    sockets: HashMap<u64, Option<UserId>>,
    users: BTreeMap<UserId, Present>,
}

impl Room {
    /// A socket comes in; true if it is the first one of a user.
    pub(super) fn enter(&mut self, user: Option<Arc<User>>, connection: u64) -> bool {
        let id = user.as_ref().map(|user| user.id);
        if self.sockets.insert(connection, id).is_some() {
            return false;
        }
        let Some(user) = user else { return false };
        match self.users.entry(user.id) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().sockets += 1;
                false
            }
            Entry::Vacant(entry) => {
                entry.insert(Present { user, sockets: 1 });
                true
            }
        }
    }

    /// A socket leaves; its user if it was his last one. One that never came in changes nothing.
    pub(super) fn leave(&mut self, connection: u64) -> Option<UserId> {
        let user = self.sockets.remove(&connection)??;
        let Entry::Occupied(mut entry) = self.users.entry(user) else { return None };
        entry.get_mut().sockets -= 1;
        (entry.get().sockets == 0).then(|| {
            entry.remove();
            user
        })
    }

    /// Users in the room.
    pub(super) fn participants(&self) -> usize {
        self.users.len()
    }

    /// Who they are, by id, as they were called when they came in.
    pub(super) fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values().map(|present| &present.user)
    }

    /// Open sockets of nobody.
    pub(super) fn visitors(&self) -> usize {
        self.sockets.values().filter(|user| user.is_none()).count()
    }

    /// Open sockets.
    pub(super) fn sockets(&self) -> usize {
        self.sockets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(id: i64) -> Option<Arc<User>> {
        Some(Arc::new(User::first_seen(UserId::from_stored(id), None, None)))
    }

    #[test]
    fn fault_8_two_tabs_count_once_and_a_late_leave_changes_nothing() {
        let mut room = Room::default();
        assert!(room.enter(user(2), 10));
        assert!(!room.enter(user(2), 11), "a second tab");
        assert!(!room.enter(None, 12), "a visitor");
        assert_eq!((room.participants(), room.visitors(), room.sockets()), (1, 1, 3));
        assert_eq!(room.leave(10), None, "the other tab is open");
        assert_eq!(room.leave(10), None);
        assert_eq!(room.leave(99), None);
        assert_eq!(room.leave(11), Some(UserId::from_stored(2)));
        assert_eq!(room.leave(12), None);
        assert_eq!((room.participants(), room.sockets()), (0, 0));
    }

    proptest! {
        /// Whoever comes and goes: present are exactly the users of the open sockets, and comings and goings of each
        /// user take turns.
        #[test]
        fn present_are_those_with_open_sockets(steps in prop::collection::vec((0u64..12, 0i64..4, any::<bool>()), 1..200)) {
            let mut room = Room::default();
            let mut open: HashMap<u64, i64> = HashMap::new();
            let mut present = std::collections::BTreeSet::new();
            for (connection, id, comes) in steps {
                if comes {
                    if open.contains_key(&connection) { continue }
                    open.insert(connection, id);
                    let first = room.enter(if id == 0 { None } else { user(id) }, connection);
                    prop_assert_eq!(first, id != 0 && present.insert(id));
                } else {
                    open.remove(&connection);
                    if let Some(gone) = room.leave(connection) {
                        prop_assert!(present.remove(&gone.get()));
                    }
                }
                let expected: std::collections::BTreeSet<i64> = open.values().copied().filter(|id| *id != 0).collect();
                prop_assert_eq!(&expected, &present);
                prop_assert_eq!(room.users().map(|user| user.id.get()).collect::<std::collections::BTreeSet<_>>(), expected);
            }
        }
    }
}
