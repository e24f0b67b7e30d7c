//! What the handlers work with: one set for the node, built by `app`.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use actix::Addr;

use super::{Keys, KnownTokens, RateLimits, Readiness, UserDirectory};
use crate::{
    actors::{AlarmHub, AuctionClock, BidDesk, BidEntrance, Rooms, SessionLimits, ShardStats},
    bus::Bus,
    domain::{DraftRules, Locale, Price, Timestamp},
    store::{Ledger, Store},
    time_source::TimeSource,
};

/// Settings that handlers need.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `server.allowed_origins`
    pub allowed_origins: Vec<String>,
    /// `server.trusted_proxies`
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
    /// `alarms.locale`
    pub locale: Locale,
    /// Settings of sessions.
    pub session: SessionLimits,
}

/// Everything that handlers reach.
pub struct Services {
    /// Settings.
    pub config: HttpConfig,
    /// The clock.
    pub time: Arc<dyn TimeSource>,
    /// Token keys.
    pub keys: Keys,
    /// Tokens seen lately.
    pub tokens: KnownTokens,
    /// Users seen lately.
    pub users: Arc<UserDirectory>,
    /// Rates.
    pub rates: RateLimits,
    /// The reading side of the database.
    pub store: Store,
    /// The writing side.
    pub ledger: Ledger,
    /// The bid desk.
    pub desk: Addr<BidDesk>,
    /// The hub.
    pub hub: Addr<AlarmHub>,
    /// The auction clock.
    pub clock: Addr<AuctionClock>,
    /// Where bids come in.
    pub entrance: Arc<BidEntrance>,
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
