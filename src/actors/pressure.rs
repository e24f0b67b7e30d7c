//! Whether there are more bids than can be answered soon. Plain. One that would wait for too long is refused at once, when
//! that helps its bidder (he hears it early) and all others (they don't wait behind it).

use std::time::Duration;

/// So many may always wait: a batch takes them all.
const ALWAYS: usize = 128;
/// How long the bids that wait may take together.
const PATIENCE: Duration = Duration::from_millis(20);

/// Whether one bid more is too many, when `waiting` are being answered and each takes so long where many are written together.
pub(super) fn is_too_much(waiting: usize, each: Duration) -> bool {
    waiting >= ALWAYS && each.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX)) > PATIENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_wait_for_long_is_refused_and_a_burst_is_not() {
        let fast = Duration::from_micros(30);
        assert!(!is_too_much(600, fast), "18 ms");
        assert!(is_too_much(700, fast), "21 ms");
        let slow = Duration::from_millis(5);
        assert!(!is_too_much(127, slow), "however slow, one batch takes them");
        assert!(is_too_much(128, slow));
        assert!(!is_too_much(100_000, Duration::ZERO), "nothing is known yet");
    }
}
