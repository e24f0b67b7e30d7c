//! Identifies who sends a request: reads its token, finds the token's user, and counts the request against their rate.
//! The user of a request is always the token's user, never a field of its body (fault 4).
//!
//! Handlers call the method that fits the request: `anyone`, `visitor`, `reader`, `user`, `bidder`, `admin`,
//! `admin_reader`, `operator`, `scraper`, `stream_user`, `socket_user` or `socket_visitor`.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
};
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;
use tokio::time::timeout;

use super::{
    ApiError, Services, forwarded::client_address, query, rate_limits::RateKey, request_log::note_user, token::Claims,
};
use crate::{
    domain::{Timestamp, User, UserId},
    protocol::{Code, Problem},
    store::writes::EnsureUser,
};

/// How long to wait until a user's row is written. Together with the read before it, this stays well within the 3 s in
/// which a 503 is promised.
pub(super) const ENSURE_USER_TIMEOUT: Duration = Duration::from_millis(500);
/// The subprotocol of modern clients.
pub(super) const SUBPROTOCOL: &str = "handsup.v1";
/// A subprotocol with this prefix carries a token: browsers can't set headers on a WebSocket.
const BEARER_PREFIX: &str = "bearer.";

/// Who sends a request, proved by a valid token.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub user: Arc<User>,
    pub admin: bool,
    /// From this moment on the token is expired.
    pub expires_at: Timestamp,
    /// Whether the user has a row in the database. Without it nothing that refers to them can be written.
    pub is_stored: bool,
}

/// Whether a request needs its user's row in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UserRow {
    /// The request writes something that refers to the row, and fails if a missing row can't be written.
    Required,
    /// The request only reads, and succeeds although the row of a new user can't be written.
    Optional,
}

impl Services {
    /// Identifies the sender of a request that needs no token; `None` without an `Authorization` header.
    /// Errors: 401 for an invalid token, 429 over the rate of requests, 503 if the user can't be read.
    pub(super) async fn visitor(&self, request: &HttpRequest) -> Result<Option<Identity>, ApiError> {
        let identity = self.identify_cached(request, UserRow::Optional).await?;
        self.count_request(request, identity.as_ref())?;
        Ok(identity)
    }

    /// The user who sends a request that needs no token; `None` for a visitor.
    /// Errors: Those of [`visitor`](Self::visitor).
    pub(super) async fn viewer(&self, request: &HttpRequest) -> Result<Option<UserId>, ApiError> {
        Ok(self.visitor(request).await?.map(|identity| identity.user.id))
    }

    /// Identifies the sender of a request that needs a token and only reads.
    /// Errors: 401 without a valid token, 429 over the rate of requests, 503 if the user can't be read.
    pub(super) async fn reader(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let reader = self.visitor(request).await?;
        reader.ok_or_else(token_needed)
    }

    /// Identifies the sender of a request that writes.
    /// Errors: 401 without a valid token, 429 over the rate of requests, 503 if the user can't be read, or their
    /// missing row can't be written.
    pub(super) async fn user(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify_cached(request, UserRow::Required).await?;
        let identity = identity.ok_or_else(token_needed)?;
        self.count_request(request, Some(&identity))?;
        Ok(identity)
    }

    /// Identifies the admin who sends a request. Admins have no rate limit.
    /// Errors: 401 without a valid token, 403 with one that isn't an admin's, otherwise as [`user`](Self::user).
    pub(super) async fn admin(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        admin_only(self.user(request).await?)
    }

    /// Identifies the admin who sends a request that only reads.
    /// Errors: 401 without a valid token, 403 with one that isn't an admin's, otherwise as [`reader`](Self::reader).
    pub(super) async fn admin_reader(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        admin_only(self.reader(request).await?)
    }

    /// Checks that an admin requests the health report, which matters most while the database is not available.
    /// Errors: 401 without a valid token, 403 with one that isn't an admin's, 429 if its user is no admin and over the
    /// rate of requests.
    pub(super) async fn operator(&self, request: &HttpRequest) -> Result<(), ApiError> {
        match self.token_holder(request).await? {
            Some(claims) if claims.admin => Ok(()),
            Some(_) => Err(admin_needed()),
            None => Err(token_needed()),
        }
    }

    /// Lets anybody read what the binary itself holds, also while the database is not available.
    /// Errors: 401 for an invalid token, 429 over the rate of requests.
    pub(super) async fn anyone(&self, request: &HttpRequest) -> Result<(), ApiError> {
        match self.token_holder(request).await? {
            Some(_) => Ok(()),
            None => self.count_request(request, None),
        }
    }

