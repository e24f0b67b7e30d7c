//! What the handlers work with: one set for the node, built by `app`.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use actix::Addr;
use arc_swap::ArcSwap;

use super::{Claims, Keys, KnownTokens, RateLimits, Readiness, UserDirectory};
use crate::{
    actors::{AlarmHub, AuctionClock, BidIngress, BidRouter, Rooms, SessionLimits, ShardStats},
    bus::Bus,
    domain::{DraftRules, Locale, Price, Timestamp},
    store::{Ledger, Store},
    time_source::TimeSource,
};

/// Settings that handlers need.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `server.trusted_proxies`, IPv4 addresses as such.
    pub trusted_proxies: Vec<IpAddr>,
    /// `server.media_dir`, without links on the way to it.
    pub media_dir: Option<PathBuf>,
    /// `limits.body_bytes`
    pub body_bytes: usize,
    /// `limits.max_price`
    pub max_price: Price,
    /// `auth.dev_login`
    pub dev_login: bool,
    /// `session.max`
    pub max_sessions: usize,
    /// What is asked of new goods.
    pub draft: DraftRules,
    /// Settings of sessions.
    pub session: SessionLimits,
}

/// What SIGHUP changes while the node runs, and what is remembered because of it. Replaced as a whole: nobody sees half of
/// a change, and no token outlives its key in a memory.
pub struct LiveConfig {
    /// `auth.jwt_secret`, `auth.jwt_secret_previous`
    pub keys: Keys,
    /// Tokens that were good under these keys lately.
    tokens: KnownTokens,
    /// `server.allowed_origins`
    pub allowed_origins: Vec<String>,
    /// `limits.…_per_second`
    pub rates: Arc<RateLimits>,
    /// `alarms.locale`
    pub locale: Locale,
}

impl LiveConfig {
    /// With no token seen yet.
    pub fn new(keys: Keys, allowed_origins: Vec<String>, rates: Arc<RateLimits>, locale: Locale) -> Self {
        Self { keys, tokens: KnownTokens::default(), allowed_origins, rates, locale }
    }

    /// What a token says that is likely to be shown again, if it is good.
    pub(super) fn known_claims(&self, token: &str, now: Timestamp) -> Option<Claims> {
        self.tokens.verify(token, &self.keys, now)
    }
}

/// Everything that handlers reach.
pub struct Services {
    /// Settings.
    pub config: HttpConfig,
    /// Settings that may change while the node runs.
    pub live: Arc<ArcSwap<LiveConfig>>,
    /// The clock.
    pub time: Arc<dyn TimeSource>,
    /// Users seen lately.
    pub users: Arc<UserDirectory>,
    /// The reading side of the database.
    pub store: Store,
    /// The writing side.
    pub ledger: Ledger,
    /// The bid desk.
    pub desk: Addr<BidRouter>,
    /// The hub.
    pub hub: Addr<AlarmHub>,
    /// The auction clock.
    pub clock: Addr<AuctionClock>,
    /// Where bids come in.
    pub entrance: Arc<BidIngress>,
    /// The rooms.
    pub rooms: Addr<Rooms>,
    /// Figures of the sessions.
    pub sessions: Arc<ShardStats>,
    /// The way to other nodes.
    pub bus: Bus,
    /// Whether the node is ready, as last seen.
    pub readiness: Readiness,
    /// When the node began.
    pub started_at: Timestamp,
}
