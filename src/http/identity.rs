//! Who asks: the token of a request, the user behind it, and the rate that he may ask at. The user of a request is
//! the token's user, never a field of its body (fault 4).

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL},
};
use quick_cache::sync::Cache;

use super::{ApiError, Services, query, rate::Who};
use crate::{
    domain::{Timestamp, User, UserId},
    protocol::{Code, Problem},
    store::{Store, StoreError, writes::SeeUser},
};

/// Users that are remembered.
const REMEMBERED: usize = 100_000;
/// How long a user may take to be made. With the reading before it well within the 3 s of a 503.
const PATIENCE: Duration = Duration::from_millis(500);
/// The subprotocol of modern clients, and the one that carries their token.
pub(super) const SUBPROTOCOL: &str = "handsup.v1";
const BEARER_PROTOCOL: &str = "bearer.";

/// Who asks, with a good token.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The token's user.
    pub user: Arc<User>,
    /// Whether the token opens the admin calls.
    pub admin: bool,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// Users seen lately, so that a bid doesn't read its bidder. Told of every committed change.
pub struct UserDirectory {
    users: Cache<UserId, Arc<User>>,
    changes: AtomicU64,
}

impl Default for UserDirectory {
    fn default() -> Self {
        Self { users: Cache::new(REMEMBERED), changes: AtomicU64::new(0) }
    }
}

impl UserDirectory {
    /// A change is committed.
    pub fn changed(&self, user: User) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.users.insert(user.id, Arc::new(user));
    }

    /// A change is committed, by this node or another, and there may be a later one of which is not known here: until the
    /// user is read anew he is not known. True if he was.
    pub fn forget_one(&self, id: UserId) -> bool {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.users.remove(&id).is_some()
    }

    /// Reads a user, and remembers him unless somebody changes meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn learn(&self, store: &Store, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let changes = self.changes.load(Ordering::Acquire);
        let user = store.user(id).await?.map(Arc::new);
        if let Some(user) = &user {
            self.remember(user, changes);
        }
        Ok(user)
    }

    /// Changes may have been missed: nobody is known any more.
    pub fn forget(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.users.clear();
    }

    /// The user as he is known now, if he is remembered.
    pub(super) fn known(&self, id: UserId) -> Option<Arc<User>> {
        self.users.get(&id)
    }

    /// Remembers what was read, unless something changed since the reading began: it might have been this user.
    fn remember(&self, user: &Arc<User>, changes_before: u64) {
        if self.changes.load(Ordering::Acquire) == changes_before {
            self.users.insert(user.id, Arc::clone(user));
            // A change may have come just before the insert, which would have hidden it.
            if self.changes.load(Ordering::Acquire) != changes_before {
                self.users.remove(&user.id);
            }
        }
    }
}

impl Services {
    /// Who asks, if a token is presented: in the `Authorization` header.
    ///
    /// # Errors
    /// 401 for a bad token, 429 over the rate of requests, 503 when the user can't be looked up.
    pub(super) async fn visitor(&self, request: &HttpRequest) -> Result<Option<Identity>, ApiError> {
        let identity = self.identify(header_token(request)?).await?;
        self.admit(request, identity.as_ref())?;
        Ok(identity)
    }

    /// Who asks; a token is needed.
    ///
    /// # Errors
    /// 401 without a good token, 429 over the rate of requests, 503 when the user can't be looked up.
    pub(super) async fn user(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify(header_token(request)?).await?;
        let identity = identity.ok_or_else(|| ApiError::unauthorized("a token is needed"))?;
        self.admit(request, Some(&identity))?;
        Ok(identity)
    }

    /// Who asks, with a token that opens the admin calls. No rate.
    ///
    /// # Errors
    /// 401 without a good token, 403 with one that isn't an admin's.
    pub(super) async fn admin(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.user(request).await?;
        if !identity.admin {
            return Err(Problem::new(Code::Forbidden, "an admin's token is needed").into());
        }
        Ok(identity)
    }

    /// Who bids. Bids have a rate of their own.
    ///
    /// # Errors
    /// 401 without a good token, 429 over the rate of bids, 503 when the user can't be looked up.
    pub(super) async fn bidder(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify(header_token(request)?).await?;
        let identity = identity.ok_or_else(|| ApiError::unauthorized("a token is needed"))?;
        if !identity.admin {
            self.rates.bid(Who::User(identity.user.id))?;
        }
        Ok(identity)
    }

    /// Who opens a WebSocket: the token may also come as a subprotocol or in the query.
    ///
    /// # Errors
    /// 401 without a good token, 429 over the rate of requests, 503 when the user can't be looked up.
    pub(super) async fn socket_user(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify(socket_token(request)?).await?;
        let identity = identity.ok_or_else(|| ApiError::unauthorized("a token is needed"))?;
        self.admit(request, Some(&identity))?;
        Ok(identity)
    }

