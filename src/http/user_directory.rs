//! The users that were seen lately.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use crate::{
    domain::{User, UserId},
    store::{Nodes, Store, StoreError},
};

/// Users that are remembered.
const REMEMBERED: usize = 100_000;
/// For how long a user is known where other nodes change users too.
const HOLDS_FOR: Duration = Duration::from_secs(3);

/// Users seen lately, so that a bid doesn't read its bidder. Told of every committed change.
pub struct UserDirectory {
    users: Cache<UserId, Seen>,
    changes: AtomicU64,
    /// Where other nodes change users too: after so long a user is read again, should that not have been heard.
    holds_for: Option<Duration>,
}

#[derive(Clone)]
struct Seen {
    user: Arc<User>,
    at: Instant,
}

impl UserDirectory {
    /// For one node that is told of every change, or one of several, which may not hear of all of them at once.
    pub fn new(nodes: Nodes) -> Self {
        let holds_for = (nodes == Nodes::Several).then_some(HOLDS_FOR);
        Self { users: Cache::new(REMEMBERED), changes: AtomicU64::new(0), holds_for }
    }

    fn insert(&self, user: Arc<User>) {
        self.users.insert(user.id, Seen { user, at: Instant::now() });
    }

    /// A change is committed.
    pub fn changed(&self, user: User) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.insert(Arc::new(user));
    }

    /// Another node has committed a change; what holds now, if there are several, only the store knows.
    pub fn changed_elsewhere(&self, id: UserId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.users.remove(&id);
    }

    /// Reads a user, and remembers him unless somebody changes meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn learn(&self, store: &Store, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let changes = self.changes.load(Ordering::Acquire);
        let user = store.user(id).await?.map(Arc::new);
        if let Some(user) = &user {
            self.remember(user, changes);
        }
        Ok(user)
    }

    /// The user as he was last known, if he is remembered.
    pub(super) fn known(&self, id: UserId) -> Option<Arc<User>> {
        self.users.get(&id).map(|seen| seen.user)
    }

    /// The user as he is known to be now.
    pub(super) fn fresh(&self, id: UserId) -> Option<Arc<User>> {
        let holds = |seen: &Seen| self.holds_for.is_none_or(|holds_for| seen.at.elapsed() < holds_for);
        self.users.get(&id).filter(holds).map(|seen| seen.user)
    }

    /// Remembers what was read, unless something changed since the reading began: it might have been this user.
    fn remember(&self, user: &Arc<User>, changes_before: u64) {
        if self.changes.load(Ordering::Acquire) == changes_before {
            self.insert(Arc::clone(user));
            // A change may have come just before the insert, which would have hidden it.
            if self.changes.load(Ordering::Acquire) != changes_before {
                self.users.remove(&user.id);
            }
        }
    }
}
