//! The tasks of the auction clock, ordered by time. Only tasks up to a horizon are held; the clock reads later ones
//! from the store when the horizon comes near. This file reads no clock: `now` is an argument.

use std::collections::{BTreeSet, HashSet};

use crate::domain::{GoodsId, GoodsState, Phase, Timestamp};

/// What the clock does to an auction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Task {
    Start,
    /// Raises the `ending_soon` alarms, a minute before the end.
    EndingSoon,
    End,
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "the start",
            Self::EndingSoon => "ending_soon",
            Self::End => "the end",
        })
    }
}

/// A task of one goods item and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub at: Timestamp,
    pub goods: GoodsId,
    pub task: Task,
}

/// The known tasks of all goods.
pub(crate) struct Deadlines {
    /// How long after `ends_at` an end is due, so that bids that arrived in time at other nodes come before it.
    pub close_grace_ms: i64,
    pending: BTreeSet<Due>,
    /// Dispatched and neither done nor failed; such a task is not dispatched twice.
    under_way: HashSet<(GoodsId, Task)>,
}

impl Deadlines {
    pub(crate) fn new(close_grace_ms: i64) -> Self {
        Self { close_grace_ms, pending: BTreeSet::new(), under_way: HashSet::new() }
    }

    /// Adds the tasks of these goods that are due up to `until`, each `delay_ms` after its time. Adding goods twice
    /// does no harm.
    pub(crate) fn watch(&mut self, goods: &GoodsState, now: Timestamp, until: Timestamp, delay_ms: i64) {
        let grace_ms = self.close_grace_ms;
        let mut add = |at: Timestamp, task| {
            if at <= until && !self.under_way.contains(&(goods.id, task)) {
                let grace_ms = if task == Task::End { grace_ms } else { 0 };
                self.pending.insert(Due { at: at.plus_ms(delay_ms + grace_ms), goods: goods.id, task });
            }
        };
        match goods.phase {
            Phase::Scheduled => {
                // An auction whose whole time has passed gets no start, only an end.
                if goods.ends_at > now {
                    add(goods.starts_at, Task::Start);
                }
                add(goods.ends_at, Task::End);
            }
            Phase::Live => {
                if let Some(at) = goods.ending_soon_at()
                    && goods.ends_at > now
                {
                    add(at, Task::EndingSoon);
                }
                add(goods.ends_at, Task::End);
            }
            Phase::Ended => {}
        }
    }

