//! A set beside an actor's mailbox. A sender that finds the mailbox full records there whom its message concerned; the
//! actor reads the set with its next message and recovers.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The ids whose messages a full mailbox refused. Taking from an empty set costs one atomic load.
#[derive(Debug)]
pub struct OverflowFlag<T> {
    any: AtomicBool,
    which: Mutex<HashSet<T>>,
}

impl<T> Default for OverflowFlag<T> {
    fn default() -> Self {
        Self { any: AtomicBool::new(false), which: Mutex::default() }
    }
}

impl<T: Eq + Hash> OverflowFlag<T> {
    fn which(&self) -> MutexGuard<'_, HashSet<T>> {
        self.which.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records ids. True if the set was empty: then the caller sends the actor one more message, past the mailbox's
    /// limit, because those that wait may all be handled before the actor sees this record.
    pub fn note(&self, ids: impl IntoIterator<Item = T>) -> bool {
        let mut which = self.which();
        which.extend(ids);
        !self.any.swap(true, Ordering::AcqRel)
    }

    /// Takes what was recorded since the last call.
    pub(crate) fn take(&self) -> HashSet<T> {
        if !self.any.load(Ordering::Acquire) {
            return HashSet::new();
        }
        let mut which = self.which();
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut which)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_id_is_taken_once() {
        let overflow = OverflowFlag::default();
        assert!(overflow.note([1, 2]));
        assert!(!overflow.note([2, 3]), "a message is already on its way");
        assert_eq!(overflow.take(), HashSet::from([1, 2, 3]));
        assert!(overflow.take().is_empty());
        assert!(overflow.note([4]));
    }
}
