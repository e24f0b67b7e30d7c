//! Rate limits: bids, lines and requests per second of one user, or of one address for requests without a token.

use std::{net::IpAddr, num::NonZeroU32};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use crate::{actors::RateVerdict, domain::UserId, protocol::Problem};

/// Whose events are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RateKey {
    User(UserId),
    Address(IpAddr),
}

impl RateKey {
    pub(super) fn address(address: IpAddr) -> Self {
        Self::Address(network(address))
    }
}

/// An IPv4 address, or the /64 network of an IPv6 address, which usually belongs to one customer.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
        v4 => v4,
    }
}

/// This many times the rate is a flood, at which a socket closes with 4429 (`docs/protocol.md#the-auction-room`).
const FLOOD_FACTOR: NonZeroU32 = NonZeroU32::new(5).unwrap(); // Checked at compile time.
/// A burst may be this many times the rate per second.
const BURST_FACTOR: NonZeroU32 = NonZeroU32::new(2).unwrap(); // Checked at compile time.

/// The rates of the settings, each per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub bids: NonZeroU32,
    pub lines: NonZeroU32,
    pub requests: NonZeroU32,
}

/// Counts events against the rates. Each node counts for itself.
pub struct RateLimits {
    bids: DefaultKeyedRateLimiter<RateKey>,
    lines: DefaultKeyedRateLimiter<RateKey>,
    requests: DefaultKeyedRateLimiter<RateKey>,
    /// [`FLOOD_FACTOR`] times the rates of bids and lines.
    bid_floods: DefaultKeyedRateLimiter<RateKey>,
    line_floods: DefaultKeyedRateLimiter<RateKey>,
    clock: DefaultClock,
}

impl RateLimits {
    /// With nothing counted yet. A burst of twice a rate passes.
    pub fn new(rates: &Rates) -> Self {
        let limiter = |rate: NonZeroU32| {
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST_FACTOR)))
        };
        let flood = |rate: NonZeroU32| limiter(rate.saturating_mul(FLOOD_FACTOR));
        Self {
            bids: limiter(rates.bids),
            lines: limiter(rates.lines),
            requests: limiter(rates.requests),
            bid_floods: flood(rates.bids),
            line_floods: flood(rates.lines),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a bid of an HTTP request; 429 over the rate.
    pub(super) fn check_bid(&self, key: RateKey) -> Result<(), Problem> {
        self.check(&self.bids, key)
    }

    /// Counts a request other than a bid; 429 over the rate.
    pub(super) fn check_request(&self, key: RateKey) -> Result<(), Problem> {
        self.check(&self.requests, key)
    }

    /// Counts a bid that a socket received.
    pub(super) fn count_bid(&self, key: RateKey) -> RateVerdict {
        verdict(&self.bids, &self.bid_floods, key)
    }

    /// Counts any other frame that the socket of a room received.
    pub(super) fn count_line(&self, key: RateKey) -> RateVerdict {
        verdict(&self.lines, &self.line_floods, key)
    }

    fn check(&self, limiter: &DefaultKeyedRateLimiter<RateKey>, key: RateKey) -> Result<(), Problem> {
        limiter.check_key(&key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            Problem::too_many_requests(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
        })
    }

    /// Drops keys without recent events. Called regularly, so that memory does not grow with every new key.
    pub fn forget_idle(&self) {
        for limiter in [&self.bids, &self.lines, &self.requests, &self.bid_floods, &self.line_floods] {
            limiter.retain_recent();
        }
    }
}

fn verdict(
    rate: &DefaultKeyedRateLimiter<RateKey>,
    flood: &DefaultKeyedRateLimiter<RateKey>,
    key: RateKey,
) -> RateVerdict {
    match (flood.check_key(&key), rate.check_key(&key)) {
        (Err(_), _) => RateVerdict::Flood,
        (_, Err(_)) => RateVerdict::TooFast,
        _ => RateVerdict::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> RateLimits {
        let rate = |value| NonZeroU32::new(value).unwrap();
        RateLimits::new(&Rates { bids: rate(3), lines: rate(2), requests: rate(1) })
    }

    #[test]
    fn frames_over_the_rate_are_too_fast_and_far_over_it_a_flood() {
        let limits = limits();
        let user = RateKey::User(UserId::from_stored(1));
        let verdicts: Vec<RateVerdict> = (0..25).map(|_| limits.count_line(user)).collect();
        assert!(verdicts[..4].iter().all(|verdict| *verdict == RateVerdict::Fine));
        assert!(verdicts[5..20].iter().all(|verdict| *verdict == RateVerdict::TooFast), "{verdicts:?}");
        assert_eq!(verdicts[24], RateVerdict::Flood);
        assert_eq!(limits.count_bid(user), RateVerdict::Fine, "bids have a rate of their own");
    }

    #[test]
    fn a_burst_of_twice_the_rate_passes_and_no_more() {
        let limits = limits();
        let user = RateKey::User(UserId::from_stored(1));
        assert_eq!((0..7).filter(|_| limits.check_bid(user).is_ok()).count(), 6);
        let refused = limits.check_bid(user).unwrap_err();
        assert_eq!((refused.status(), refused.retry_after_s()), (429, Some(1)));
        assert!(limits.check_bid(RateKey::User(UserId::from_stored(2))).is_ok());
        assert!(limits.check_request(user).is_ok());
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let of = |text: &str| RateKey::address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
