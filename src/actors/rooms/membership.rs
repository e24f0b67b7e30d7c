//! Who is in a room. It counts users and not tabs, over all nodes, and does no IO.
//!
//! Everything is in memory and follows from open sockets, so a crash leaves nobody behind (fault 8).

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::Arc,
};

use crate::{
    bus::{ConnectionId, NodeId},
    domain::{User, UserId},
};

struct Member {
    user: Arc<User>,
    /// Their open sockets on this node.
    sockets: usize,
    /// Other nodes on which they have open sockets, each once.
    other_nodes: Vec<NodeId>,
}

impl Member {
    fn is_gone(&self) -> bool {
        self.sockets == 0 && self.other_nodes.is_empty()
    }
}

/// What a socket that enters or leaves means for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub user: UserId,
    /// It is the user's first socket on this node, or was their last.
    pub here: bool,
    /// It is their first on all nodes together, or was their last.
    pub anywhere: bool,
}

/// The sockets and users of one room.
#[derive(Default)]
pub(crate) struct RoomMembers {
    /// Open sockets on this node; `None` is a visitor's.
    sockets: HashMap<ConnectionId, Option<UserId>>,
    /// How many of them are visitors'.
    visitors: usize,
    /// Users with a socket on any node.
    users: BTreeMap<UserId, Member>,
}

impl RoomMembers {
    /// Adds a socket. `None` if nothing changes for a user: it is a visitor's, or is here already.
    pub(crate) fn enter(&mut self, user: Option<Arc<User>>, connection: ConnectionId) -> Option<Change> {
        if self.sockets.insert(connection, user.as_ref().map(|user| user.id)).is_some() {
            return None;
        }
        let Some(user) = user else {
            self.visitors += 1;
            return None;
        };
        let id = user.id;
        let was_present = self.users.contains_key(&id);
        let absent = Member { user: Arc::clone(&user), sockets: 0, other_nodes: Vec::new() };
        let member = self.users.entry(id).or_insert(absent);
        member.user = user;
        member.sockets += 1;
        Some(Change { user: id, here: member.sockets == 1, anywhere: !was_present })
    }

    /// Removes a socket. `None` if nothing changes for a user: it is a visitor's, or is not here.
    pub(crate) fn leave(&mut self, connection: ConnectionId) -> Option<Change> {
        let Some(user) = self.sockets.remove(&connection)? else {
            self.visitors -= 1;
            return None;
        };
        let Entry::Occupied(mut entry) = self.users.entry(user) else { return None };
        entry.get_mut().sockets -= 1;
        let (here, anywhere) = (entry.get().sockets == 0, entry.get().is_gone());
        if anywhere {
            entry.remove();
        }
        Some(Change { user, here, anywhere })
    }

    /// The user of this socket; `None` for a visitor's or one that is not here.
    pub(crate) fn user_of(&self, connection: ConnectionId) -> Option<Arc<User>> {
        self.user((*self.sockets.get(&connection)?)?)
    }

    /// The user, if they are in the room on any node, with the name and picture they entered with last.
    pub(crate) fn user(&self, user: UserId) -> Option<Arc<User>> {
        self.users.get(&user).map(|member| Arc::clone(&member.user))
    }

    /// Adds a user on another node; true if they were on no node before.
    pub(crate) fn enter_on(&mut self, node: NodeId, user: Arc<User>) -> bool {
        let was_present = self.users.contains_key(&user.id);
        let member = self.users.entry(user.id).or_insert_with(|| Member { user, sockets: 0, other_nodes: Vec::new() });
        if !member.other_nodes.contains(&node) {
            member.other_nodes.push(node);
        }
        !was_present
    }

    /// Removes a user on another node; true if they are on no node now.
    pub(crate) fn leave_on(&mut self, node: NodeId, user: UserId) -> bool {
        let Entry::Occupied(mut entry) = self.users.entry(user) else { return false };
        entry.get_mut().other_nodes.retain(|other| *other != node);
        let is_gone = entry.get().is_gone();
        if is_gone {
            entry.remove();
        }
        is_gone
    }

    /// Users who are in the room on that other node.
    pub(crate) fn users_on(&self, node: NodeId) -> Vec<UserId> {
        self.users.iter().filter(|(_, member)| member.other_nodes.contains(&node)).map(|(user, _)| *user).collect()
    }

