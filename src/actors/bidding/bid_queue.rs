//! The line of bids in front of one goods item: what may be refused at once, what goes to the ledger next, and what
//! must wait for a commit. Plain: no actor, no ledger; `R` is whatever answers a bid.
//!
//! One batch of the goods is in flight at a time; what comes meanwhile gathers and goes as the next batch. The end of
//! the auction stands in the same line, behind everything that came before it.

use std::{collections::VecDeque, sync::Arc};

use super::committed_goods::CommittedState;
use crate::{domain::Refusal, store::writes::KeyedBid};

/// Bids that may wait in one line; beyond, a bid is answered "unavailable, not stored".
pub(crate) const MAX_WAITING: usize = 2048;
/// Bids of one batch: all of them share one entry of the ledger's transaction.
const MAX_BATCH: usize = 128;

/// What becomes of a bid that comes to the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offered<R> {
    /// Certainly refused, from committed facts alone.
    Refused(Refusal, R),
    /// It waits for its turn.
    Waits,
    /// The line is full.
    Full(R),
}

/// What goes to the ledger next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<R, E> {
    /// Bids, in the order in which they came.
    Bids(Vec<(KeyedBid, R)>),
    /// The end.
    End(E),
}

enum InLine<R, E> {
    Bid(KeyedBid, R),
    End(E),
}

pub(crate) struct BidQueue<R, E> {
    /// What may be refused at once.
    known: Arc<CommittedState>,
    waiting: VecDeque<InLine<R, E>>,
    in_flight: bool,
}

impl<R, E> BidQueue<R, E> {
    pub(crate) fn new(known: Arc<CommittedState>) -> Self {
        Self { known, waiting: VecDeque::new(), in_flight: false }
    }

    /// A bid comes. One with a key always goes to the ledger: its first answer may be kept there.
    pub(crate) fn offer(&mut self, bid: KeyedBid, reply: R) -> Offered<R> {
        if bid.key.is_none()
            && let Some(refusal) = self.known.certain_refusal(&bid.bid)
        {
            return Offered::Refused(refusal, reply);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Offered::Full(reply);
        }
        self.waiting.push_back(InLine::Bid(bid, reply));
        Offered::Waits
    }

    /// The end comes; it is never turned away.
    pub(crate) fn offer_end(&mut self, end: E) {
        self.waiting.push_back(InLine::End(end));
    }

    /// What goes to the ledger now; `None` while something is in flight or nothing waits.
    pub(crate) fn next(&mut self) -> Option<Next<R, E>> {
        if self.in_flight {
            return None;
        }
        let mut bids = Vec::new();
        while bids.len() < MAX_BATCH {
            match self.waiting.pop_front() {
                Some(InLine::Bid(bid, reply)) => bids.push((bid, reply)),
                Some(InLine::End(end)) if bids.is_empty() => {
                    self.in_flight = true;
                    return Some(Next::End(end));
                }
                Some(end) => {
                    self.waiting.push_front(end);
                    break;
                }
                None => break,
            }
        }
        self.in_flight = !bids.is_empty();
        self.in_flight.then_some(Next::Bids(bids))
    }

    /// What was in flight is done.
    pub(crate) fn done(&mut self) {
        self.in_flight = false;
    }

    /// Nothing waits, nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Bid, GoodsId, GoodsState, IdempotencyKey, Lead, Phase, Price, Timestamp, User, UserId},
        store::Nodes,
    };

    fn bid(price: i64) -> KeyedBid {
        let bid = Bid {
            goods: GoodsId::from_stored(1),
            user: UserId::from_stored(2),
            price: Price::from_stored(price),
            received_at: Timestamp::from_secs(100),
        };
        KeyedBid { bidder: Arc::new(User::first_seen(bid.user, None, None)), bid, key: None }
    }

    fn goods(high: i64) -> GoodsState {
        GoodsState {
            id: GoodsId::from_stored(1),
            seller: UserId::from_stored(1),
            title: String::new(),
            phase: Phase::Live,
            starts_at: Timestamp::from_secs(0),
            ends_at: Timestamp::from_secs(200),
            start_price: Price::from_stored(1),
            min_increment: Price::from_stored(1),
            lead: Some(Lead { user: UserId::from_stored(3), price: Price::from_stored(high) }),
            bid_seq: high,
            ending_soon_done: false,
        }
    }

    #[test]
    fn one_batch_is_in_flight_and_the_rest_gathers() {
        let mut line: BidQueue<u8, ()> = BidQueue::new(CommittedState::new(Nodes::One));
        assert_eq!(line.offer(bid(5), 1), Offered::Waits);
        assert_eq!(line.next(), Some(Next::Bids(vec![(bid(5), 1)])));
        assert_eq!(line.offer(bid(6), 2), Offered::Waits);
        assert_eq!(line.offer(bid(7), 3), Offered::Waits);
        assert_eq!(line.next(), None, "the first batch is still in flight");
        line.done();
        assert_eq!(line.next(), Some(Next::Bids(vec![(bid(6), 2), (bid(7), 3)])));
    }

    #[test]
    fn the_end_waits_behind_every_bid_that_came_before_it() {
        let mut line: BidQueue<u8, &str> = BidQueue::new(CommittedState::new(Nodes::One));
        assert_eq!(line.offer(bid(5), 1), Offered::Waits);
        assert!(line.next().is_some());
        assert_eq!(line.offer(bid(6), 2), Offered::Waits);
        line.offer_end("end");
        assert_eq!(line.offer(bid(7), 3), Offered::Waits);
        assert_eq!(line.next(), None);
        line.done();
        assert_eq!(line.next(), Some(Next::Bids(vec![(bid(6), 2)])));
        line.done();
        assert_eq!(line.next(), Some(Next::End("end")));
        assert_eq!(line.next(), None, "the bid after the end waits for it");
        let ended = GoodsState { phase: Phase::Ended, ..goods(6) };
        line.known.learn(&ended);
        line.done();
        assert_eq!(line.offer(bid(9), 4), Offered::Refused(Refusal::Ended, 4));
    }

    #[test]
    fn a_bid_with_a_key_goes_to_the_ledger_whatever_is_known() {
        let mut line: BidQueue<u8, ()> = BidQueue::new(CommittedState::new(Nodes::One));
        line.known.learn(&goods(50));
        assert!(matches!(line.offer(bid(45), 2), Offered::Refused(Refusal::TooLow { .. }, 2)));
        assert_eq!(line.offer(bid(51), 3), Offered::Waits);
        let keyed = KeyedBid { key: IdempotencyKey::parse("k"), ..bid(1) };
        assert_eq!(line.offer(keyed, 4), Offered::Waits, "its first answer may be kept");
    }

    #[test]
    fn a_full_line_turns_bids_away_and_never_the_end() {
        let mut line: BidQueue<usize, ()> = BidQueue::new(CommittedState::new(Nodes::One));
        for i in 0..MAX_WAITING {
            assert_eq!(line.offer(bid(5), i), Offered::Waits);
        }
        assert_eq!(line.offer(bid(5), 9), Offered::Full(9));
        line.offer_end(());
        assert!(!line.is_idle());
    }
}
