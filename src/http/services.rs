//! What handlers use: settings, the store, the actors and caches. `app` builds one [`Services`] for the node.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use actix::Addr;
use arc_swap::ArcSwap;
use chrono_tz::Tz;

use super::{Claims, Keys, RateLimits, Readiness, TokenCache, UserDirectory};
use crate::{
    actors::{AlarmHub, AuctionClock, BidIngress, BidRouter, Rooms, SessionLimits, ShardStats},
    bus::Bus,
    domain::{DraftRules, Locale, Price, Timestamp},
    store::{Ledger, Store},
    time_source::TimeSource,
};

/// Settings that stay the same while the node runs.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `server.trusted_proxies`; IPv4-mapped IPv6 addresses are converted to IPv4.
    pub trusted_proxies: Vec<IpAddr>,
    /// `server.media_dir` with its symbolic links resolved; `None` without such a folder.
    pub media_dir: Option<PathBuf>,
    /// `limits.body_bytes`
    pub body_bytes: usize,
    /// `limits.max_price`
    pub max_price: Price,
    /// `auth.dev_login`
    pub dev_login: bool,
    /// `session.max`
    pub max_sessions: usize,
    /// The rules for new goods.
    pub draft: DraftRules,
    /// Limits of a session.
    pub session: SessionLimits,
}

/// Settings that SIGHUP reloads, and the cache of tokens that depends on them. A reload replaces the whole: nobody sees
/// half of a change, and no cached token outlives its key.
pub struct LiveConfig {
    /// `auth.jwt_secret`, `auth.jwt_secret_previous`
    pub keys: Keys,
    /// Tokens verified with these keys.
    tokens: TokenCache,
    /// `server.allowed_origins`
    pub allowed_origins: Vec<String>,
    /// `limits.…_per_second`
    pub rates: Arc<RateLimits>,
    /// `alarms.locale`
    pub locale: Locale,
}

impl LiveConfig {
    /// With an empty token cache.
    pub fn new(keys: Keys, allowed_origins: Vec<String>, rates: Arc<RateLimits>, locale: Locale) -> Self {
        Self { keys, tokens: TokenCache::default(), allowed_origins, rates, locale }
    }

    /// The claims of a token that is likely to come again; `None` if it is invalid or expired.
    pub(super) fn cached_claims(&self, token: &str, now: Timestamp) -> Option<Claims> {
        self.tokens.verify(token, &self.keys, now)
    }
}

impl Services {
    /// The marketplace's time zone, and the time.
    pub(super) fn local_time(&self) -> (Tz, Timestamp) {
        (self.config.draft.time_zone, self.time.now())
    }
}

/// Everything that handlers use.
pub struct Services {
    /// Settings that stay the same.
    pub config: HttpConfig,
    /// Settings that a reload replaces.
    pub live: Arc<ArcSwap<LiveConfig>>,
    /// The time of day; tests set their own.
    pub time: Arc<dyn TimeSource>,
    /// The cache of users.
    pub users: Arc<UserDirectory>,
    /// Reads from the database.
    pub store: Store,
    /// Writes to the database.
    pub ledger: Ledger,
    /// Routes bids to bid actors; here only its health is asked for.
    pub router: Addr<BidRouter>,
    /// Delivers alarms to sessions.
    pub hub: Addr<AlarmHub>,
    /// Starts and ends auctions; here only its health is asked for.
    pub clock: Addr<AuctionClock>,
    /// Takes bids.
    pub ingress: Arc<BidIngress>,
    /// The auction rooms and trade chats.
    pub rooms: Addr<Rooms>,
    /// Figures about the sessions of all shards.
    pub sessions: Arc<ShardStats>,
    /// The connection to other nodes; off on a single node.
    pub bus: Bus,
    /// The cached readiness check.
    pub readiness: Readiness,
    /// When the node started.
    pub started_at: Timestamp,
}