    /// Checks that the sender may read the metrics: with `auth.metrics_token` whoever has that, otherwise everybody. No
    /// rate limits them, and nothing is asked of the database.
    /// Errors: 401 without that token, or for an invalid one.
    pub(super) fn scraper(&self, request: &HttpRequest) -> Result<(), ApiError> {
        let (token, live) = (header_token(request)?, self.live.load());
        match (&live.metrics_token, token) {
            (Some(_), None) => Err(token_needed()),
            (Some(expected), Some(token)) => {
                let is_expected = expected.expose_secret().as_bytes().ct_eq(token.as_bytes());
                if is_expected.into() { Ok(()) } else { Err(token_refused()) }
            }
            (None, None) => Ok(()),
            (None, Some(token)) => {
                let claims = live.cached_claims(&token, self.time.now()).ok_or_else(token_refused)?;
                let is_inactive = self.users.last_known(claims.user).is_some_and(|user| !user.is_active);
                if is_inactive { Err(token_refused()) } else { Ok(()) }
            }
        }
    }

    /// What the token says, counted against the rate of its user; `None` without one. This needs no row, and refuses an
    /// inactive user only if the database or the cache says so.
    async fn token_holder(&self, request: &HttpRequest) -> Result<Option<Claims>, ApiError> {
        let Some(token) = header_token(request)? else { return Ok(None) };
        let claims = self.live.load().cached_claims(&token, self.time.now()).ok_or_else(token_refused)?;
        note_user(request, claims.user);
        if !claims.admin {
            self.live.load().rates.check_request(RateKey::User(claims.user))?;
        }
        let user = match self.users.current(claims.user) {
            Some(user) => Some(user),
            None => match timeout(ENSURE_USER_TIMEOUT, self.users.load(&self.store, claims.user)).await {
                Ok(Ok(user)) => user,
                Ok(Err(_)) | Err(_) => self.users.last_known(claims.user),
            },
        };
        if user.is_some_and(|user| !user.is_active) { Err(token_refused()) } else { Ok(Some(claims)) }
    }

    /// Identifies a bidder. Bids have a rate of their own.
    /// Errors: 401 without a valid token, 429 over the rate of bids, 503 if the user can't be read, or their missing
    /// row can't be written.
    pub(super) async fn bidder(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify_cached(request, UserRow::Required).await?;
        let identity = identity.ok_or_else(token_needed)?;
        if !identity.admin {
            self.live.load().rates.check_bid(RateKey::User(identity.user.id))?;
        }
        Ok(identity)
    }

    /// Identifies who opens a stream of alarms. The token may also be a subprotocol or in the query, since browsers
    /// can't set headers here.
    /// Errors: 401 without a valid token, 429 over the rate of requests, 503 if the user can't be read.
    pub(super) async fn stream_user(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify_socket(request).await?;
        let identity = identity.ok_or_else(token_needed)?;
        self.count_request(request, Some(&identity))?;
        Ok(identity)
    }

    /// Identifies who opens a WebSocket that needs a token.
    /// Errors: 401 without a valid token, 503 over the rate of requests or if the user can't be read.
    pub(super) async fn socket_user(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        self.stream_user(request).await.map_err(handshake_error)
    }

    /// Identifies who opens a WebSocket that needs no token; `None` without one.
    /// Errors: 401 for an invalid token, 503 over the rate of requests or if the user can't be read.
    pub(super) async fn socket_visitor(&self, request: &HttpRequest) -> Result<Option<Identity>, ApiError> {
        let identity = self.identify_socket(request).await?;
        self.count_request(request, identity.as_ref()).map_err(handshake_error)?;
        Ok(identity)
    }

    /// Whose rate a request counts against: the user's, or without a token the client address's.
    pub(super) fn rate_key(&self, request: &HttpRequest, identity: Option<&Identity>) -> RateKey {
        match identity {
            Some(identity) => RateKey::User(identity.user.id),
            None => RateKey::address(self.address(request)),
        }
    }

    /// Identifies the user of a token that a client sends on an open socket.
    /// Errors: 401 for an invalid token or an inactive user, 503 if the user can't be read.
    pub(super) async fn identify(&self, token: Option<String>) -> Result<Option<Identity>, ApiError> {
        let Some(token) = token else { return Ok(None) };
        let claims = self.live.load().keys.verify(&token, self.time.now()).ok_or_else(token_refused)?;
        self.identity(claims, UserRow::Optional).await.map(Some)
    }

