//! Who is in a room: users, not tabs. Plain; everything is in memory and goes with the sockets, so no crash leaves a
//! ghost (fault 8).

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::Arc,
};

use crate::{
    bus::NodeId,
    domain::{User, UserId},
};

struct Present {
    user: Arc<User>,
    /// Open sockets here.
    sockets: usize,
    /// Other nodes on which he has some.
    elsewhere: Vec<NodeId>,
}

impl Present {
    fn is_gone(&self) -> bool {
        self.sockets == 0 && self.elsewhere.is_empty()
    }
}

/// What a coming or going means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Whose.
    pub user: UserId,
    /// It was his first socket here, or his last.
    pub here: bool,
    /// … on all nodes together.
    pub anywhere: bool,
}

/// One room.
#[derive(Default)]
pub(crate) struct Room {
    /// Open sockets, with their user (none: a visitor).
    sockets: HashMap<u64, Option<UserId>>,
    users: BTreeMap<UserId, Present>,
}

impl Room {
    /// A socket comes in; what that means for its user, if it has one.
    pub(crate) fn enter(&mut self, user: Option<Arc<User>>, connection: u64) -> Option<Change> {
        if self.sockets.insert(connection, user.as_ref().map(|user| user.id)).is_some() {
            return None;
        }
        let user = user?;
        let id = user.id;
        let known = self.users.contains_key(&id);
        let gone = Present { user: Arc::clone(&user), sockets: 0, elsewhere: Vec::new() };
        let present = self.users.entry(id).or_insert(gone);
        present.user = user;
        present.sockets += 1;
        Some(Change { user: id, here: present.sockets == 1, anywhere: !known })
    }

    /// A socket leaves; what that means for its user. One that never came in changes nothing.
    pub(crate) fn leave(&mut self, connection: u64) -> Option<Change> {
        let user = self.sockets.remove(&connection)??;
        let Entry::Occupied(mut entry) = self.users.entry(user) else { return None };
        entry.get_mut().sockets -= 1;
        let (here, anywhere) = (entry.get().sockets == 0, entry.get().is_gone());
        if anywhere {
            entry.remove();
        }
        Some(Change { user, here, anywhere })
    }

    /// Whose socket that is.
    pub(crate) fn user_of(&self, connection: u64) -> Option<Arc<User>> {
        self.user((*self.sockets.get(&connection)?)?)
    }

    /// The user, if he is in the room on whichever node, as he was called when he came in last.
    pub(crate) fn user(&self, user: UserId) -> Option<Arc<User>> {
        self.users.get(&user).map(|present| Arc::clone(&present.user))
    }

    /// A user has come into the room on another node; true if he was on none.
    pub(crate) fn appear(&mut self, node: NodeId, user: Arc<User>) -> bool {
        let known = self.users.contains_key(&user.id);
        let present = self.users.entry(user.id).or_insert_with(|| Present { user, sockets: 0, elsewhere: Vec::new() });
        if !present.elsewhere.contains(&node) {
            present.elsewhere.push(node);
        }
        !known
    }

    /// A user has left the room on another node; true if he is on none now.
    pub(crate) fn vanish(&mut self, node: NodeId, user: UserId) -> bool {
        let Entry::Occupied(mut entry) = self.users.entry(user) else { return false };
        entry.get_mut().elsewhere.retain(|one| *one != node);
        let is_gone = entry.get().is_gone();
        if is_gone {
            entry.remove();
        }
        is_gone
    }

    /// Who is in the room on that node.
    pub(crate) fn on_node(&self, node: NodeId) -> Vec<UserId> {
        self.users.iter().filter(|(_, present)| present.elsewhere.contains(&node)).map(|(user, _)| *user).collect()
    }

    /// Who is in the room on this node.
    pub(crate) fn here(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values().filter(|present| present.sockets > 0).map(|present| &present.user)
    }

    /// Users in the room, on whichever node.
    pub(crate) fn participants(&self) -> usize {
        self.users.len()
    }

    /// Who they are, by id, as they were called when they came in.
    #[cfg(test)]
    pub(crate) fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values().map(|present| &present.user)
    }

    /// Open sockets of nobody.
    pub(crate) fn visitors(&self) -> usize {
        self.sockets.values().filter(|user| user.is_none()).count()
    }

    /// Open sockets.
    pub(crate) fn sockets(&self) -> usize {
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
        let both = |both| Some(Change { user: UserId::from_stored(2), here: both, anywhere: both });
        assert_eq!(room.enter(user(2), 10), both(true));
        assert_eq!(room.enter(user(2), 11), both(false), "a second tab");
        assert_eq!(room.enter(None, 12), None, "a visitor");
        assert_eq!((room.participants(), room.visitors(), room.sockets()), (1, 1, 3));
        assert_eq!(room.leave(10), both(false), "the other tab is open");
        assert_eq!(room.leave(10), None);
        assert_eq!(room.leave(99), None);
        assert_eq!(room.leave(11), both(true));
        assert_eq!(room.leave(12), None);
        assert_eq!((room.participants(), room.sockets()), (0, 0));
    }

    #[test]
    fn a_user_on_two_nodes_is_one_and_goes_with_his_last_socket_anywhere() {
        let mut room = Room::default();
        let (left, right) = (NodeId::of_test(1), NodeId::of_test(2));
        let two = || user(2).unwrap();
        assert!(room.appear(left, two()));
        assert!(!room.appear(left, two()), "heard twice");
        assert_eq!(room.enter(user(2), 10).map(|change| (change.here, change.anywhere)), Some((true, false)));
        assert!(!room.appear(right, two()));
        assert_eq!((room.participants(), room.here().count()), (1, 1));
        assert!(!room.vanish(left, UserId::from_stored(2)));
        assert_eq!(room.leave(10).map(|change| (change.here, change.anywhere)), Some((true, false)));
        assert_eq!((room.participants(), room.here().count()), (1, 0));
        assert_eq!(room.on_node(right), [UserId::from_stored(2)]);
        assert!(room.vanish(right, UserId::from_stored(2)));
        assert!(!room.vanish(right, UserId::from_stored(2)));
        assert_eq!(room.participants(), 0);
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
                    let change = room.enter(if id == 0 { None } else { user(id) }, connection);
                    prop_assert_eq!(change.is_some_and(|change| change.here && change.anywhere), id != 0 && present.insert(id));
                } else {
                    open.remove(&connection);
                    if let Some(gone) = room.leave(connection).filter(|change| change.here && change.anywhere) {
                        prop_assert!(present.remove(&gone.user.get()));
                    }
                }
                let expected: std::collections::BTreeSet<i64> = open.values().copied().filter(|id| *id != 0).collect();
                prop_assert_eq!(&expected, &present);
                prop_assert_eq!(room.users().map(|user| user.id.get()).collect::<std::collections::BTreeSet<_>>(), expected);
            }
        }
    }
}
