//! Decides whether one order of calls explains everything that clients saw of the bids on one goods item, each call
//! taking effect at one moment between its beginning and its answer (linearizability).
//!
//! In general that is a search over all orders. Here it is none, because prices strictly rise: the stored history says
//! which bid came when, and a price named in an answer says between which two bids it was given. So each call has a
//! stage in which its moment lies, the stages have one order, and what is left to ask is whether every call can have a
//! moment in its own time that is not before the moments of earlier stages. The earliest possible moments answer that.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// What the rule needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Auction {
    pub seller: i64,
    pub start_price: i64,
    pub min_increment: i64,
}

/// What one client saw of one call. Times are by one clock that never steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub user: i64,
    pub price: i64,
    pub key: Option<u32>,
    pub began: Duration,
    /// Of an unknown outcome: when it was given up, which says nothing.
    pub ended: Duration,
    pub outcome: Outcome,
    /// The answer was marked as the first one again.
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
    /// Refused for a reason outside the rule, and certainly without effect.
    NotStored,
    /// No answer, or one that says that it doesn't know: it may have taken effect at any time after its beginning.
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

/// The end of an unknown outcome.
const NEVER: Duration = Duration::MAX;

/// A call that was judged, and the stages in which its moment may lie: usually one.
#[derive(Debug, Clone, Copy)]
struct Judged {
    call: usize,
    first: usize,
    last: usize,
}

/// Decides. `history` is what is stored when all calls are over.
pub fn explain(auction: &Auction, calls: &[Call], history: &[Stored]) -> Result<(), Contradiction> {
    check_keys(calls);
    let bids = Bids { auction, history };
    bids.follow_the_rule()?;
    let judged = bids.judged(calls)?;
    let moments = earliest_moments(calls, &judged, bids.stages())?;
    answers_again(calls, &judged, &moments)
}

/// A key without a first answer has one price, or it could not be told which of its calls was the first.
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

/// Stages, in their order: before the start, then each state of the bids and each accepted bid in turn, after the end.
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

    /// While so many bids are accepted.
    fn of_state(&self, seq: usize) -> usize {
        1 + 2 * seq
    }

    /// The acceptance itself, between the state before it and the state after it.
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

    /// The calls that were judged by the rule, each with its stages. What was not judged has none: it fits everywhere.
    fn judged(&self, calls: &[Call]) -> Result<Vec<Judged>, Contradiction> {
        let mut judged = Vec::new();
        for (at, call) in calls.iter().enumerate().filter(|(_, call)| !call.replayed) {
            if let Some((first, last)) = self.stages_of(call)? {
                judged.push(Judged { call: at, first, last });
            }
        }
        self.told_later(calls, &mut judged)?;
        self.unheard_bids(calls, &mut judged)?;
        let mut made = HashSet::new();
        for one in judged.iter().filter(|one| self.is_acceptance(one.first)) {
            if !made.insert(one.first) {
                return Err(format!("two calls were the one bid: {:?}", calls[one.call]));
            }
        }
        Ok(judged)
    }

    /// Calls without an answer, of which later ones under the same key tell what it was.
    fn told_later(&self, calls: &[Call], judged: &mut Vec<Judged>) -> Result<(), Contradiction> {
        let firsts = first_answers(calls, judged)?;
        let mut told: HashMap<Key, usize> = HashMap::new();
        for (at, again) in calls.iter().enumerate().filter(|(_, call)| call.replayed) {
            let Some(key) = keyed(again) else { return Err(format!("again, without a key: {again:?}")) };
            let Some((first, last)) = self.stages_of(again)? else { return Err(format!("no verdict: {again:?}")) };
            // What a first one is told twice has to agree, which is looked at when the moments are known.
            if !firsts.contains_key(&key) && told.insert(key, at).is_none() {
                let meant = |call: &Call| keyed(call) == Some(key);
                let call = earliest_unheard(calls, meant).ok_or_else(|| format!("nothing went before: {again:?}"))?;
                judged.push(Judged { call, first, last });
            }
        }
        Ok(())
    }

    /// Calls without an answer that must have been the stored bids that nobody was told of.
    fn unheard_bids(&self, calls: &[Call], judged: &mut Vec<Judged>) -> Result<(), Contradiction> {
        let firsts = first_answers(calls, judged)?;
        let made: HashSet<usize> = judged.iter().map(|one| one.first).collect();
        for bid in self.history {
            let stage = self.of_acceptance(bid.seq);
            if !made.contains(&stage) {
                let meant = |call: &Call| {
                    let free = keyed(call).is_none_or(|key| !firsts.contains_key(&key));
                    free && (call.user, call.price) == (bid.user, bid.price)
                };
                let call = earliest_unheard(calls, meant).ok_or_else(|| format!("nobody made {bid:?}"))?;
                judged.push(Judged { call, first: stage, last: stage });
            }
        }
        Ok(())
    }

    /// In which stages an answer was given; `None` if it could be in any. An answer that fits no stage contradicts.
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

/// Keys are a user's own.
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

/// Of several calls without an answer that could be meant, the earliest leaves the most room to all others.
fn earliest_unheard(calls: &[Call], meant: impl Fn(&Call) -> bool) -> Option<usize> {
    let unheard = calls.iter().enumerate().filter(|(_, call)| call.outcome == Outcome::Unknown && meant(call));
    unheard.min_by_key(|(_, call)| call.began).map(|(at, _)| at)
}

/// The earliest moment of each judged call, if all of them can have one in their own time.
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
    // Where each stage can begin: not before the moments of all stages that are over by then.
    let mut ends: Vec<Duration> = vec![Duration::ZERO; stages];
    let mut floor = Duration::ZERO;
    for stage in 0..stages {
        for one in &by_stage[stage] {
            let call = &calls[one.call];
            let moment = call.began.max(floor);
            let latest = if call.outcome == Outcome::Unknown { NEVER } else { call.ended };
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

/// Whoever was given a first answer again, or was told that his key is another bid's, came after that bid.
fn answers_again(calls: &[Call], judged: &[Judged], moments: &HashMap<usize, Duration>) -> Result<(), Contradiction> {
    let firsts = first_answers(calls, judged)?;
    let mut told: HashMap<Key, &Call> = HashMap::new();
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
            if first.outcome == Outcome::Unknown && !reused { *told.entry(key).or_insert(call) } else { first };
        if !reused && answer.outcome != call.outcome {
            return Err(format!("{call:?} after {answer:?}"));
        }
    }
    Ok(())
}
