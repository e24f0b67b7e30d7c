//! Decides whether one order of calls explains everything that clients saw of the bids on one goods item, with each
//! call taking effect at one moment between its beginning and its answer (linearizability).
//! ¶ In general this is a search over all orders. Here prices strictly rise, so the stored history gives the order of
//! bids, and the price in an answer says between which two bids the call was judged. Each call therefore has a stage
//! that contains its moment, and the stages have one order. What remains is whether every call can have a moment within
//! its own time that is not before the moments of earlier stages. The earliest possible moments decide that.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// The facts that the bid rule needs.
#[derive(Debug, Clone, Copy)]
pub struct Auction {
    pub seller: i64,
    pub start_price: i64,
    pub min_increment: i64,
}

/// What one client saw of one call. Times are by one monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub user: i64,
    pub price: i64,
    pub key: Option<u32>,
    pub began: Duration,
    /// If the outcome is unknown: when the client gave up, which says nothing.
    pub ended: Duration,
    pub outcome: Outcome,
    /// The answer was marked as a repetition of the first one.
    pub replayed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Accepted {
        seq: usize,
    },
    TooLow {
        high: Option<i64>,
        minimum: i64,
    },
    NotStarted,
    Ended,
    SellerCannotBid,
    KeyReused,
    /// Refused for a reason outside the bid rule, certainly without effect.
    NotStored,
    /// No answer, or one that leaves the outcome open: the call may have taken effect at any time after its beginning.
    Unknown,
    /// Not a bid: the goods' page, with the number of bids and the highest price.
    Saw {
        seq: usize,
        high: Option<i64>,
    },
}

/// A bid of the stored history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub seq: usize,
    pub user: i64,
    pub price: i64,
}

/// Why no order explains what was seen.
pub type Contradiction = String;

/// The end of a call with unknown outcome.
const FOREVER: Duration = Duration::MAX;

/// A call that was judged, and the range of stages that its moment may be in: usually one.
#[derive(Debug, Clone, Copy)]
struct Judged {
    call: usize,
    first: usize,
    last: usize,
}

/// Decides whether one order explains the calls. `history` is what is stored after all of them.
pub fn explain(auction: &Auction, calls: &[Call], history: &[Stored]) -> Result<(), Contradiction> {
    check_keys(calls);
    let bids = Bids { auction, history };
    bids.follow_the_rule()?;
    let judged = bids.judged(calls)?;
    let moments = earliest_moments(calls, &judged, bids.stages())?;
    check_replays(calls, &judged, &moments)
}

/// A key without a first answer must have one price, or its first call could not be identified.
fn check_keys(calls: &[Call]) {
    let mut prices: HashMap<Key, i64> = HashMap::new();
    for call in calls.iter().filter(|call| call.outcome == Outcome::Unknown) {
        if let Some(key) = keyed(call) {
            prices.insert(key, call.price);
        }
    }
    let one_price =
        |call: &&Call| keyed(call).and_then(|key| prices.get(&key)).is_none_or(|price| *price == call.price);
    assert!(calls.iter().all(|call| one_price(&call)), "not decided here: another price under a key without an answer");
}

/// The stages in order: before the start; each state of the bids and each acceptance in turn; after the end.
struct Bids<'a> {
    auction: &'a Auction,
    history: &'a [Stored],
}

const BEFORE_START: usize = 0;

