//! What the contract says about the day's auctions: a second, sequential implementation without a database or actors.

use std::collections::{BTreeMap, BTreeSet};

use handsup::test_support::{
    actors::BidAnswer,
    domain::{AlarmKind, Phase, Refusal, Timestamp},
    store::writes::BidVerdict,
};

/// An alarm to one user about one goods item: kind, goods, user.
pub type SentAlarm = (AlarmKind, i64, i64);

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
    /// Accepted bids: user, price, arrival.
    pub bids: Vec<(i64, i64, Timestamp)>,
    pub last_minute: LastMinute,
}

/// The last minute, whose alarm is sent once if the service runs in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LastMinute {
    /// The number of settled moments in it.
    seen: u32,
    /// Whether the clock certainly knew of it at one of these moments.
    pub certain: bool,
    /// Whether it may have concerned nobody at the first of them: then no alarm is sent.
    concerned_nobody: bool,
    pub sent: bool,
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

    /// The users whom a last minute concerns now.
    pub fn concerned(&self) -> BTreeSet<i64> {
        &self.likers | &self.bidders()
    }

    /// Checks the answer to a bid that arrived now. Returns the alarm to the user who is outbid.
    pub fn answered(
        &mut self,
        (user, price): (i64, i64),
        now: Timestamp,
        soft_ms: i64,
        answer: &BidAnswer,
    ) -> Option<SentAlarm> {
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
                // It may be from shortly before, when several bids come at once: the bid was too low already then.
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
                let sent = (stored.seq.get(), stored.ends_at, stored.bid.received_at);
                assert_eq!(sent, (self.bids.len() as i64, self.ends_at, now));
                return outbid.map(|leader| (AlarmKind::Outbid, self.id, leader));
            }
            _ => panic!("{}", context()),
        }
        None
    }

    /// Does everything due now. Returns the alarms, without those of the last minute, whose moment is the clock's.
    /// `certain`: the clock has long known the deadlines; `concerned`: the last minute concerned somebody when time
    /// stopped here.
    pub fn settled(&mut self, now: Timestamp, certain: bool, concerned: bool) -> Vec<SentAlarm> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        if now >= self.ends_at {
            self.phase = Phase::Ended;
            let must = !self.last_minute.concerned_nobody && (self.last_minute.seen > 1 || self.last_minute.certain);
            assert!(self.last_minute.sent || !must, "no alarm about its last minute: {self:?}");
            return self.alarms_at_end();
        }
        let mut sent = Vec::new();
        if self.phase == Phase::Scheduled && now >= self.starts_at {
            self.phase = Phase::Live;
            sent.extend(self.likers.iter().map(|user| (AlarmKind::AuctionStarted, self.id, *user)));
        }
        if self.in_last_minute(now) {
            self.last_minute.concerned_nobody |= self.last_minute.seen == 0 && !concerned;
            self.last_minute.seen += 1;
            self.last_minute.certain |= certain;
        }
        sent
    }

    /// Only auctions of five minutes and more have a last minute.
    pub fn is_in_or_past_last_minute(&self, now: Timestamp) -> bool {
        self.ends_at.ms_since(self.starts_at) >= 5 * MINUTE_MS && now >= self.ends_at.plus_ms(-MINUTE_MS)
    }

    pub fn in_last_minute(&self, now: Timestamp) -> bool {
        self.is_in_or_past_last_minute(now) && self.phase == Phase::Live && now < self.ends_at
    }

    fn alarms_at_end(&self) -> Vec<SentAlarm> {
        let Some((buyer, ..)) = self.bids.last() else {
            return vec![(AlarmKind::AuctionUnsold, self.id, self.seller)];
        };
        let losers = self.bidders().into_iter().filter(|bidder| bidder != buyer);
        let mut sent: Vec<SentAlarm> = losers.map(|loser| (AlarmKind::AuctionLost, self.id, loser)).collect();
        sent.push((AlarmKind::AuctionWon, self.id, *buyer));
        sent.push((AlarmKind::AuctionSold, self.id, self.seller));
        sent
    }
}

/// All auctions, by id.
pub type Auctions = BTreeMap<i64, Auction>;
