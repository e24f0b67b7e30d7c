//! The received cursors of users that are not stored yet, and the batches in which the hub writes them.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use crate::{
    domain::{AlarmId, UserId},
    store::{Ledger, writes::MarkReceived},
};

/// The pause before received cursors are written.
pub(crate) const WRITE_DELAY: Duration = Duration::from_millis(250);
/// Received cursors in one write.
const BATCH_LIMIT: usize = 2000;
/// Time limit for one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// The received cursors that are not stored yet.
#[derive(Default)]
pub(crate) struct ReceivedCursors {
    cursors: BTreeMap<UserId, AlarmId>,
    /// The last user of the last batch; the next batch begins after them.
    last_in_batch: Option<UserId>,
    is_writing: bool,
    /// A timer for the next write is set.
    pub is_write_scheduled: bool,
}

impl ReceivedCursors {
    /// A session has proved that its user received every alarm up to `up_to`.
    pub(crate) fn advance(&mut self, user: UserId, up_to: AlarmId) {
        let cursor = self.cursors.entry(user).or_insert(up_to);
        *cursor = (*cursor).max(up_to);
    }

    /// The user's received cursor, if it is not stored yet.
    pub(crate) fn of(&self, user: UserId) -> Option<AlarmId> {
        self.cursors.get(&user).copied()
    }

    /// Whether all cursors are stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.cursors.is_empty()
    }

    /// Whether a timer for the next write is needed. Mostly there is nothing to write, and then no timer runs.
    pub(crate) fn wants_timer(&self) -> bool {
        !self.is_empty() && !self.is_write_scheduled && !self.is_writing
    }

    /// Queues a write of one batch, unless a write is running. The future gives what [`written`](Self::written) takes.
    pub(crate) fn start_write(
        &mut self,
        ledger: &Ledger,
    ) -> Option<impl Future<Output = Vec<(UserId, AlarmId)>> + use<>> {
        if self.is_writing || self.is_empty() {
            return None;
        }
        self.is_writing = true;
        let batch = self.next_batch(BATCH_LIMIT);
        let stored = ledger.write(MarkReceived(batch.clone()), WRITE_TIMEOUT);
        Some(async move { stored.await.map(|()| batch).unwrap_or_default() })
    }

    /// The next batch of at most `limit` cursors. Batches go round in the order of user ids: neighbours' rows share
    /// database pages, and each user gets their turn.
    fn next_batch(&mut self, limit: usize) -> Vec<(UserId, AlarmId)> {
        let begin = self.last_in_batch.map_or(Unbounded, Excluded);
        let after = self.cursors.range((begin, Unbounded));
        let before = self.last_in_batch.map(|last| self.cursors.range(..=last));
        let all = after.chain(before.into_iter().flatten());
        let batch: Vec<_> = all.take(limit).map(|(user, up_to)| (*user, *up_to)).collect();
        self.last_in_batch = batch.last().map(|(user, _)| *user);
        batch
    }

    /// A write has ended. Forgets the cursors that are stored now: none if it failed. A cursor that has advanced
    /// meanwhile stays.
    pub(crate) fn written(&mut self, stored: &[(UserId, AlarmId)]) {
        self.is_writing = false;
        for (user, up_to) in stored {
            if self.cursors.get(user) == Some(up_to) {
                self.cursors.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserId {
        UserId::from_stored(id)
    }

    #[test]
    fn a_received_cursor_never_goes_back_and_survives_an_older_write() {
        let mut received = ReceivedCursors::default();
        received.advance(user(1), AlarmId::from_stored(5));
        let writing = received.next_batch(10);
        received.advance(user(1), AlarmId::from_stored(9));
        received.advance(user(1), AlarmId::from_stored(7));
        received.written(&writing);
        assert_eq!(received.of(user(1)), Some(AlarmId::from_stored(9)));
        let writing = received.next_batch(10);
        received.written(&writing);
        assert_eq!(received.of(user(1)), None);
    }

    #[test]
    fn batches_of_cursors_go_round_all_users() {
        let mut received = ReceivedCursors::default();
        for id in [4, 2, 5, 1, 3] {
            received.advance(user(id), AlarmId::from_stored(9));
        }
        let mut batch = || -> Vec<i64> { received.next_batch(2).iter().map(|(user, _)| user.get()).collect() };
        assert_eq!(
            [batch(), batch(), batch()],
            [vec![1, 2], vec![3, 4], vec![5, 1]],
            "whether or not they are written"
        );
        let all = received.next_batch(10);
        assert_eq!(all.len(), 5, "each once");
        received.written(&all);
        assert!(received.next_batch(10).is_empty());
        received.advance(user(1), AlarmId::from_stored(10));
        assert_eq!(received.next_batch(10).len(), 1);
    }
}
