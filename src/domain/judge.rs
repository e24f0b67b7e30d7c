//! The bid rule: one pure function, [`judge`]. It runs inside the transaction that records its verdict, so no lower bid
//! wins, with one node or several.

use serde::{Deserialize, Serialize};

use super::{BidSeq, GoodsId, GoodsState, Lead, Phase, Price, Timestamp, UserId};

/// A bid as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    pub goods: GoodsId,
    /// The bidder, from their token.
    pub user: UserId,
    pub price: Price,
    /// When the node had read the whole body or frame. The bid is judged by this time, however long it waits
    /// afterwards.
    pub received_at: Timestamp,
}

/// Why a bid is refused, in the order in which the reasons are checked (`docs/protocol.md#bids`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    SellerCannotBid,
    /// The bid arrived before `starts_at`, and the start is not recorded yet.
    NotStarted,
    /// The bid arrived at or after `ends_at`, or the auction has ended.
    Ended,
    TooLow {
        /// The highest accepted price; `None` before the first bid.
        high_price: Option<Price>,
        /// The least price that would have been accepted.
        minimum: Price,
    },
}

/// What an accepted bid changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    pub seq: BidSeq,
    /// The end after this bid; later than before if the bid fell into the soft close.
    pub ends_at: Timestamp,
    /// The previous leader, who gets an `outbid` alarm; `None` if there was none or it is the bidder.
    pub outbid: Option<UserId>,
}

impl GoodsState {
    /// The least price of the next bid.
    pub fn minimum(&self) -> Price {
        match self.lead {
            Some(lead) => lead.price.plus(self.min_increment),
            None => self.start_price,
        }
    }
}

/// Judges one bid. A bid in the last `soft_close_ms` moves the end to that long after its arrival; 0 turns this off.
///
/// # Errors
/// The first reason that applies, in the contract's order: seller, not started, ended, too low.
pub(crate) fn judge(goods: &GoodsState, bid: &Bid, soft_close_ms: i64) -> Result<Acceptance, Refusal> {
    if bid.user == goods.seller {
        return Err(Refusal::SellerCannotBid);
    }
    // Once the start is recorded, only the phase counts: the clock of the bid's node may be slow or have been set back.
    if goods.phase == Phase::Scheduled && bid.received_at < goods.starts_at {
        return Err(Refusal::NotStarted);
    }
    if goods.phase == Phase::Ended || bid.received_at >= goods.ends_at {
        return Err(Refusal::Ended);
    }
    let minimum = goods.minimum();
    if bid.price < minimum {
        return Err(Refusal::TooLow { high_price: goods.lead.map(|lead| lead.price), minimum });
    }
    Ok(Acceptance {
        seq: goods.bid_seq.next(),
        ends_at: goods.ends_at.max(bid.received_at.plus_ms(soft_close_ms)),
        outbid: goods.lead.map(|lead| lead.user).filter(|leader| *leader != bid.user),
    })
}

impl GoodsState {
    /// Applies an accepted bid, so that the next one is judged against it.
    pub fn apply(&mut self, bid: &Bid, accepted: &Acceptance) {
        self.lead = Some(Lead { user: bid.user, price: bid.price });
        self.bid_seq = accepted.seq;
        self.ends_at = accepted.ends_at;
    }

