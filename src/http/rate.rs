//! Rates: so many bids and requests a second of one user, or of one address where there is no user.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use crate::{domain::UserId, protocol::Problem};

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

/// The node's rates.
pub struct RateLimits {
    bids: DefaultKeyedRateLimiter<Who>,
    requests: DefaultKeyedRateLimiter<Who>,
    clock: DefaultClock,
}

impl RateLimits {
    /// `limits.bids_per_second` and `limits.requests_per_second`; bursts of twice that pass.
    pub fn new(bids: NonZeroU32, requests: NonZeroU32) -> Self {
        let limiter = |rate: NonZeroU32| {
            RateLimiter::keyed(
                Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(1))),
            )
        };
        Self { bids: limiter(bids), requests: limiter(requests), clock: DefaultClock::default() }
    }

    pub(super) fn bid(&self, who: Who) -> Result<(), Problem> {
        self.check(&self.bids, who)
    }

    pub(super) fn request(&self, who: Who) -> Result<(), Problem> {
        self.check(&self.requests, who)
    }

    fn check(&self, limiter: &DefaultKeyedRateLimiter<Who>, who: Who) -> Result<(), Problem> {
        limiter.check_key(&who).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            Problem::too_many_requests(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
        })
    }

    /// Forgets who has been quiet: called now and then, so that memory doesn't grow with everybody who ever came.
    pub fn forget_quiet(&self) {
        self.bids.retain_recent();
        self.requests.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_twice_the_rate_passes_and_no_more() {
        let limits = RateLimits::new(NonZeroU32::new(3).unwrap(), NonZeroU32::new(1).unwrap());
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
