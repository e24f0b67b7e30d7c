//! A cache of users seen lately, so that a request does not read its user from the database each time.

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
    store::{Sharing, Store, StoreError},
};

/// Users in the cache.
const USER_LIMIT: usize = 100_000;
/// Where other nodes change users too, a user is read again after this long.
const MAX_AGE: Duration = Duration::from_secs(3);

/// Users seen lately. The commit dispatcher reports every committed change.
pub(crate) struct UserDirectory {
    users: Cache<UserId, CachedUser>,
    /// Counts changes, so that a read that began before one does not overwrite it.
    changes: AtomicU64,
    /// `None` on a single node, which knows of every change. In a cluster a change on another node may go unnoticed.
    max_age: Option<Duration>,
}

#[derive(Clone)]
struct CachedUser {
    user: Arc<User>,
    cached_at: Instant,
}

impl UserDirectory {
    /// An empty cache. Where other nodes write to the database too, its users expire after 3 s.
    pub(crate) fn new(sharing: Sharing) -> Self {
        let max_age = (sharing == Sharing::Shared).then_some(MAX_AGE);
        Self { users: Cache::new(USER_LIMIT), changes: AtomicU64::new(0), max_age }
    }

    fn insert(&self, user: Arc<User>) {
        self.users.insert(user.id, CachedUser { user, cached_at: Instant::now() });
    }

    /// Takes over a user whose change this node has committed.
    pub(crate) fn update(&self, user: User) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.insert(Arc::new(user));
    }

    /// Drops a user whom another node has changed: only the store knows which of several changes is the latest.
    pub(crate) fn invalidate(&self, id: UserId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.users.remove(&id);
    }

    /// Reads a user from the store and caches them; `None` if they have no row.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub(crate) async fn load(&self, store: &Store, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let changes = self.changes.load(Ordering::Acquire);
        let user = store.user(id).await?.map(Arc::new);
        if let Some(user) = &user {
            self.insert_if_unchanged(user, changes);
        }
        Ok(user)
    }

    /// The cached user, however old.
    pub(super) fn last_known(&self, id: UserId) -> Option<Arc<User>> {
        self.users.get(&id).map(|cached| cached.user)
    }

    /// The cached user, unless they have to be read again.
    pub(super) fn current(&self, id: UserId) -> Option<Arc<User>> {
        let is_current = |cached: &CachedUser| self.max_age.is_none_or(|max_age| cached.cached_at.elapsed() < max_age);
        self.users.get(&id).filter(is_current).map(|cached| cached.user)
    }

    /// Caches a user unless any user has changed since the read began: it might have been this one.
    fn insert_if_unchanged(&self, user: &Arc<User>, changes_before: u64) {
        if self.changes.load(Ordering::Acquire) == changes_before {
            self.insert(Arc::clone(user));
            // A change may have come between the check and the insert, which would have overwritten it.
            if self.changes.load(Ordering::Acquire) != changes_before {
                self.users.remove(&user.id);
            }
        }
    }
}