    /// Identifies the user of all tokens of a handshake. Each token has to be valid, and all have to belong to one
    /// user.
    async fn identify_socket(&self, request: &HttpRequest) -> Result<Option<Identity>, ApiError> {
        let mut first: Option<Claims> = None;
        let live = self.live.load_full();
        for token in socket_tokens(request)? {
            let claims = live.keys.verify(&token, self.time.now()).ok_or_else(token_refused)?;
            match &first {
                None => first = Some(claims),
                Some(first) if first.user == claims.user => {}
                Some(_) => {
                    return Err(ApiError::unauthorized("the tokens belong to different users; send those of one user"));
                }
            }
        }
        match first {
            Some(claims) => {
                note_user(request, claims.user);
                self.identity(claims, UserRow::Optional).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Identifies the user of a token that is likely to come again, by the cache of tokens.
    async fn identify_cached(&self, request: &HttpRequest, row: UserRow) -> Result<Option<Identity>, ApiError> {
        let Some(token) = header_token(request)? else { return Ok(None) };
        let claims = self.live.load().cached_claims(&token, self.time.now()).ok_or_else(token_refused)?;
        note_user(request, claims.user);
        self.identity(claims, row).await.map(Some)
    }

    /// The identity of verified claims.
    async fn identity(&self, claims: Claims, row: UserRow) -> Result<Identity, ApiError> {
        let (user, is_stored) = self.ensure_user(claims.user, claims.username, claims.issued_at, row).await?;
        if !user.is_active {
            return Err(token_refused());
        }
        Ok(Identity { user, admin: claims.admin, expires_at: claims.expires_at, is_stored })
    }

    /// The user of a token, and whether they have a row. Writes a row for a new user, and the token's name if it is
    /// newer than the stored one.
    async fn ensure_user(
        &self,
        id: UserId,
        name: Option<String>,
        iat: Option<i64>,
        row: UserRow,
    ) -> Result<(Arc<User>, bool), ApiError> {
        let known = match self.users.current(id) {
            Some(user) => Some(user),
            None => self.users.load(&self.store, id).await?,
        };
        let Some(user) = known else {
            return match self.ledger.write(EnsureUser { id, name: name.clone(), iat }, ENSURE_USER_TIMEOUT).await {
                Ok(user) => Ok((Arc::new(user), true)),
                // Not cached: the next request tries again to write the row.
                Err(_) if row == UserRow::Optional => Ok((Arc::new(User::first_seen(id, name.as_deref(), iat)), false)),
                Err(error) => Err(error.into()),
            };
        };
        let mut renamed = User::clone(&user);
        if !renamed.learn_name(name.as_deref(), iat) {
            return Ok((user, true));
        }
        let write = EnsureUser { id, name, iat };
        if renamed.username == user.username {
            // A newer token with the same name: only its age is written, and the request does not wait for that.
            self.ledger.submit(write, Instant::now() + ENSURE_USER_TIMEOUT, |_| {});
            return Ok((user, true));
        }
        // If the new name can't be written now, the request goes on with the old one.
        Ok((self.ledger.write(write, ENSURE_USER_TIMEOUT).await.map_or(user, Arc::new), true))
    }

    /// Counts a request against its sender's rate; admins are exempt.
    fn count_request(&self, request: &HttpRequest, identity: Option<&Identity>) -> Result<(), ApiError> {
        if identity.is_some_and(|identity| identity.admin) {
            return Ok(());
        }
        Ok(self.live.load().rates.check_request(self.rate_key(request, identity))?)
    }

    /// The client's address, behind trusted proxies too.
    pub(super) fn address(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        client_address(peer, request.headers(), &self.config.trusted_proxies)
    }
}

/// Refuses whoever is no admin.
fn admin_only(identity: Identity) -> Result<Identity, ApiError> {
    if identity.admin { Ok(identity) } else { Err(admin_needed()) }
}

fn admin_needed() -> ApiError {
    Problem::new(Code::Forbidden, "an admin's token is needed").into()
}

fn token_needed() -> ApiError {
    ApiError::unauthorized("a token is needed")
}

fn token_refused() -> ApiError {
    ApiError::unauthorized("invalid or expired token")
}

/// Over the rate a handshake is refused with 503, since 429 is none of its statuses (`docs/protocol.md#handshake`).
fn handshake_error(error: ApiError) -> ApiError {
    match error.0.code() {
        Code::TooManyRequests => Problem::unavailable("too many requests; try again in a moment").into(),
        _ => error,
    }
}

/// The token in the `Authorization` header; `None` without this header. 401 for anything but one bearer token.
fn header_token(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let mut token = None;
    for value in request.headers().get_all(AUTHORIZATION) {
        let (scheme, value) = value
            .to_str()
            .ok()
            .and_then(|value| value.trim().split_once(' '))
            .ok_or_else(|| ApiError::unauthorized("the Authorization header must be `Bearer <token>`"))?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::unauthorized("the Authorization header must be `Bearer <token>`"));
        }
        if token.replace(value.trim().to_owned()).is_some() {
            return Err(ApiError::unauthorized("send only one Authorization header"));
        }
    }
    Ok(token)
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

/// The tokens of a handshake in its header, its subprotocols and its query. An empty one in the query does not count.
fn socket_tokens(request: &HttpRequest) -> Result<Vec<String>, ApiError> {
    let from_protocols = offered_protocols(request).filter_map(|offered| offered.strip_prefix(BEARER_PREFIX));
    let from_query = query::values(request, "token").filter(|token| !token.is_empty());
    let mut tokens = Vec::from_iter(header_token(request)?);
    tokens.extend(from_protocols.map(str::to_owned).chain(from_query));
    tokens.dedup();
    Ok(tokens)
}
