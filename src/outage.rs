//! How often the log mentions what happens again and again.
//!
//! - [`Outage`], for failures: the log has the first failure at once, then the number of failures once a minute, then
//!   the end of the outage.
//! - [`LogBudget`], for everything else: the log has a limited number of lines in a given time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use log::kv::{ToValue, Value};

/// Time between two log lines about the same outage.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// An outage ends when something succeeds and nothing has failed for this time. If one of ten attempts fails, that is one
/// outage and not many.
const QUIET_BEFORE_END: Duration = Duration::from_secs(2);

/// Tracks whether something is failing. Recording a success costs next to nothing while nothing fails.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_ongoing: AtomicBool,
    state: Mutex<Option<State>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    since: Instant,
    failures: u64,
    last_failure: Instant,
    /// The first one after the last failure.
    first_success: Option<Instant>,
    reported_at: Instant,
}

/// What the log says about an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutageReport {
    /// How long it has lasted so far, or lasted in all.
    pub lasted: Duration,
    /// How many attempts have failed.
    pub failures: u64,
}

impl OutageReport {
    /// The duration in seconds, to tenths, as a field of the log.
    pub(crate) fn lasted_s(&self) -> f64 {
        (self.lasted.as_secs_f64() * 10.0).round() / 10.0
    }
}

impl Outage {
    /// Nothing fails yet.
    pub(crate) const fn new() -> Self {
        Self { is_ongoing: AtomicBool::new(false), state: Mutex::new(None) }
    }

    /// Whether there is an outage whose end has not been reported yet.
    pub(crate) fn is_ongoing(&self) -> bool {
        self.is_ongoing.load(Ordering::Relaxed)
    }

    /// Records a failure. Returns a report if it is time to log one.
    pub(crate) fn record_failure(&self, now: Instant) -> Option<OutageReport> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_ongoing.store(true, Ordering::Relaxed);
        let Some(state) = state.as_mut() else {
            let first = State { since: now, failures: 1, last_failure: now, first_success: None, reported_at: now };
            *state = Some(first);
            return Some(OutageReport { lasted: Duration::ZERO, failures: 1 });
        };
        state.failures += 1;
        state.last_failure = now;
        state.first_success = None;
        if now.saturating_duration_since(state.reported_at) < REPORT_INTERVAL {
            return None;
        }
        state.reported_at = now;
        Some(OutageReport { lasted: now.saturating_duration_since(state.since), failures: state.failures })
    }

    /// Records a success. Returns the outage if it has ended.
    pub(crate) fn record_success(&self, now: impl FnOnce() -> Instant) -> Option<OutageReport> {
        if !self.is_ongoing() {
            return None;
        }
        let now = now();
        if let Some(state) = self.state.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            state.first_success.get_or_insert(now);
        }
        self.take_ended(|| now)
    }

    /// Returns the outage if it has ended, once. For callers that may not try anything for a while after a success.
    pub(crate) fn take_ended(&self, now: impl FnOnce() -> Instant) -> Option<OutageReport> {
        if !self.is_ongoing() {
            return None;
        }
        let now = now();
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = guard.as_mut()?;
        let first_success = state.first_success?;
        if now.saturating_duration_since(state.last_failure) < QUIET_BEFORE_END {
            return None;
        }
        let lasted = first_success.saturating_duration_since(state.since);
        let report = OutageReport { lasted, failures: state.failures };
        *guard = None;
        self.is_ongoing.store(false, Ordering::Relaxed);
        Some(report)
    }
}

/// Allows a number of log lines in each interval, and counts those left out.
#[derive(Debug)]
pub(crate) struct LogBudget {
    lines: u32,
    interval: Duration,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

/// How many lines were left out since the last one: a field of the next line, which has none if it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl ToValue for LeftOut {
    fn to_value(&self) -> Value<'_> {
        if self.0 == 0 { Value::null() } else { self.0.into() }
    }
}

impl LogBudget {
    /// At most this many lines in each interval. An interval begins with the first line after the previous one.
    pub(crate) const fn new(lines: u32, interval: Duration) -> Self {
        Self { lines, interval, spent: Mutex::new(Spent { since: None, lines: 0, left_out: 0 }) }
    }

    /// Takes one line from the budget. `None` if there is none left: then the line must be left out.
    pub(crate) fn spend(&self, now: Instant) -> Option<LeftOut> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.since.is_none_or(|since| now.saturating_duration_since(since) >= self.interval) {
            spent.since = Some(now);
            spent.lines = 0;
        }
        if spent.lines >= self.lines {
            spent.left_out += 1;
            return None;
        }
        spent.lines += 1;
        Some(LeftOut(std::mem::take(&mut spent.left_out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_reported_at_once_then_each_minute_and_when_it_is_over() {
        let (outage, begun) = (Outage::default(), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        assert_eq!(outage.record_success(|| at(0)), None);
        assert_eq!(outage.record_failure(at(0)), Some(OutageReport { lasted: Duration::ZERO, failures: 1 }));
        for ms in (10..60_000).step_by(10) {
            assert_eq!(outage.record_failure(at(ms)), None);
        }
        let report = OutageReport { lasted: Duration::from_secs(60), failures: 6001 };
        assert_eq!(outage.record_failure(at(60_000)), Some(report));
        assert_eq!(outage.record_failure(at(60_010)), None);
        assert_eq!(outage.record_success(|| at(61_000)), None, "it may fail again");
        let over = OutageReport { lasted: Duration::from_secs(61), failures: 6002 };
        assert_eq!(outage.take_ended(|| at(62_000)), None);
        assert_eq!(
            outage.take_ended(|| at(62_010)),
            Some(over),
            "it ended with the first success, though nothing has been tried since"
        );
        assert_eq!(outage.record_success(|| at(62_020)), None, "once");
        assert!(outage.record_failure(at(62_030)).is_some(), "another one");
    }

    #[test]
    fn failures_among_successes_are_one_outage() {
        let (outage, begun) = (Outage::default(), Instant::now());
        let mut reports = 0;
        for ms in 0..50_000u64 {
            let now = begun + Duration::from_millis(ms);
            let report = if ms % 1000 == 0 { outage.record_failure(now) } else { outage.record_success(|| now) };
            reports += u32::from(report.is_some());
        }
        assert_eq!(reports, 1);
    }

    #[test]
    fn an_outage_whose_last_failure_is_long_past_ends_with_the_first_success() {
        let (outage, begun) = (Outage::default(), Instant::now());
        outage.record_failure(begun);
        let over = outage.record_success(|| begun + Duration::from_secs(3600));
        assert_eq!(over, Some(OutageReport { lasted: Duration::from_secs(3600), failures: 1 }));
    }

    #[test]
    fn a_budget_allows_its_lines_and_counts_the_rest() {
        let (budget, begun) = (LogBudget::new(2, Duration::from_secs(1)), Instant::now());
        let at = |ms: u64| budget.spend(begun + Duration::from_millis(ms)).map(|LeftOut(lines)| lines);
        assert_eq!([at(0), at(1), at(2), at(999)], [Some(0), Some(0), None, None]);
        assert_eq!([at(1000), at(1001), at(1002)], [Some(2), Some(0), None]);
    }
}