    /// Users who are in the room on this node.
    pub(crate) fn users_here(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values().filter(|member| member.sockets > 0).map(|member| &member.user)
    }

    /// How many users are in the room, on all nodes together.
    pub(crate) fn participants(&self) -> usize {
        self.users.len()
    }

    /// These users, ordered by id.
    #[cfg(test)]
    pub(crate) fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values().map(|member| &member.user)
    }

    /// How many of the open sockets on this node are visitors'.
    pub(crate) fn visitors(&self) -> usize {
        self.visitors
    }

    /// How many sockets are open on this node.
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
        let mut room = RoomMembers::default();
        let both = |both| Some(Change { user: UserId::from_stored(2), here: both, anywhere: both });
        assert_eq!(room.enter(user(2), ConnectionId(10)), both(true));
        assert_eq!(room.enter(user(2), ConnectionId(11)), both(false), "a second tab");
        assert_eq!(room.enter(None, ConnectionId(12)), None, "a visitor");
        assert_eq!((room.participants(), room.visitors(), room.sockets()), (1, 1, 3));
        assert_eq!(room.leave(ConnectionId(10)), both(false), "the other tab is open");
        assert_eq!(room.leave(ConnectionId(10)), None);
        assert_eq!(room.leave(ConnectionId(99)), None);
        assert_eq!(room.leave(ConnectionId(11)), both(true));
        assert_eq!(room.leave(ConnectionId(12)), None);
        assert_eq!((room.participants(), room.sockets()), (0, 0));
    }

    #[test]
    fn a_user_on_two_nodes_counts_once_and_leaves_with_their_last_socket() {
        let mut room = RoomMembers::default();
        let (left, right) = (NodeId::from_bits(1), NodeId::from_bits(2));
        let two = || user(2).unwrap();
        assert!(room.enter_on(left, two()));
        assert!(!room.enter_on(left, two()), "received twice");
        assert_eq!(
            room.enter(user(2), ConnectionId(10)).map(|change| (change.here, change.anywhere)),
            Some((true, false))
        );
        assert!(!room.enter_on(right, two()));
        assert_eq!((room.participants(), room.users_here().count()), (1, 1));
        assert!(!room.leave_on(left, UserId::from_stored(2)));
        assert_eq!(room.leave(ConnectionId(10)).map(|change| (change.here, change.anywhere)), Some((true, false)));
        assert_eq!((room.participants(), room.users_here().count()), (1, 0));
        assert_eq!(room.users_on(right), [UserId::from_stored(2)]);
        assert!(room.leave_on(right, UserId::from_stored(2)));
        assert!(!room.leave_on(right, UserId::from_stored(2)));
        assert_eq!(room.participants(), 0);
    }

    proptest! {
        /// In any order of sockets that enter and leave, exactly the users of the open ones are present, and each user
        /// joins and leaves in turn.
        #[test]
        fn users_with_open_sockets_are_present(steps in prop::collection::vec((0u64..12, 0i64..4, any::<bool>()), 1..200)) {
            let mut room = RoomMembers::default();
            let mut open: HashMap<ConnectionId, i64> = HashMap::new();
            let mut present = std::collections::BTreeSet::new();
            for (connection, id, enters) in steps {
                let connection = ConnectionId(connection);
                if enters {
                    if open.contains_key(&connection) { continue }
                    open.insert(connection, id);
                    let change = room.enter(if id == 0 { None } else { user(id) }, connection);
                    prop_assert_eq!(change.is_some_and(|change| change.here && change.anywhere), id != 0 && present.insert(id));
                } else {
                    open.remove(&connection);
                    if let Some(left) = room.leave(connection).filter(|change| change.here && change.anywhere) {
                        prop_assert!(present.remove(&left.user.get()));
                    }
                }
                let expected: std::collections::BTreeSet<i64> = open.values().copied().filter(|id| *id != 0).collect();
                prop_assert_eq!(&expected, &present);
                prop_assert_eq!(room.users().map(|user| user.id.get()).collect::<std::collections::BTreeSet<_>>(), expected);
            }
        }
    }
}