    /// The refusal that this committed state makes certain, even if it is no longer the newest; `None` if only the
    /// ledger can judge the bid.
    ///
    /// A price only rises and an end is final, so the newest state refuses such a bid too. A bid at or after the
    /// remembered `ends_at` is left to the ledger, unless the auction has ended: another bid may have moved the end. A
    /// bid before `starts_at` is left to the ledger as well, because the start may have been recorded since.
    pub fn certain_refusal(&self, bid: &Bid) -> Option<Refusal> {
        match judge(self, bid, 0) {
            Err(Refusal::NotStarted) => None,
            Err(Refusal::Ended) if self.phase != Phase::Ended => None,
            Err(refusal) => Some(refusal),
            Ok(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn goods() -> GoodsState {
        GoodsState {
            starts_at: Timestamp::from_secs(1000),
            ends_at: Timestamp::from_secs(2000),
            start_price: Price::from_stored(500),
            min_increment: Price::from_stored(10),
            ..GoodsState::live()
        }
    }

    fn bid(user: i64, price: i64, at: Timestamp) -> Bid {
        Bid {
            goods: GoodsId::from_stored(1),
            user: UserId::from_stored(user),
            price: Price::from_stored(price),
            received_at: at,
        }
    }

    #[test]
    fn reasons_are_checked_in_the_contracts_order() {
        let mut g = goods();
        g.phase = Phase::Scheduled;
        let early = Timestamp::from_secs(999);
        assert_eq!(judge(&g, &bid(1, 1, early), 0), Err(Refusal::SellerCannotBid));
        assert_eq!(judge(&g, &bid(2, 1, early), 0), Err(Refusal::NotStarted));
        assert_eq!(judge(&g, &bid(2, 1, g.ends_at), 0), Err(Refusal::Ended));
        let low = Refusal::TooLow { high_price: None, minimum: Price::from_stored(500) };
        assert_eq!(judge(&g, &bid(2, 499, g.starts_at), 0), Err(low));
    }

    #[test]
    fn no_bid_is_too_early_once_the_start_is_recorded() {
        let early = bid(2, 500, Timestamp::from_secs(997));
        let mut g = goods();
        assert!(judge(&g, &early, 0).is_ok());
        g.phase = Phase::Scheduled;
        assert_eq!(judge(&g, &early, 0), Err(Refusal::NotStarted));
        assert_eq!(g.certain_refusal(&early), None, "the start may have been recorded since");
    }

    #[test]
    fn a_bid_in_the_last_microsecond_is_in_time_and_one_at_the_end_is_not() {
        let g = goods();
        let last = Timestamp::from_micros(g.ends_at.micros() - 1);
        assert!(judge(&g, &bid(2, 500, last), 0).is_ok());
        assert_eq!(judge(&g, &bid(2, 500, g.ends_at), 0), Err(Refusal::Ended));
    }

    #[test]
    fn fault_9_the_first_bid_needs_the_start_price() {
        let g = goods();
        assert!(judge(&g, &bid(2, 1, g.starts_at), 0).is_err());
        assert!(judge(&g, &bid(2, 500, g.starts_at), 0).is_ok());
    }

    #[test]
    fn a_leader_may_raise_their_own_bid_and_nobody_is_alarmed() {
        let mut g = goods();
        let first = bid(2, 500, g.starts_at);
        g.apply(&first, &judge(&g, &first, 0).unwrap());
        assert_eq!(judge(&g, &bid(2, 510, g.starts_at), 0).unwrap().outbid, None);
        assert_eq!(judge(&g, &bid(3, 510, g.starts_at), 0).unwrap().outbid, Some(UserId::from_stored(2)));
        let low = Refusal::TooLow { high_price: Some(Price::from_stored(500)), minimum: Price::from_stored(510) };
        assert_eq!(judge(&g, &bid(3, 509, g.starts_at), 0), Err(low));
    }

    #[test]
    fn the_soft_close_moves_the_end_only_later() {
        let g = goods();
        let early = bid(2, 500, g.starts_at);
        assert_eq!(judge(&g, &early, 30_000).unwrap().ends_at, g.ends_at);
        let late = bid(2, 500, g.ends_at.plus_ms(-1));
        assert_eq!(judge(&g, &late, 30_000).unwrap().ends_at, late.received_at.plus_ms(30_000));
    }

    proptest! {
        /// Whatever bids come, accepted prices strictly rise, `seq` has no gap, and the last accepted bidder leads.
        #[test]
        fn accepted_bids_strictly_rise(bids in prop::collection::vec((1i64..6, 1i64..2000, 990i64..2010), 1..200), soft in 0i64..60_000) {
            let mut g = goods();
            let mut accepted: Vec<(i64, i64, i64)> = Vec::new();
            for (user, price, at) in bids {
                let b = bid(user, price, Timestamp::from_secs(at));
                let before = g.clone();
                if let Ok(yes) = judge(&g, &b, soft) {
                    prop_assert!(b.received_at < before.ends_at);
                    prop_assert!(yes.ends_at >= before.ends_at);
                    prop_assert!(user != 1);
                    prop_assert_eq!(yes.outbid, before.lead.map(|l| l.user).filter(|u| u.get() != user));
                    g.apply(&b, &yes);
                    accepted.push((yes.seq.get(), price, user));
                }
            }
            for (i, window) in accepted.windows(2).enumerate() {
                prop_assert!(window[1].1 >= window[0].1 + 10, "at {}", i);
                prop_assert_eq!(window[1].0, window[0].0 + 1);
            }
            prop_assert_eq!(g.lead.map(|l| (l.price.won(), l.user.get())), accepted.last().map(|a| (a.1, a.2)));
        }

        /// A bid that a remembered state refuses for certain is refused by every later state.
        #[test]
        fn a_certain_refusal_stays_a_refusal(
            bids in prop::collection::vec((2i64..6, 1i64..2000, 990i64..2010), 1..60),
            remembered in 0usize..60, probe in (1i64..6, 1i64..2000, 990i64..2010), ended in any::<bool>(),
        ) {
            let mut g = goods();
            let mut memory = g.clone();
            for (i, (user, price, at)) in bids.into_iter().enumerate() {
                let b = bid(user, price, Timestamp::from_secs(at));
                if let Ok(yes) = judge(&g, &b, 20_000) {
                    g.apply(&b, &yes);
                }
                if i == remembered {
                    memory = g.clone();
                }
            }
            if ended {
                prop_assert!(g.advance(Phase::Ended));
            }
            let p = bid(probe.0, probe.1, Timestamp::from_secs(probe.2));
            if memory.certain_refusal(&p).is_some() {
                prop_assert!(judge(&g, &p, 20_000).is_err());
            }
        }
    }
}
