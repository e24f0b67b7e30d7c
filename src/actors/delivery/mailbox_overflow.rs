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

/// The ids whose messages a full mailbox refused; `()` where every message concerns everybody. Taking from an empty set
/// costs one atomic load.
#[derive(Debug)]
pub(crate) struct OverflowFlag<T> {
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

    /// Records ids. If there were none, calls `wake`, which sends the actor an empty message past the mailbox's limit:
    /// those that wait may all be handled before the actor sees this record.
    pub(crate) fn note(&self, ids: impl IntoIterator<Item = T>, wake: impl FnOnce()) {
        let mut which = self.which();
        which.extend(ids);
        if !self.any.swap(true, Ordering::AcqRel) {
            wake();
        }
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
        let (overflow, woken) = (OverflowFlag::default(), std::cell::Cell::new(0));
        let note = |ids: &[i32]| {
            overflow.note(ids.iter().copied(), || woken.set(woken.get() + 1));
            woken.get()
        };
        assert_eq!(note(&[1, 2]), 1);
        assert_eq!(note(&[2, 3]), 1, "a message is already on its way");
        assert_eq!(overflow.take(), HashSet::from([1, 2, 3]));
        assert!(overflow.take().is_empty());
        assert_eq!(note(&[4]), 2);
    }
}