impl Bids<'_> {
    fn stages(&self) -> usize {
        self.after_end() + 1
    }

    fn after_end(&self) -> usize {
        self.of_state(self.history.len()) + 1
    }

    /// The stage while so many bids are accepted.
    fn of_state(&self, seq: usize) -> usize {
        1 + 2 * seq
    }

    /// The stage of the acceptance itself, between the state before and the state after it.
    fn of_acceptance(&self, seq: usize) -> usize {
        2 * seq
    }

    fn is_acceptance(&self, stage: usize) -> bool {
        stage.is_multiple_of(2) && stage != BEFORE_START && stage != self.after_end()
    }

    fn high(&self, seq: usize) -> Option<i64> {
        seq.checked_sub(1).map(|before| self.history[before].price)
    }

    fn minimum(&self, seq: usize) -> i64 {
        self.high(seq).map_or(self.auction.start_price, |high| high + self.auction.min_increment)
    }

    fn follow_the_rule(&self) -> Result<(), Contradiction> {
        for (before, bid) in self.history.iter().enumerate() {
            if bid.seq != before + 1 {
                return Err(format!("a gap before {bid:?}"));
            }
            if bid.price < self.minimum(before) || bid.user == self.auction.seller {
                return Err(format!("{bid:?} should have been refused"));
            }
        }
        Ok(())
    }

    /// The calls that were judged by the bid rule, each with its stages. Calls that were not judged are left out: they
    /// fit everywhere.
    fn judged(&self, calls: &[Call]) -> Result<Vec<Judged>, Contradiction> {
        let mut judged = Vec::new();
        for (at, call) in calls.iter().enumerate().filter(|(_, call)| !call.replayed) {
            if let Some((first, last)) = self.stages_of(call)? {
                judged.push(Judged { call: at, first, last });
            }
        }
        self.add_replayed(calls, &mut judged)?;
        self.add_unanswered(calls, &mut judged)?;
        let mut made = HashSet::new();
        for one in judged.iter().filter(|one| self.is_acceptance(one.first)) {
            if !made.insert(one.first) {
                return Err(format!("two calls were the one bid: {:?}", calls[one.call]));
            }
        }
        Ok(judged)
    }

    /// Adds the unanswered calls whose answer is known from a later call under the same key.
    fn add_replayed(&self, calls: &[Call], judged: &mut Vec<Judged>) -> Result<(), Contradiction> {
        let firsts = first_answers(calls, judged)?;
        let mut replays: HashMap<Key, usize> = HashMap::new();
        for (at, again) in calls.iter().enumerate().filter(|(_, call)| call.replayed) {
            let Some(key) = keyed(again) else { return Err(format!("again, without a key: {again:?}")) };
            let Some((first, last)) = self.stages_of(again)? else { return Err(format!("no verdict: {again:?}")) };
            // Two replays of one first answer must agree, which is checked when the moments are known.
            if !firsts.contains_key(&key) && replays.insert(key, at).is_none() {
                let matches = |call: &Call| keyed(call) == Some(key);
                let call =
                    earliest_unanswered(calls, matches).ok_or_else(|| format!("nothing went before: {again:?}"))?;
                judged.push(Judged { call, first, last });
            }
        }
        Ok(())
    }

    /// Adds the unanswered calls that must have made the stored bids without an answer.
    fn add_unanswered(&self, calls: &[Call], judged: &mut Vec<Judged>) -> Result<(), Contradiction> {
        let firsts = first_answers(calls, judged)?;
        let made: HashSet<usize> = judged.iter().map(|one| one.first).collect();
        for bid in self.history {
            let stage = self.of_acceptance(bid.seq);
            if !made.contains(&stage) {
                let matches = |call: &Call| {
                    let free = keyed(call).is_none_or(|key| !firsts.contains_key(&key));
                    free && (call.user, call.price) == (bid.user, bid.price)
                };
                let call = earliest_unanswered(calls, matches).ok_or_else(|| format!("nobody made {bid:?}"))?;
                judged.push(Judged { call, first: stage, last: stage });
            }
        }
        Ok(())
    }

    /// The stages that an answer fits; `None` if it fits any. An answer that fits no stage is a contradiction.
    fn stages_of(&self, call: &Call) -> Result<Option<(usize, usize)>, Contradiction> {
        let only = |stage| Ok(Some((stage, stage)));
        let others = matches!(call.outcome, Outcome::TooLow { .. } | Outcome::NotStarted | Outcome::Ended);
        if others && call.user == self.auction.seller {
            return Err(format!("{call:?} is the seller's"));
        }
        match call.outcome {
            Outcome::Accepted { seq } => match seq.checked_sub(1).and_then(|before| self.history.get(before)) {
                Some(bid) if (bid.user, bid.price) == (call.user, call.price) => only(self.of_acceptance(seq)),
                Some(bid) => Err(format!("{call:?} is stored as {bid:?}")),
                None => Err(format!("{call:?} is lost")),
            },
            Outcome::TooLow { high, minimum } => {
                let seq = self.state_with(high).ok_or_else(|| format!("{high:?} was never the price: {call:?}"))?;
                if minimum != self.minimum(seq) || call.price >= minimum {
                    return Err(format!("{call:?} against the rule"));
                }
                only(self.of_state(seq))
            }
            Outcome::Saw { seq, high } => {
                if seq > self.history.len() || self.high(seq) != high {
                    return Err(format!("{call:?} was never so"));
                }
                let first = if seq == 0 { BEFORE_START } else { self.of_state(seq) };
                let last = if seq == self.history.len() { self.after_end() } else { self.of_state(seq) };
                Ok(Some((first, last)))
            }
            Outcome::NotStarted => only(BEFORE_START),
            Outcome::Ended => only(self.after_end()),
            Outcome::SellerCannotBid if call.user == self.auction.seller => Ok(Some((BEFORE_START, self.after_end()))),
            Outcome::SellerCannotBid => Err(format!("{call:?} is not the seller's")),
            Outcome::KeyReused | Outcome::NotStored | Outcome::Unknown => Ok(None),
        }
    }

    /// The one state with this price.
    fn state_with(&self, high: Option<i64>) -> Option<usize> {
        match high {
            None => Some(0),
            Some(high) => self.history.iter().find(|bid| bid.price == high).map(|bid| bid.seq),
        }
    }
}

