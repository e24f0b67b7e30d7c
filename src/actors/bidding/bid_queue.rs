//! The queue of bids on one goods item. It decides which bid is refused at once, what goes to the ledger next, and what
//! waits for a commit. It knows neither actors nor the ledger: `R` answers a bid, `E` answers an end.
//!
//! One batch of the goods is in flight at a time. Bids that come meanwhile form the next batch. The end of the auction
//! waits in the same queue, behind every bid that came before it.

use std::{collections::VecDeque, sync::Arc};

use super::committed_goods::CommittedState;
use crate::{domain::Refusal, store::writes::KeyedBid};

/// Entries of one queue. When it is full, a bid is answered "not stored".
pub(crate) const MAX_WAITING: usize = 2048;
/// Bids of one batch, which is one entry of the ledger's transaction.
const MAX_BATCH: usize = 128;

/// What happens to a bid offered to the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offered<R> {
    /// Committed facts alone make its refusal certain.
    Refused(Refusal, R),
    Waits,
    Full(R),
}

/// What goes to the ledger next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<R, E> {
    /// Bids in the order in which they came.
    Bids(Vec<(KeyedBid, R)>),
    End(E),
}

enum Entry<R, E> {
    Bid(KeyedBid, R),
    End(E),
}

pub(crate) struct BidQueue<R, E> {
    /// Decides which bids are refused at once.
    committed: Arc<CommittedState>,
    waiting: VecDeque<Entry<R, E>>,
    in_flight: bool,
}

impl<R, E> BidQueue<R, E> {
    pub(crate) fn new(committed: Arc<CommittedState>) -> Self {
        Self { committed, waiting: VecDeque::new(), in_flight: false }
    }

    /// The refusal that is certain. There is none for a bid with an idempotency key: the ledger may hold its first
    /// answer.
    fn certain_refusal(&self, bid: &KeyedBid) -> Option<Refusal> {
        if bid.key.is_none() { self.committed.certain_refusal(&bid.bid) } else { None }
    }

    /// Queues a bid or refuses it.
    pub(crate) fn offer(&mut self, bid: KeyedBid, reply: R) -> Offered<R> {
        if let Some(refusal) = self.certain_refusal(&bid) {
            return Offered::Refused(refusal, reply);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Offered::Full(reply);
        }
        self.waiting.push_back(Entry::Bid(bid, reply));
        Offered::Waits
    }

    /// Queues the end, even when the queue is full.
    pub(crate) fn offer_end(&mut self, end: E) {
        self.waiting.push_back(Entry::End(end));
    }

    /// Takes out what goes to the ledger now; `None` while something is in flight or nothing waits. Bids whose refusal
    /// became certain while they waited go to `refuse`.
    pub(crate) fn next(&mut self, mut refuse: impl FnMut(Refusal, R)) -> Option<Next<R, E>> {
        if self.in_flight {
            return None;
        }
        let (mut bids, mut end) = (Vec::new(), None);
        while bids.len() < MAX_BATCH {
            match self.waiting.pop_front() {
                Some(Entry::Bid(bid, reply)) => match self.certain_refusal(&bid) {
                    Some(refusal) => refuse(refusal, reply),
                    None => bids.push((bid, reply)),
                },
                Some(Entry::End(reply)) if bids.is_empty() => {
                    end = Some(reply);
                    break;
                }
                Some(end) => {
                    self.waiting.push_front(end);
                    break;
                }
                None => break,
            }
        }
        let next = match end {
            Some(end) => Next::End(end),
            None if bids.is_empty() => return None,
            None => Next::Bids(bids),
        };
        self.in_flight = true;
        self.committed.forget_price();
        Some(next)
    }

    /// What was in flight is committed or has failed.
    pub(crate) fn done(&mut self) {
        self.in_flight = false;
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Bid, GoodsId, GoodsState, IdempotencyKey, Phase, Price, Timestamp, User, UserId},
        store::Sharing,
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

    /// What goes to the ledger, of a queue in which no refusal has become certain.
    fn next<R, E>(queue: &mut BidQueue<R, E>) -> Option<Next<R, E>> {
        queue.next(|refusal, _| panic!("{refusal:?}"))
    }

