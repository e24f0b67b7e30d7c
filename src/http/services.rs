//! What handlers use: settings, the store, the actors and caches. `app` builds one [`Services`] for the node.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use actix::Addr;
use arc_swap::ArcSwap;
use chrono_tz::Tz;
use quick_cache::sync::Cache;
use secrecy::SecretString;

use super::{CheckGauges, Claims, Keys, RateLimits, Readiness, RequestStats, UserDirectory};
use crate::{
    actors::{AlarmHub, AuctionClock, BidIngress, BidRouter, Rooms, SessionLimits, ShardStats},
    bus::Topology,
    domain::{DraftRules, Locale, Price, Timestamp},
    metrics::Metrics,
    store::{Ledger, Store},
    time_source::TimeSource,
};

/// Tokens in the cache, some hundred bytes each.
const TOKENS_LIMIT: usize = 10_000;

/// Settings that stay the same while the node runs.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `server.trusted_proxies`; IPv4-mapped IPv6 addresses are converted to IPv4.
    pub trusted_proxies: Vec<IpAddr>,
    /// `server.media_dir` with its symbolic links resolved; `None` without such a folder.
    pub media_dir: Option<PathBuf>,
    /// Whether `/docs` is there.
    pub pages: bool,
    pub body_bytes: usize,
    pub max_price: Price,
    pub dev_login: bool,
    pub max_sessions: usize,
    pub draft: DraftRules,
    pub session: SessionLimits,
}

/// Settings that SIGHUP reloads, and the cache of tokens that depends on them. A reload replaces the whole: nobody sees
/// half of a change, and no cached token outlives its key.
pub struct LiveConfig {
    pub keys: Keys,
    /// Verified tokens and their claims. Tokens of sockets are not cached: a socket sends its token once.
    tokens: Cache<Box<str>, Arc<Claims>>,
    pub allowed_origins: Vec<String>,
    pub rates: Arc<RateLimits>,
    pub locale: Locale,
    /// What `/metrics` wants as bearer token; `None`: nothing.
    pub metrics_token: Option<SecretString>,
}

impl LiveConfig {
    /// With an empty token cache.
    pub fn new(
        keys: Keys,
        allowed_origins: Vec<String>,
        rates: Arc<RateLimits>,
        locale: Locale,
        metrics_token: Option<SecretString>,
    ) -> Self {
        Self { keys, tokens: Cache::new(TOKENS_LIMIT), allowed_origins, rates, locale, metrics_token }
    }

    /// The claims of a token that is likely to come again; `None` if it is invalid or expired.
    pub(super) fn cached_claims(&self, token: &str, now: Timestamp) -> Option<Claims> {
        if let Some(claims) = self.tokens.get(token) {
            return (claims.expires_at > now).then(|| Claims::clone(&claims));
        }
        let claims = self.keys.verify(token, now)?;
        self.tokens.insert(token.into(), Arc::new(claims.clone()));
        Some(claims)
    }
}

impl Services {
    /// The marketplace's time zone, and the time.
    pub(super) fn local_time(&self) -> (Tz, Timestamp) {
        (self.config.draft.time_zone, self.time.now())
    }
}

/// Everything that handlers use.
pub(crate) struct Services {
    pub config: HttpConfig,
    /// Settings that a reload replaces.
    pub live: Arc<ArcSwap<LiveConfig>>,
    /// The time of day; tests set their own.
    pub time: Arc<dyn TimeSource>,
    pub users: Arc<UserDirectory>,
    pub store: Store,
    pub ledger: Ledger,
    /// Routes bids to bid actors; here only its health is asked for.
    pub router: Addr<BidRouter>,
    pub hub: Addr<AlarmHub>,
    /// Starts and ends auctions; here only its health is asked for.
    pub clock: Addr<AuctionClock>,
    pub ingress: Arc<BidIngress>,
    pub rooms: Addr<Rooms>,
    /// Figures about the sessions of all shards.
    pub sessions: Arc<ShardStats>,
    pub topology: Topology,
    pub readiness: Readiness,
    /// The last status of each part.
    pub check_gauges: CheckGauges,
    pub requests: Arc<RequestStats>,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    pub started_at: Timestamp,
}
