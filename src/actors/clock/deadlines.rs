//! What the clock has to do and when: plain, ordered by time. It holds what lies ahead up to a horizon; what lies
//! beyond is read from the store when the horizon comes near. Nothing here knows what time it is.

use std::collections::{BTreeSet, HashSet};

use crate::domain::{GoodsId, GoodsState, Phase, Timestamp};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Task {
    Start,
    EndingSoon,
    End,
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "the start",
            Self::EndingSoon => "the last minute",
            Self::End => "the end",
        })
    }
}

/// A task of one goods item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub at: Timestamp,
    pub goods: GoodsId,
    pub task: Task,
}

#[derive(Default)]
pub(crate) struct Deadlines {
    /// How long after its time an end is due, so that bids that arrived in time at other nodes come before it.
    pub close_grace_ms: i64,
    ahead: BTreeSet<Due>,
    /// Handed out and not yet reported done: not handed out twice.
    under_way: HashSet<(GoodsId, Task)>,
}

impl Deadlines {
    /// Takes in what goods have to do up to `until`, each so much later than its time; what lies beyond comes from the store
    /// when its time comes near. Knowing goods twice does no harm.
    pub(crate) fn watch(&mut self, goods: &GoodsState, now: Timestamp, until: Timestamp, later_ms: i64) {
        let grace_ms = self.close_grace_ms;
        let mut add = |at: Timestamp, task| {
            if at <= until && !self.under_way.contains(&(goods.id, task)) {
                let grace_ms = if task == Task::End { grace_ms } else { 0 };
                self.ahead.insert(Due { at: at.plus_ms(later_ms + grace_ms), goods: goods.id, task });
            }
        };
        match goods.phase {
            Phase::Scheduled => {
                // One whose whole time is past already has no start, only an end.
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

    /// The next time at which something is due.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.ahead.first().map(|due| due.at)
    }

    /// Takes out what is due at `now`, oldest first, at most `limit`.
    pub(crate) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < limit && self.ahead.first().is_some_and(|first| first.at <= now) {
            let Some(first) = self.ahead.pop_first() else { break };
            // The same task can stand twice, when an end was moved.
            if self.under_way.insert((first.goods, first.task)) {
                due.push(first);
            }
        }
        due
    }

    /// A task is done, and `goods` is what the goods are now.
    pub(crate) fn done(
        &mut self,
        due: Due,
        goods: Option<&GoodsState>,
        now: Timestamp,
        until: Timestamp,
        later_ms: i64,
    ) {
        self.under_way.remove(&(due.goods, due.task));
        if let Some(goods) = goods {
            self.watch(goods, now, until, later_ms);
        }
    }

    /// Forgets what lies ahead: the times by which it was taken in mean nothing any more.
    pub(crate) fn forget(&mut self) {
        self.ahead.clear();
    }

    /// Whether at least so many tasks are due or handed out: more need not be read before these are done.
    pub(crate) fn is_busy(&self, now: Timestamp, tasks: usize) -> bool {
        let ahead = tasks.saturating_sub(self.under_way.len());
        ahead == 0 || self.ahead.iter().nth(ahead - 1).is_some_and(|due| due.at <= now)
    }

    /// A task failed: it is tried again at `at`.
    pub(crate) fn again(&mut self, due: Due, at: Timestamp) {
        self.under_way.remove(&(due.goods, due.task));
        self.ahead.insert(Due { at, ..due });
    }

    /// Tasks that were handed out and are not reported done.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Tasks that lie ahead or are under way.
    pub(crate) fn len(&self) -> usize {
        self.ahead.len() + self.under_way.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Price, UserId};

    fn goods(id: i64, phase: Phase, starts: i64, ends: i64) -> GoodsState {
        GoodsState {
            id: GoodsId::from_stored(id),
            seller: UserId::from_stored(1),
            title: String::new(),
            phase,
            starts_at: Timestamp::from_secs(starts),
            ends_at: Timestamp::from_secs(ends),
            start_price: Price::from_stored(1),
            min_increment: Price::from_stored(1),
            lead: None,
            bid_seq: 0,
            ending_soon_done: false,
        }
    }

    fn tasks(due: &[Due]) -> Vec<(i64, Task)> {
        due.iter().map(|d| (d.goods.get(), d.task)).collect()
    }

    const FAR: Timestamp = Timestamp::from_secs(1_000_000_000);

    #[test]
    fn due_tasks_come_in_order_and_once() {
        let mut agenda = Deadlines::default();
        let now = Timestamp::from_secs(0);
        let a = goods(1, Phase::Scheduled, 10, 500);
        agenda.watch(&a, now, FAR, 0);
        agenda.watch(&a, now, FAR, 0);
        agenda.watch(&goods(2, Phase::Live, 0, 10), now, FAR, 0);
        assert_eq!(agenda.next_at(), Some(Timestamp::from_secs(10)));
        assert!(agenda.take_due(Timestamp::from_secs(9), 9).is_empty());
        let due = agenda.take_due(Timestamp::from_secs(10), 9);
        assert_eq!(tasks(&due), [(1, Task::Start), (2, Task::End)]);
        agenda.watch(&a, now, FAR, 0);
        assert!(agenda.take_due(Timestamp::from_secs(10), 9).is_empty(), "it is under way");
        let live = goods(1, Phase::Live, 10, 500);
        agenda.done(due[0], Some(&live), Timestamp::from_secs(10), FAR, 0);
        let rest = agenda.take_due(Timestamp::from_secs(500), 9);
        assert_eq!(tasks(&rest), [(1, Task::EndingSoon), (1, Task::End)]);
    }

    #[test]
    fn fault_3_a_failed_end_is_tried_again_and_holds_up_nobody() {
        let mut agenda = Deadlines::default();
        agenda.watch(&goods(1, Phase::Live, 0, 10), Timestamp::from_secs(0), FAR, 0);
        agenda.watch(&goods(2, Phase::Live, 0, 10), Timestamp::from_secs(0), FAR, 0);
        let due = agenda.take_due(Timestamp::from_secs(10), 9);
        assert_eq!(due.len(), 2);
        agenda.again(due[0], Timestamp::from_secs(11));
        agenda.done(due[1], None, Timestamp::from_secs(10), FAR, 0);
        assert_eq!(tasks(&agenda.take_due(Timestamp::from_secs(11), 9)), [(1, Task::End)]);
    }

    #[test]
    fn an_end_that_was_moved_comes_at_its_new_time() {
        let mut agenda = Deadlines::default();
        agenda.watch(&goods(1, Phase::Live, 0, 10), Timestamp::from_secs(0), FAR, 0);
        let due = agenda.take_due(Timestamp::from_secs(10), 9);
        agenda.done(due[0], Some(&goods(1, Phase::Live, 0, 40)), Timestamp::from_secs(10), FAR, 0);
        assert!(agenda.take_due(Timestamp::from_secs(39), 9).is_empty());
        assert_eq!(agenda.take_due(Timestamp::from_secs(40), 9).len(), 1);
        assert_eq!(agenda.len(), 1);
    }

    #[test]
    fn what_passed_while_down_ends_without_a_start() {
        let mut agenda = Deadlines::default();
        let now = Timestamp::from_secs(100);
        agenda.watch(&goods(1, Phase::Scheduled, 10, 50), now, FAR, 0);
        assert_eq!(tasks(&agenda.take_due(now, 9)), [(1, Task::End)]);
    }

    #[test]
    fn what_lies_beyond_the_horizon_is_left_to_the_store() {
        let mut agenda = Deadlines::default();
        let now = Timestamp::from_secs(0);
        for id in 1..=5000 {
            agenda.watch(&goods(id, Phase::Live, 0, 1_000_000 + id), now, Timestamp::from_secs(120), 0);
        }
        assert_eq!(agenda.len(), 0);
        agenda.watch(&goods(1, Phase::Scheduled, 100, 1_000_000), now, Timestamp::from_secs(120), 0);
        assert_eq!(tasks(&agenda.take_due(Timestamp::from_secs(100), 9)), [(1, Task::Start)]);
    }

    #[test]
    fn only_what_is_due_or_handed_out_makes_it_busy() {
        let mut agenda = Deadlines::default();
        let now = Timestamp::from_secs(0);
        for id in 1..=10 {
            agenda.watch(&goods(id, Phase::Live, 0, 10), now, FAR, 0);
        }
        assert!(!agenda.is_busy(Timestamp::from_secs(9), 10));
        assert!(agenda.is_busy(Timestamp::from_secs(10), 10));
        assert!(!agenda.is_busy(Timestamp::from_secs(10), 11));
        assert_eq!(agenda.take_due(Timestamp::from_secs(10), 4).len(), 4);
        assert!(agenda.is_busy(Timestamp::from_secs(10), 10));
        agenda.forget();
        assert!(!agenda.is_busy(Timestamp::from_secs(10), 5));
        assert!(agenda.is_busy(Timestamp::from_secs(10), 4));
    }

    #[test]
    fn an_end_waits_for_its_grace_and_what_others_do_first_is_done_later() {
        let mut agenda = Deadlines { close_grace_ms: 500, ..Deadlines::default() };
        let now = Timestamp::from_secs(0);
        agenda.watch(&goods(1, Phase::Scheduled, 10, 20), now, FAR, 0);
        agenda.watch(&goods(2, Phase::Scheduled, 10, 20), now, FAR, 1000);
        let mut at = |ms| tasks(&agenda.take_due(now.plus_ms(ms), 10));
        assert_eq!(at(10_000), [(1, Task::Start)]);
        assert_eq!(at(11_000), [(2, Task::Start)]);
        assert_eq!(at(20_499), []);
        assert_eq!(at(20_500), [(1, Task::End)]);
        assert_eq!(at(21_500), [(2, Task::End)]);
    }
}
