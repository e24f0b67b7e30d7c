//! Rates: so many bids, lines and requests a second of one user, or of one address where there is no user.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use crate::{actors::RateVerdict, domain::UserId, protocol::Problem};

/// Whose rate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    User(UserId),
    Address(IpAddr),
}

impl Who {
    /// The network of an address: one IPv6 customer has a whole /64.
    pub(super) fn address(address: IpAddr) -> Self {
        Self::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => v4.into(),
                None => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
            },
        })
    }
}

/// So many times the rate is a flood, for which a socket closes with 4429 (`docs/protocol.md#the-auction-room`).
const FLOOD: NonZeroU32 = NonZeroU32::new(5).unwrap(); // Seen to be no zero when this is compiled.

/// How much of what a user may send in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// `limits.bids_per_second`
    pub bids: NonZeroU32,
    /// `limits.lines_per_second`
    pub lines: NonZeroU32,
    /// `limits.requests_per_second`
    pub requests: NonZeroU32,
}

/// The node's rates.
pub struct RateLimits {
    bids: DefaultKeyedRateLimiter<Who>,
    lines: DefaultKeyedRateLimiter<Who>,
    requests: DefaultKeyedRateLimiter<Who>,
    /// Five times the rates of bids and lines: what a socket that goes over them ends for.
    bid_floods: DefaultKeyedRateLimiter<Who>,
    line_floods: DefaultKeyedRateLimiter<Who>,
    clock: DefaultClock,
}

impl RateLimits {
    /// `limits.…_per_second`; bursts of twice that pass.
    pub fn new(rates: &Rates) -> Self {
        let limiter = |rate: NonZeroU32| {
            RateLimiter::keyed(
                Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(1))),
            )
        };
        let flood = |rate: NonZeroU32| limiter(rate.saturating_mul(FLOOD));
        Self {
            bids: limiter(rates.bids),
            lines: limiter(rates.lines),
            requests: limiter(rates.requests),
            bid_floods: flood(rates.bids),
            line_floods: flood(rates.lines),
            clock: DefaultClock::default(),
        }
    }

    pub(super) fn bid(&self, who: Who) -> Result<(), Problem> {
        self.check(&self.bids, who)
    }

    pub(super) fn request(&self, who: Who) -> Result<(), Problem> {
        self.check(&self.requests, who)
    }

    /// Counts a bid that came over a socket.
    pub(super) fn bid_pace(&self, who: Who) -> RateVerdict {
        pace(&self.bids, &self.bid_floods, who)
    }

    /// Counts anything else that came over the socket of a room.
    pub(super) fn line_pace(&self, who: Who) -> RateVerdict {
        pace(&self.lines, &self.line_floods, who)
    }

    fn check(&self, limiter: &DefaultKeyedRateLimiter<Who>, who: Who) -> Result<(), Problem> {
        limiter.check_key(&who).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            Problem::too_many_requests(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
        })
    }

    /// Forgets who has been quiet: called now and then, so that memory doesn't grow with everybody who ever came.
    pub fn forget_quiet(&self) {
        for limiter in [&self.bids, &self.lines, &self.requests, &self.bid_floods, &self.line_floods] {
            limiter.retain_recent();
        }
    }
}

fn pace(rate: &DefaultKeyedRateLimiter<Who>, flood: &DefaultKeyedRateLimiter<Who>, who: Who) -> RateVerdict {
    match (flood.check_key(&who), rate.check_key(&who)) {
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
    fn who_is_over_the_rate_is_refused_and_who_floods_is_let_go() {
        let limits = limits();
        let user = Who::User(UserId::from_stored(1));
        let paces: Vec<RateVerdict> = (0..25).map(|_| limits.line_pace(user)).collect();
        assert!(paces[..4].iter().all(|pace| *pace == RateVerdict::Fine));
        assert!(paces[5..20].iter().all(|pace| *pace == RateVerdict::TooFast), "{paces:?}");
        assert_eq!(paces[24], RateVerdict::Flood);
        assert_eq!(limits.bid_pace(user), RateVerdict::Fine, "bids have a rate of their own");
    }

    #[test]
    fn a_burst_of_twice_the_rate_passes_and_no_more() {
        let limits = limits();
        let user = Who::User(UserId::from_stored(1));
        assert_eq!((0..7).filter(|_| limits.bid(user).is_ok()).count(), 6);
        let refused = limits.bid(user).unwrap_err();
        assert_eq!((refused.status(), refused.retry_after_s()), (429, Some(1)));
        assert!(limits.bid(Who::User(UserId::from_stored(2))).is_ok());
        assert!(limits.request(user).is_ok());
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let of = |text: &str| Who::address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
