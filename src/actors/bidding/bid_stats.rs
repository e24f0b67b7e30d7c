//! What the path of bids counts and measures: answers by door and result, and what is refused before the ledger.

use std::time::Duration;

use super::bid_actor::BidAnswer;
use crate::{
    domain::Refusal,
    metrics::{Counter, CounterSet, Gauge, Registry, TimesSet},
    store::{WriteError, writes::BidVerdict},
};

/// How a bid came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// `POST /goods/{id}/bids`
    Http,
    /// The socket of an auction room.
    Room,
}

const DOORS: [&str; 2] = ["http", "room"];

/// What became of a bid, in the order of [`RESULTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BidResult {
    Accepted,
    TooLow,
    NotStarted,
    Ended,
    SellerCannotBid,
    UnknownGoods,
    Replayed,
    KeyReused,
    NotStored,
    Unknown,
    /// Nobody waits for the answer any more.
    CallerGone,
}

const RESULTS: [&str; 11] = [
    "accepted",
    "bid_too_low",
    "auction_not_started",
    "auction_ended",
    "seller_cannot_bid",
    "not_found",
    "replayed",
    "idempotency_key_reused",
    "not_stored",
    "unknown",
    "caller_gone",
];

impl BidResult {
    fn of(answer: Option<&BidAnswer>) -> Self {
        match answer {
            None => Self::CallerGone,
            Some(BidAnswer::Failed(WriteError::NotStored)) => Self::NotStored,
            Some(BidAnswer::Failed(WriteError::Unknown)) => Self::Unknown,
            Some(BidAnswer::Verdict(verdict)) => match verdict {
                BidVerdict::Accepted(_) => Self::Accepted,
                BidVerdict::Refused(Refusal::TooLow { .. }) => Self::TooLow,
                BidVerdict::Refused(Refusal::NotStarted) => Self::NotStarted,
                BidVerdict::Refused(Refusal::Ended) => Self::Ended,
                BidVerdict::Refused(Refusal::SellerCannotBid) => Self::SellerCannotBid,
                BidVerdict::UnknownGoods => Self::UnknownGoods,
                BidVerdict::Replayed(_) => Self::Replayed,
                BidVerdict::KeyReused => Self::KeyReused,
            },
        }
    }
}

/// Counters of the ingress and the router. Clones share their counts.
#[derive(Debug, Clone)]
pub(crate) struct BidStats {
    answers: CounterSet,
    /// How long each bid with an answer waited for it, by door.
    times: TimesSet,
    /// Bids refused because too many waited.
    pub shed: Counter,
    /// Bids refused because a mailbox was full or there were too many actors.
    pub turned_away: Counter,
    /// Bid actors that have panicked and been replaced.
    pub replaced: Counter,
    /// Bid actors that live.
    pub live: Gauge,
}

impl Default for BidStats {
    fn default() -> Self {
        let labels =
            |door: &'static str| RESULTS.map(|result| vec![("door", door.to_owned()), ("result", result.to_owned())]);
        Self {
            answers: CounterSet::new(DOORS.into_iter().flat_map(labels)),
            times: TimesSet::by("door", DOORS),
            shed: Counter::default(),
            turned_away: Counter::default(),
            replaced: Counter::default(),
            live: Gauge::default(),
        }
    }
}

impl BidStats {
    /// Counts a bid with its answer; `None` if nobody waits for one any more.
    pub(super) fn answered(&self, door: Door, answer: Option<&BidAnswer>, took: Duration) {
        self.answers.add(door as usize * RESULTS.len() + BidResult::of(answer) as usize, 1);
        if answer.is_some() {
            self.times.observe(door as usize, took);
        }
    }

    /// Adds the figures to the metrics.
    pub(crate) fn register(&self, to: &mut Registry) {
        to.register("bids", "Bids by the way they came in and by their result", self.answers.clone());
        to.register("bid_seconds", "Time from a bid's arrival to its answer", self.times.clone());
        to.register("bids_shed", "Bids refused at once because too many waited", self.shed.clone());
        let help = "Bids refused because a mailbox was full or there were too many bid actors";
        to.register("bids_turned_away", help, self.turned_away.clone());
        to.register("bid_actors", "Goods with a bid actor", self.live.clone());
        to.register("bid_actors_replaced", "Bid actors that died and were replaced", self.replaced.clone());
    }
}
