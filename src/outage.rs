//! How much of what happens again and again the log tells. Of a failure: the first one at once, then how many there have
//! been once a minute, then that it is over ([`Outage`]). Of anything else: so much in a time ([`Budget`]).

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Between two lines about the same outage.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// An outage is over when something works and nothing has failed for so long: where one in ten fails, that is one outage.
const QUIET: Duration = Duration::from_secs(2);

/// Whether something is failing. Cheap to ask while it works.
#[derive(Debug, Default)]
pub struct Outage {
    is_out: AtomicBool,
    state: Mutex<Option<State>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    since: Instant,
    failures: u64,
    last_failure: Instant,
    /// Since the last failure.
    first_success: Option<Instant>,
    said: Instant,
}

/// What is to be said of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// How long it has lasted.
    pub lasted: Duration,
    /// How many failures there have been.
    pub failures: u64,
}

/// Nothing for the first failure, otherwise how many there are, to stand behind what fails.
impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.failures {
            1 => Ok(()),
            failures => write!(f, " ({failures} times in {:.0} s)", self.lasted.as_secs_f64()),
        }
    }
}

impl Failing {
    /// The whole of it, when it is over.
    pub fn in_all(&self) -> String {
        format!("{:.1} s, {} failed tries", self.lasted.as_secs_f64(), self.failures)
    }
}

impl Outage {
    /// While nothing fails.
    pub const fn new() -> Self {
        Self { is_out: AtomicBool::new(false), state: Mutex::new(None) }
    }

    /// Whether it is failing, or it has not been said that it is over.
    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    /// It has failed. Gives what is to be said, if it is time for it.
    pub fn failed(&self, now: Instant) -> Option<Failing> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_out.store(true, Ordering::Relaxed);
        let Some(state) = state.as_mut() else {
            let first = State { since: now, failures: 1, last_failure: now, first_success: None, said: now };
            *state = Some(first);
            return Some(Failing { lasted: Duration::ZERO, failures: 1 });
        };
        state.failures += 1;
        state.last_failure = now;
        state.first_success = None;
        if now.saturating_duration_since(state.said) < SAY_EVERY {
            return None;
        }
        state.said = now;
        Some(Failing { lasted: now.saturating_duration_since(state.since), failures: state.failures })
    }

    /// It has worked. Gives the outage that is over by that.
    pub fn worked(&self, now: impl FnOnce() -> Instant) -> Option<Failing> {
        if !self.is_out() {
            return None;
        }
        let now = now();
        if let Some(state) = self.state.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            state.first_success.get_or_insert(now);
        }
        self.ended(|| now)
    }

    /// Gives the outage that is over by now, if it has not been given. To be asked where nothing may be tried for a while.
    pub fn ended(&self, now: impl FnOnce() -> Instant) -> Option<Failing> {
        if !self.is_out() {
            return None;
        }
        let now = now();
        let mut all = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = all.as_mut()?;
        let first_success = state.first_success?;
        if now.saturating_duration_since(state.last_failure) < QUIET {
            return None;
        }
        let over = Failing { lasted: first_success.saturating_duration_since(state.since), failures: state.failures };
        *all = None;
        self.is_out.store(false, Ordering::Relaxed);
        Some(over)
    }
}

/// At most so many lines in a time.
#[derive(Debug)]
pub struct Budget {
    most: u32,
    time: Duration,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

/// How many were left out before a line, to stand behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut(u64);

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more before this)"),
        }
    }
}

impl Budget {
    /// For so many lines in this time.
    pub const fn new(most: u32, time: Duration) -> Self {
        Self { most, time, spent: Mutex::new(Spent { since: None, said: 0, unsaid: 0 }) }
    }

    /// It has happened. Gives what is to be said with it, if there is room for a line.
    pub fn spend(&self, now: Instant) -> Option<LeftOut> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.since.is_none_or(|since| now.saturating_duration_since(since) >= self.time) {
            spent.since = Some(now);
            spent.said = 0;
        }
        if spent.said >= self.most {
            spent.unsaid += 1;
            return None;
        }
        spent.said += 1;
        Some(LeftOut(std::mem::take(&mut spent.unsaid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_once_then_each_minute_and_when_it_is_over() {
        let (outage, begun) = (Outage::default(), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        assert_eq!(outage.worked(|| at(0)), None);
        assert_eq!(outage.failed(at(0)).map(|failing| failing.to_string()), Some(String::new()));
        for ms in (10..60_000).step_by(10) {
            assert_eq!(outage.failed(at(ms)), None);
        }
        assert_eq!(outage.failed(at(60_000)).map(|failing| failing.to_string()), Some(" (6001 times in 60 s)".into()));
        assert_eq!(outage.failed(at(60_010)), None);
        assert_eq!(outage.worked(|| at(61_000)), None, "it may fail again");
        let over = Failing { lasted: Duration::from_secs(61), failures: 6002 };
        assert_eq!(outage.ended(|| at(62_000)), None);
        assert_eq!(
            outage.ended(|| at(62_010)),
            Some(over),
            "since the first success, though nothing has been tried since"
        );
        assert_eq!(outage.worked(|| at(62_020)), None, "once");
        assert!(outage.failed(at(62_030)).is_some(), "another one");
    }

    #[test]
    fn what_fails_now_and_then_is_one_outage() {
        let (outage, begun) = (Outage::default(), Instant::now());
        let mut said = 0;
        for ms in 0..50_000u64 {
            let now = begun + Duration::from_millis(ms);
            let news = if ms % 1000 == 0 { outage.failed(now) } else { outage.worked(|| now) };
            said += u32::from(news.is_some());
        }
        assert_eq!(said, 1);
    }

    #[test]
    fn a_failure_that_is_long_past_is_over_with_the_first_success() {
        let (outage, begun) = (Outage::default(), Instant::now());
        outage.failed(begun);
        let over = outage.worked(|| begun + Duration::from_secs(3600));
        assert_eq!(over, Some(Failing { lasted: Duration::from_secs(3600), failures: 1 }));
    }

    #[test]
    fn a_budget_says_so_many_and_counts_the_rest() {
        let (budget, begun) = (Budget::new(2, Duration::from_secs(1)), Instant::now());
        let at = |ms: u64| budget.spend(begun + Duration::from_millis(ms)).map(|left_out| left_out.to_string());
        assert_eq!([at(0), at(1), at(2), at(999)], [Some(String::new()), Some(String::new()), None, None]);
        assert_eq!([at(1000), at(1001), at(1002)], [Some(" (2 more before this)".into()), Some(String::new()), None]);
    }
}
