//! What could not be handed over because a mailbox was full, noted past the mailbox, so that whoever reads it can make
//! it good.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Which ones were missed. Looking at an empty list costs one load.
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

    /// Notes what was missed; true if nothing had been noted before: somebody must be told to look.
    pub fn note(&self, missed: impl IntoIterator<Item = T>) -> bool {
        let mut which = self.which();
        which.extend(missed);
        !self.any.swap(true, Ordering::AcqRel)
    }

    /// What has been noted since the last time.
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
    fn what_is_noted_is_taken_once() {
        let missed = OverflowFlag::default();
        assert!(missed.note([1, 2]));
        assert!(!missed.note([2, 3]), "somebody has been told");
        assert_eq!(missed.take(), HashSet::from([1, 2, 3]));
        assert!(missed.take().is_empty());
        assert!(missed.note([4]));
    }
}