    /// When the next task is due.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.pending.first().map(|due| due.at)
    }

    /// Takes out what is due at `now`, oldest first, at most `limit`.
    pub(crate) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < limit && self.pending.first().is_some_and(|first| first.at <= now) {
            let Some(first) = self.pending.pop_first() else { break };
            // The same task can be there twice, after an end was moved.
            if self.under_way.insert((first.goods, first.task)) {
                due.push(first);
            }
        }
        due
    }

    /// Removes a task that is done. `goods` are the goods after it, `None` if they don't exist.
    pub(crate) fn done(
        &mut self,
        due: Due,
        goods: Option<&GoodsState>,
        now: Timestamp,
        until: Timestamp,
        delay_ms: i64,
    ) {
        self.under_way.remove(&(due.goods, due.task));
        if let Some(goods) = goods {
            self.watch(goods, now, until, delay_ms);
        }
    }

    /// Forgets all pending tasks, because the system clock was set back. Those under way stay.
    pub(crate) fn forget(&mut self) {
        self.pending.clear();
    }

    /// Whether at least `tasks` tasks are due or under way.
    pub(crate) fn is_busy(&self, now: Timestamp, tasks: usize) -> bool {
        let pending = tasks.saturating_sub(self.under_way.len());
        pending == 0 || self.pending.iter().nth(pending - 1).is_some_and(|due| due.at <= now)
    }

    /// A task has failed and is due again at `at`.
    pub(crate) fn retry(&mut self, due: Due, at: Timestamp) {
        self.under_way.remove(&(due.goods, due.task));
        self.pending.insert(Due { at, ..due });
    }

    /// Number of tasks dispatched and neither done nor failed.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Number of tasks pending or under way.
    pub(crate) fn len(&self) -> usize {
        self.pending.len() + self.under_way.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goods(id: i64, phase: Phase, starts: i64, ends: i64) -> GoodsState {
        let (starts_at, ends_at) = (Timestamp::from_secs(starts), Timestamp::from_secs(ends));
        GoodsState { id: GoodsId::from_stored(id), phase, starts_at, ends_at, ..GoodsState::live() }
    }

    fn tasks(due: &[Due]) -> Vec<(i64, Task)> {
        due.iter().map(|d| (d.goods.get(), d.task)).collect()
    }

    const FAR: Timestamp = Timestamp::from_secs(1_000_000_000);

    #[test]
    fn due_tasks_come_in_order_and_once() {
        let mut deadlines = Deadlines::new(0);
        let now = Timestamp::from_secs(0);
        let a = goods(1, Phase::Scheduled, 10, 500);
        deadlines.watch(&a, now, FAR, 0);
        deadlines.watch(&a, now, FAR, 0);
        deadlines.watch(&goods(2, Phase::Live, 0, 10), now, FAR, 0);
        assert_eq!(deadlines.next_at(), Some(Timestamp::from_secs(10)));
        assert!(deadlines.take_due(Timestamp::from_secs(9), 9).is_empty());
        let due = deadlines.take_due(Timestamp::from_secs(10), 9);
        assert_eq!(tasks(&due), [(1, Task::Start), (2, Task::End)]);
        deadlines.watch(&a, now, FAR, 0);
        assert!(deadlines.take_due(Timestamp::from_secs(10), 9).is_empty(), "it is under way");
        let live = goods(1, Phase::Live, 10, 500);
        deadlines.done(due[0], Some(&live), Timestamp::from_secs(10), FAR, 0);
        let rest = deadlines.take_due(Timestamp::from_secs(500), 9);
        assert_eq!(tasks(&rest), [(1, Task::EndingSoon), (1, Task::End)]);
    }

    #[test]
    fn fault_3_a_failed_end_is_retried_and_delays_no_other() {
        let mut deadlines = Deadlines::new(0);
        deadlines.watch(&goods(1, Phase::Live, 0, 10), Timestamp::from_secs(0), FAR, 0);
        deadlines.watch(&goods(2, Phase::Live, 0, 10), Timestamp::from_secs(0), FAR, 0);
        let due = deadlines.take_due(Timestamp::from_secs(10), 9);
        assert_eq!(due.len(), 2);
        deadlines.retry(due[0], Timestamp::from_secs(11));
        deadlines.done(due[1], None, Timestamp::from_secs(10), FAR, 0);
        assert_eq!(tasks(&deadlines.take_due(Timestamp::from_secs(11), 9)), [(1, Task::End)]);
    }

    #[test]
    fn a_moved_end_comes_at_its_new_time() {
        let mut deadlines = Deadlines::new(0);
        deadlines.watch(&goods(1, Phase::Live, 0, 10), Timestamp::from_secs(0), FAR, 0);
        let due = deadlines.take_due(Timestamp::from_secs(10), 9);
        deadlines.done(due[0], Some(&goods(1, Phase::Live, 0, 40)), Timestamp::from_secs(10), FAR, 0);
        assert!(deadlines.take_due(Timestamp::from_secs(39), 9).is_empty());
        assert_eq!(deadlines.take_due(Timestamp::from_secs(40), 9).len(), 1);
        assert_eq!(deadlines.len(), 1);
    }

    #[test]
    fn an_auction_that_passed_during_downtime_ends_without_a_start() {
        let mut deadlines = Deadlines::new(0);
        let now = Timestamp::from_secs(100);
        deadlines.watch(&goods(1, Phase::Scheduled, 10, 50), now, FAR, 0);
        assert_eq!(tasks(&deadlines.take_due(now, 9)), [(1, Task::End)]);
    }

    #[test]
    fn tasks_beyond_the_horizon_are_left_to_the_store() {
        let mut deadlines = Deadlines::new(0);
        let now = Timestamp::from_secs(0);
        for id in 1..=5000 {
            deadlines.watch(&goods(id, Phase::Live, 0, 1_000_000 + id), now, Timestamp::from_secs(120), 0);
        }
        assert_eq!(deadlines.len(), 0);
        deadlines.watch(&goods(1, Phase::Scheduled, 100, 1_000_000), now, Timestamp::from_secs(120), 0);
        assert_eq!(tasks(&deadlines.take_due(Timestamp::from_secs(100), 9)), [(1, Task::Start)]);
    }

    #[test]
    fn only_tasks_due_or_under_way_count_as_busy() {
        let mut deadlines = Deadlines::new(0);
        let now = Timestamp::from_secs(0);
        for id in 1..=10 {
            deadlines.watch(&goods(id, Phase::Live, 0, 10), now, FAR, 0);
        }
        assert!(!deadlines.is_busy(Timestamp::from_secs(9), 10));
        assert!(deadlines.is_busy(Timestamp::from_secs(10), 10));
        assert!(!deadlines.is_busy(Timestamp::from_secs(10), 11));
        assert_eq!(deadlines.take_due(Timestamp::from_secs(10), 4).len(), 4);
        assert!(deadlines.is_busy(Timestamp::from_secs(10), 10));
        deadlines.forget();
        assert!(!deadlines.is_busy(Timestamp::from_secs(10), 5));
        assert!(deadlines.is_busy(Timestamp::from_secs(10), 4));
    }

    #[test]
    fn an_end_waits_for_its_grace_and_tasks_of_other_nodes_are_delayed() {
        let mut deadlines = Deadlines::new(500);
        let now = Timestamp::from_secs(0);
        deadlines.watch(&goods(1, Phase::Scheduled, 10, 20), now, FAR, 0);
        deadlines.watch(&goods(2, Phase::Scheduled, 10, 20), now, FAR, 1000);
        let mut at = |ms| tasks(&deadlines.take_due(now.plus_ms(ms), 10));
        assert_eq!(at(10_000), [(1, Task::Start)]);
        assert_eq!(at(11_000), [(2, Task::Start)]);
        assert_eq!(at(20_499), []);
        assert_eq!(at(20_500), [(1, Task::End)]);
        assert_eq!(at(21_500), [(2, Task::End)]);
    }
}
