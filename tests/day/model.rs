//! What the contract says should become of the day's auctions: a second, plain telling of it, without a database,
//! without actors, one thing after the other.

use std::collections::{BTreeMap, BTreeSet};

use handsup::{
    actors::BidAnswer,
    domain::{AlarmKind, Phase, Refusal, Timestamp},
    store::writes::BidVerdict,
};

/// An alarm to one user about one goods item.
pub type Told = (AlarmKind, i64, i64);

const MINUTE_MS: i64 = 60_000;

#[derive(Debug, Clone)]
pub struct Auction {
    pub id: i64,
    pub seller: i64,
    pub start_price: i64,
    pub increment: i64,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub phase: Phase,
    pub likers: BTreeSet<i64>,
    /// Accepted: user, price, arrival.
    pub bids: Vec<(i64, i64, Timestamp)>,
    pub soon: Soon,
}

/// The last minute: told once, if the service was there in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Soon {
    /// Settled moments in it.
    seen: u32,
    /// At one of them the clock had long known of it.
    pub certain: bool,
    /// At the first of them it may have concerned nobody: then it is over without a word.
    nobody: bool,
    pub told: bool,
}

impl Auction {
    pub fn high(&self) -> Option<i64> {
        self.bids.last().map(|bid| bid.1)
    }

    pub fn minimum(&self) -> i64 {
        self.high().map_or(self.start_price, |high| high + self.increment)
    }

    pub fn bidders(&self) -> BTreeSet<i64> {
        self.bids.iter().map(|bid| bid.0).collect()
    }

    /// Whom a last minute that is told now is meant for.
    pub fn concerned(&self) -> BTreeSet<i64> {
        &self.likers | &self.bidders()
    }

    /// A bid that arrived now was answered. Whoever is outbid is told.
    pub fn answered(
        &mut self,
        (user, price): (i64, i64),
        now: Timestamp,
        soft_ms: i64,
        answer: &BidAnswer,
    ) -> Option<Told> {
        let context = || format!("{user} bids {price} at {now:?}: {answer:?}, {self:?}");
        let BidAnswer::Verdict(verdict) = answer else { panic!("not judged: {}", context()) };
        let expected = if user == self.seller {
            Some(Refusal::SellerCannotBid)
        } else if self.phase == Phase::Scheduled && now < self.starts_at {
            Some(Refusal::NotStarted)
        } else if self.phase == Phase::Ended || now >= self.ends_at {
            Some(Refusal::Ended)
        } else {
            None
        };
        match (expected, verdict) {
            (Some(expected), BidVerdict::Refused(refusal)) => assert_eq!(expected, *refusal, "{}", context()),
            (None, BidVerdict::Refused(Refusal::TooLow { high_price, minimum })) => {
                // It may be from shortly before, when several come at once: then it was low already.
                let high = high_price.map(|price| price.won());
                assert!(price < minimum.won() && minimum.won() <= self.minimum(), "{}", context());
                let known = high.is_none() || self.bids.iter().any(|bid| Some(bid.1) == high);
                let fits = high.map_or(self.start_price, |high| high + self.increment) == minimum.won();
                assert!(known && fits, "{}", context());
            }
            (None, BidVerdict::Accepted(stored)) => {
                assert!(price >= self.minimum(), "{}", context());
                let outbid = self.bids.last().map(|bid| bid.0).filter(|leader| *leader != user);
                self.bids.push((user, price, now));
                self.ends_at = self.ends_at.max(now.plus_ms(soft_ms));
                let told = (stored.seq.get(), stored.ends_at, stored.bid.received_at);
                assert_eq!(told, (self.bids.len() as i64, self.ends_at, now));
                return outbid.map(|leader| (AlarmKind::Outbid, self.id, leader));
            }
            _ => panic!("{}", context()),
        }
        None
    }

    /// Everything due now is done. Who is told (without the last minute, whose moment is the clock's).
    /// `certain`: the clock has long known what lies ahead; `concerned`: somebody was, when time stopped here.
    pub fn settled(&mut self, now: Timestamp, certain: bool, concerned: bool) -> Vec<Told> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        if now >= self.ends_at {
            self.phase = Phase::Ended;
            let must = !self.soon.nobody && (self.soon.seen > 1 || self.soon.certain);
            assert!(self.soon.told || !must, "its last minute was not told: {self:?}");
            return self.told_at_end();
        }
        let mut told = Vec::new();
        if self.phase == Phase::Scheduled && now >= self.starts_at {
            self.phase = Phase::Live;
            told.extend(self.likers.iter().map(|user| (AlarmKind::AuctionStarted, self.id, *user)));
        }
        if self.in_last_minute(now) {
            self.soon.nobody |= self.soon.seen == 0 && !concerned;
            self.soon.seen += 1;
            self.soon.certain |= certain;
        }
        told
    }

    /// Only auctions of five minutes and more have a last minute.
    pub fn is_in_or_past_last_minute(&self, now: Timestamp) -> bool {
        self.ends_at.ms_since(self.starts_at) >= 5 * MINUTE_MS && now >= self.ends_at.plus_ms(-MINUTE_MS)
    }

    pub fn in_last_minute(&self, now: Timestamp) -> bool {
        self.is_in_or_past_last_minute(now) && self.phase == Phase::Live && now < self.ends_at
    }

    fn told_at_end(&self) -> Vec<Told> {
        let Some((buyer, ..)) = self.bids.last() else {
            return vec![(AlarmKind::AuctionUnsold, self.id, self.seller)];
        };
        let losers = self.bidders().into_iter().filter(|bidder| bidder != buyer);
        let mut told: Vec<Told> = losers.map(|loser| (AlarmKind::AuctionLost, self.id, loser)).collect();
        told.push((AlarmKind::AuctionWon, self.id, *buyer));
        told.push((AlarmKind::AuctionSold, self.id, self.seller));
        told
    }
}

/// All of them, by id.
pub type Auctions = BTreeMap<i64, Auction>;