    /// Who opens a WebSocket that visitors may open too.
    ///
    /// # Errors
    /// 401 for a bad token, 429 over the rate of requests, 503 when the user can't be looked up.
    pub(super) async fn socket_visitor(&self, request: &HttpRequest) -> Result<Option<Identity>, ApiError> {
        let identity = self.identify(socket_token(request)?).await?;
        self.admit(request, identity.as_ref())?;
        Ok(identity)
    }

    /// Whose rate counts: the user's, or the address's where there is none.
    pub(super) fn who(&self, request: &HttpRequest, identity: Option<&Identity>) -> Who {
        match identity {
            Some(identity) => Who::User(identity.user.id),
            None => Who::address(self.address(request)),
        }
    }

    /// Judges a token that is presented.
    ///
    /// # Errors
    /// 401 for a bad token or an inactive user, 503 when the user can't be looked up.
    pub(super) async fn identify(&self, token: Option<String>) -> Result<Option<Identity>, ApiError> {
        let Some(token) = token else { return Ok(None) };
        let refused = || ApiError::unauthorized("the token is not good");
        let claims = self.keys.verify(&token, self.time.now()).ok_or_else(refused)?;
        let user = self.see_user(claims.user, claims.username, claims.issued_at).await?;
        if !user.is_active {
            return Err(refused());
        }
        Ok(Some(Identity { user, admin: claims.admin, expires_at: claims.expires_at }))
    }

    /// The user of a token: made if he is new, renamed if the token is newer than his name.
    async fn see_user(&self, id: UserId, name: Option<String>, iat: Option<i64>) -> Result<Arc<User>, ApiError> {
        let known = match self.users.users.get(&id) {
            Some(user) => Some(user),
            None => self.users.learn(&self.store, id).await?,
        };
        let Some(user) = known else {
            return Ok(Arc::new(self.ledger.write(SeeUser { id, name, iat }, PATIENCE).await?));
        };
        let mut renamed = User::clone(&user);
        if !renamed.learn_name(name.as_deref(), iat) {
            return Ok(user);
        }
        let see = SeeUser { id, name, iat };
        if renamed.username == user.username {
            // Only a newer token with the same name: nobody waits for that.
            self.ledger.submit(see, Instant::now() + PATIENCE, |_| {});
            return Ok(user);
        }
        // Somebody who is known is not turned away because his new name can't be written now.
        Ok(self.ledger.write(see, PATIENCE).await.map_or(user, Arc::new))
    }

    /// Counts a request of a user, or of an address where there is none; admins are exempt.
    fn admit(&self, request: &HttpRequest, identity: Option<&Identity>) -> Result<(), ApiError> {
        if identity.is_some_and(|identity| identity.admin) {
            return Ok(());
        }
        Ok(self.rates.request(self.who(request, identity))?)
    }

    /// The client's address: the peer's, or behind trusted proxies the nearest one that is not trusted.
    fn address(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        let trusted = |address: &IpAddr| self.config.trusted_proxies.contains(address);
        if !trusted(&peer) {
            return peer;
        }
        let forwarded: Vec<&str> = request
            .headers()
            .get_all(HeaderName::from_static("x-forwarded-for"))
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        let hops = forwarded.iter().rev().map_while(|hop| hop.trim().parse::<IpAddr>().ok());
        hops.take(32).find(|hop| !trusted(hop)).unwrap_or(peer)
    }
}

/// The token in the `Authorization` header, if there is one; any other credentials are bad ones.
fn header_token(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let Some(value) = request.headers().get(AUTHORIZATION) else { return Ok(None) };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.trim().split_once(' '))
        .ok_or_else(|| ApiError::unauthorized("the Authorization header is no bearer token"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::unauthorized("the Authorization header is no bearer token"));
    }
    Ok(Some(token.trim().to_owned()))
}

/// The subprotocols that a handshake offers.
pub(super) fn offered_protocols(request: &HttpRequest) -> impl Iterator<Item = &str> {
    request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The token of a handshake, wherever it stands; an empty one in the query is none.
fn socket_token(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let header = header_token(request)?;
    let of_query = || query::value(request, "token").filter(|token| !token.is_empty());
    Ok(header.or_else(|| protocol_token(request)).or_else(of_query))
}

fn protocol_token(request: &HttpRequest) -> Option<String> {
    offered_protocols(request).find_map(|offered| offered.strip_prefix(BEARER_PROTOCOL)).map(str::to_owned)
}