    #[test]
    fn one_batch_is_in_flight_and_later_bids_form_the_next() {
        let mut queue: BidQueue<u8, ()> = BidQueue::new(CommittedState::new(Sharing::Exclusive));
        assert_eq!(queue.offer(bid(5), 1), Offered::Waits);
        assert_eq!(next(&mut queue), Some(Next::Bids(vec![(bid(5), 1)])));
        assert_eq!(queue.offer(bid(6), 2), Offered::Waits);
        assert_eq!(queue.offer(bid(7), 3), Offered::Waits);
        assert_eq!(next(&mut queue), None, "the first batch is still in flight");
        queue.done();
        assert_eq!(next(&mut queue), Some(Next::Bids(vec![(bid(6), 2), (bid(7), 3)])));
    }

    #[test]
    fn the_end_waits_behind_every_bid_that_came_before_it() {
        let mut queue: BidQueue<u8, &str> = BidQueue::new(CommittedState::new(Sharing::Exclusive));
        assert_eq!(queue.offer(bid(5), 1), Offered::Waits);
        assert!(next(&mut queue).is_some());
        assert_eq!(queue.offer(bid(6), 2), Offered::Waits);
        queue.offer_end("end");
        assert_eq!(queue.offer(bid(7), 3), Offered::Waits);
        assert_eq!(next(&mut queue), None);
        queue.done();
        assert_eq!(next(&mut queue), Some(Next::Bids(vec![(bid(6), 2)])));
        queue.done();
        assert_eq!(next(&mut queue), Some(Next::End("end")));
        assert_eq!(next(&mut queue), None, "the bid after the end waits for it");
        let ended = GoodsState { phase: Phase::Ended, ..GoodsState::live_at(6) };
        queue.committed.update(&ended);
        queue.done();
        assert_eq!(queue.offer(bid(9), 4), Offered::Refused(Refusal::Ended, 4));
    }

    #[test]
    fn a_bid_with_a_key_goes_to_the_ledger_even_if_its_refusal_is_certain() {
        let mut queue: BidQueue<u8, ()> = BidQueue::new(CommittedState::new(Sharing::Exclusive));
        queue.committed.update(&GoodsState::live_at(50));
        assert!(matches!(queue.offer(bid(45), 2), Offered::Refused(Refusal::TooLow { .. }, 2)));
        assert_eq!(queue.offer(bid(51), 3), Offered::Waits);
        let keyed = KeyedBid { key: IdempotencyKey::parse("k"), ..bid(1) };
        assert_eq!(queue.offer(keyed, 4), Offered::Waits, "the ledger may hold its first answer");
    }

    #[test]
    fn while_a_batch_is_in_flight_no_price_from_before_it_refuses_a_bid() {
        let mut queue: BidQueue<u8, ()> = BidQueue::new(CommittedState::new(Sharing::Exclusive));
        queue.committed.update(&GoodsState::live_at(50));
        assert_eq!(queue.offer(bid(60), 1), Offered::Waits);
        assert!(next(&mut queue).is_some());
        // A page may show 60 already.
        assert_eq!(queue.offer(bid(45), 2), Offered::Waits);
        assert_eq!(queue.offer(bid(70), 3), Offered::Waits);
        queue.committed.update(&GoodsState::live_at(60));
        queue.done();
        let mut refused = Vec::new();
        let batch = queue.next(|refusal, reply| refused.push((refusal, reply)));
        assert_eq!(batch, Some(Next::Bids(vec![(bid(70), 3)])));
        let [(Refusal::TooLow { high_price, .. }, 2)] = refused[..] else { panic!("{refused:?}") };
        assert_eq!(high_price, Some(Price::from_stored(60)));
    }

    #[test]
    fn a_full_queue_turns_bids_away_but_never_the_end() {
        let mut queue: BidQueue<usize, ()> = BidQueue::new(CommittedState::new(Sharing::Exclusive));
        for i in 0..MAX_WAITING {
            assert_eq!(queue.offer(bid(5), i), Offered::Waits);
        }
        assert_eq!(queue.offer(bid(5), 9), Offered::Full(9));
        queue.offer_end(());
        assert!(!queue.is_idle());
    }
}
