//! Whether there are more bids than can be answered soon. Plain. One that would wait for too long is refused at once, when
//! that helps its bidder (he hears it early) and all others (they don't wait behind it). A burst is none of that: it is
//! over before anybody has waited for long. Only a crowd that doesn't go away is kept short.

use std::time::{Duration, Instant};

/// So many may always wait: a batch takes them all.
const ALWAYS: usize = 128;
/// How long the bids of a burst may take together.
const BURST: Duration = Duration::from_millis(40);
/// How long those of a crowd may.
const CROWD: Duration = Duration::from_millis(5);
/// More than a crowd may for so long without a break: this is no burst.
const STANDING: Duration = Duration::from_millis(100);
/// Nobody was refused for so long: the crowd has gone.
const GONE: Duration = Duration::from_millis(500);

/// What was seen of the bids that wait.
#[derive(Default)]
pub(crate) struct LoadShedder {
    /// Since when more wait than a crowd may. The first bids after a break find few that wait, and end it.
    since: Option<Instant>,
    /// There is a crowd, and this is when somebody was last refused for it.
    crowd: Option<Instant>,
}

impl LoadShedder {
    /// Whether one bid more is too many now, when `waiting` are being answered and each takes so long where many are written
    /// together.
    pub(crate) fn is_too_much(&mut self, waiting: usize, each: Duration, now: Instant) -> bool {
        let takes = each.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        self.crowd = self.crowd.filter(|refused_at| now.saturating_duration_since(*refused_at) < GONE);
        if waiting < ALWAYS || takes <= CROWD {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if self.crowd.is_some() || now.saturating_duration_since(since) >= STANDING {
            self.crowd = Some(now);
        }
        self.crowd.is_some() || takes > BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(30);

    /// Whether each of so many that wait, at these milliseconds, is too many.
    fn too_much<const N: usize>(pressure: &mut LoadShedder, begun: Instant, seen: [(u64, usize); N]) -> [bool; N] {
        seen.map(|(ms, waiting)| pressure.is_too_much(waiting, FAST, begun + Duration::from_millis(ms)))
    }

    #[test]
    fn a_burst_is_taken_unless_it_would_take_too_long() {
        let (mut pressure, begun) = (LoadShedder::default(), Instant::now());
        assert_eq!(
            too_much(&mut pressure, begun, [(0, 1300), (0, 1400), (99, 1300)]),
            [false, true, false],
            "39, 42, 39 ms"
        );
        // It was refused for the burst's sake; that is no crowd.
        assert_eq!(too_much(&mut pressure, begun, [(99, 160), (99, 200)]), [false, false]);
    }

    #[test]
    fn a_crowd_is_kept_short_until_it_has_gone() {
        let (mut pressure, begun) = (LoadShedder::default(), Instant::now());
        assert_eq!(
            too_much(&mut pressure, begun, [(0, 200), (99, 200), (100, 200)]),
            [false, false, true],
            "6 ms each"
        );
        assert_eq!(too_much(&mut pressure, begun, [(110, 160), (110, 170)]), [false, true], "4.8 and 5.1 ms");
        assert_eq!(too_much(&mut pressure, begun, [(609, 170), (1108, 170)]), [true, true], "refused within 500 ms");
        assert_eq!(too_much(&mut pressure, begun, [(1608, 1), (1608, 1300)]), [false; 2], "a new burst");
    }

    #[test]
    fn a_break_ends_what_might_become_a_crowd() {
        let (mut pressure, begun) = (LoadShedder::default(), Instant::now());
        assert_eq!(too_much(&mut pressure, begun, [(0, 200), (60, 100), (110, 200), (200, 200)]), [false; 4]);
        assert_eq!(too_much(&mut pressure, begun, [(210, 200)]), [true]);
    }

    #[test]
    fn a_batch_is_always_taken_and_nothing_is_refused_while_nothing_is_known() {
        let (mut pressure, now) = (LoadShedder::default(), Instant::now());
        let slow = Duration::from_millis(5);
        assert!(!pressure.is_too_much(127, slow, now), "however slow, one batch takes them");
        assert!(pressure.is_too_much(128, slow, now));
        assert!(!pressure.is_too_much(100_000, Duration::ZERO, now));
    }
}
