//! Refuses bids that would wait too long. A refusal at once helps its bidder, who knows it early, and all others, who
//! don't wait behind that bid. A short burst is admitted, because it is over before anybody has waited for long. Only
//! under overload, when too many bids keep waiting, does the limit become small.

use std::time::{Duration, Instant};

/// Bids that may always wait: one batch of the ledger takes them all.
const ADMITTED_BIDS: usize = 128;
/// How long the ledger may need for the waiting bids of a burst.
const BURST_LIMIT: Duration = Duration::from_millis(40);
/// How long it may need for them under overload.
const OVERLOAD_LIMIT: Duration = Duration::from_millis(5);
/// Above `OVERLOAD_LIMIT` for this long without a break, it is overload and no burst.
const OVERLOAD_AFTER: Duration = Duration::from_millis(100);
/// Without a refusal for this long, the overload is over.
const OVERLOAD_OVER_AFTER: Duration = Duration::from_millis(500);

/// Decides for each bid whether to refuse it; remembers since when too many wait.
#[derive(Default)]
pub(crate) struct LoadShedder {
    /// Since when the waiting bids exceed `OVERLOAD_LIMIT`. A bid that finds fewer resets it.
    since: Option<Instant>,
    /// When a bid was last refused for overload; `None` without overload.
    overload: Option<Instant>,
}

impl LoadShedder {
    /// Whether to refuse the bid that has just come. `waiting` bids, this one included, have no answer yet; the
    /// ledger needs `each` for one of them when it writes many together.
    pub(crate) fn should_shed(&mut self, waiting: usize, each: Duration, now: Instant) -> bool {
        let takes = each.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        self.overload =
            self.overload.filter(|refused_at| now.saturating_duration_since(*refused_at) < OVERLOAD_OVER_AFTER);
        if waiting < ADMITTED_BIDS || takes <= OVERLOAD_LIMIT {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if self.overload.is_some() || now.saturating_duration_since(since) >= OVERLOAD_AFTER {
            self.overload = Some(now);
        }
        self.overload.is_some() || takes > BURST_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(30);

    /// Whether a bid is refused at each sample (milliseconds since `start`, bids waiting).
    fn shed_at<const N: usize>(shedder: &mut LoadShedder, start: Instant, samples: [(u64, usize); N]) -> [bool; N] {
        samples.map(|(ms, waiting)| shedder.should_shed(waiting, FAST, start + Duration::from_millis(ms)))
    }

    #[test]
    fn a_burst_is_admitted_unless_it_would_take_too_long() {
        let (mut shedder, start) = (LoadShedder::default(), Instant::now());
        assert_eq!(
            shed_at(&mut shedder, start, [(0, 1300), (0, 1400), (99, 1300)]),
            [false, true, false],
            "39, 42, 39 ms"
        );
        // A bid over the burst limit is no overload.
        assert_eq!(shed_at(&mut shedder, start, [(99, 160), (99, 200)]), [false, false]);
    }

    #[test]
    fn under_overload_few_may_wait_until_it_is_over() {
        let (mut shedder, start) = (LoadShedder::default(), Instant::now());
        assert_eq!(shed_at(&mut shedder, start, [(0, 200), (99, 200), (100, 200)]), [false, false, true], "6 ms each");
        assert_eq!(shed_at(&mut shedder, start, [(110, 160), (110, 170)]), [false, true], "4.8 and 5.1 ms");
        assert_eq!(shed_at(&mut shedder, start, [(609, 170), (1108, 170)]), [true, true], "refused within 500 ms");
        assert_eq!(shed_at(&mut shedder, start, [(1608, 1), (1608, 1300)]), [false; 2], "a new burst");
    }

    #[test]
    fn a_break_keeps_a_burst_from_becoming_overload() {
        let (mut shedder, start) = (LoadShedder::default(), Instant::now());
        assert_eq!(shed_at(&mut shedder, start, [(0, 200), (60, 100), (110, 200), (200, 200)]), [false; 4]);
        assert_eq!(shed_at(&mut shedder, start, [(210, 200)]), [true]);
    }

    #[test]
    fn a_batch_is_always_admitted_and_nothing_is_refused_before_the_pace_is_known() {
        let (mut shedder, now) = (LoadShedder::default(), Instant::now());
        let slow = Duration::from_millis(5);
        assert!(!shedder.should_shed(127, slow, now), "however slow, one batch takes them");
        assert!(shedder.should_shed(128, slow, now));
        assert!(!shedder.should_shed(100_000, Duration::ZERO, now));
    }
}