/// A user and one of their keys.
type Key = (i64, u32);

fn keyed(call: &Call) -> Option<Key> {
    call.key.map(|key| (call.user, key))
}

/// The judged call under each key.
fn first_answers(calls: &[Call], judged: &[Judged]) -> Result<HashMap<Key, usize>, Contradiction> {
    let mut firsts = HashMap::new();
    for one in judged {
        if let Some(key) = keyed(&calls[one.call])
            && firsts.insert(key, one.call).is_some()
        {
            return Err(format!("judged twice under one key: {:?}", calls[one.call]));
        }
    }
    Ok(firsts)
}

/// Among the unanswered calls that match, the earliest leaves the most freedom to all others.
fn earliest_unanswered(calls: &[Call], matches: impl Fn(&Call) -> bool) -> Option<usize> {
    let unanswered = calls.iter().enumerate().filter(|(_, call)| call.outcome == Outcome::Unknown && matches(call));
    unanswered.min_by_key(|(_, call)| call.began).map(|(at, _)| at)
}

/// The earliest moment of each judged call, if all of them have one within their own time.
fn earliest_moments(
    calls: &[Call],
    judged: &[Judged],
    stages: usize,
) -> Result<HashMap<usize, Duration>, Contradiction> {
    let mut by_stage: Vec<Vec<&Judged>> = vec![Vec::new(); stages];
    for one in judged {
        by_stage[one.first].push(one);
    }
    let mut moments = HashMap::new();
    // The earliest beginning of each stage: not before the moments of all stages that are over by then.
    let mut ends: Vec<Duration> = vec![Duration::ZERO; stages];
    let mut floor = Duration::ZERO;
    for stage in 0..stages {
        for one in &by_stage[stage] {
            let call = &calls[one.call];
            let moment = call.began.max(floor);
            let latest = if call.outcome == Outcome::Unknown { FOREVER } else { call.ended };
            if moment > latest {
                return Err(format!("{call:?} was over before what it shows could be, at {moment:?}"));
            }
            moments.insert(one.call, moment);
            ends[one.last] = ends[one.last].max(moment);
        }
        floor = floor.max(ends[stage]);
    }
    Ok(moments)
}

/// A replayed answer, or a refusal because the key belongs to another bid, must come after that bid.
fn check_replays(calls: &[Call], judged: &[Judged], moments: &HashMap<usize, Duration>) -> Result<(), Contradiction> {
    let firsts = first_answers(calls, judged)?;
    let mut replays: HashMap<Key, &Call> = HashMap::new();
    for call in calls.iter().filter(|call| call.replayed || call.outcome == Outcome::KeyReused) {
        let first = keyed(call).and_then(|key| Some((key, *firsts.get(&key)?)));
        let Some((key, at)) = first else { return Err(format!("nothing had this key before: {call:?}")) };
        let first = &calls[at];
        if moments[&at] > call.ended {
            return Err(format!("{call:?} was over before its first answer could be"));
        }
        let reused = call.outcome == Outcome::KeyReused;
        if (first.price != call.price) != reused {
            return Err(format!("{call:?} after {first:?}"));
        }
        let answer =
            if first.outcome == Outcome::Unknown && !reused { *replays.entry(key).or_insert(call) } else { first };
        if !reused && answer.outcome != call.outcome {
            return Err(format!("{call:?} after {answer:?}"));
        }
    }
    Ok(())
}
