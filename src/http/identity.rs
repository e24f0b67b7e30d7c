//! Who asks: the token of a request, the user behind it, and the rate that he may ask at. The user of a request is
//! the token's user, never a field of its body (fault 4).

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
};
use tokio::time::timeout;

use super::{ApiError, Services, forwarded::client_address, query, rate::Who, token::Claims};
use crate::{
    domain::{Timestamp, User, UserId},
    protocol::{Code, Problem},
    store::writes::SeeUser,
};

/// How long a user may take to be made. With the reading before it well within the 3 s of a 503.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
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
    /// Whether the user has a row. What a user without one writes would point to nobody.
    pub is_stored: bool,
}

/// What a request needs of its user's row in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// The request writes: the row has to be there first.
    Needed,
    /// The request reads, and does not fail because the row of a new user can't be written.
    Wanted,
}

impl Services {
    /// Who asks, if a token is presented: in the `Authorization` header.
    ///
    /// # Errors
    /// 401 for a bad token, 429 over the rate of requests, 503 when the user can't be looked up.
    pub(super) async fn visitor(&self, request: &HttpRequest) -> Result<Option<Identity>, ApiError> {
        let identity = self.identify_again(header_token(request)?, Row::Wanted).await?;
        self.admit(request, identity.as_ref())?;
        Ok(identity)
    }

    /// Who reads; a token is needed.
    ///
    /// # Errors
    /// 401 without a good token, 429 over the rate of requests, 503 when the user can't be looked up.
    pub(super) async fn reader(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let reader = self.visitor(request).await?;
        reader.ok_or_else(token_needed)
    }

    /// Who writes; a token is needed.
    ///
    /// # Errors
    /// 401 without a good token, 429 over the rate of requests, 503 when the user can't be looked up or made.
    pub(super) async fn user(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify_again(header_token(request)?, Row::Needed).await?;
        let identity = identity.ok_or_else(token_needed)?;
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

    /// Whether an admin asks who wants to know how the service is. The answer is wanted most when the database is away,
    /// so a valid token needs no row, and an inactive user is refused as far as that can be known.
    ///
    /// # Errors
    /// 401 without a good token, 403 with one that isn't an admin's, 429 over the rate of requests without an admin's.
    pub(super) async fn operator(&self, request: &HttpRequest) -> Result<(), ApiError> {
        let token = header_token(request)?.ok_or_else(token_needed)?;
        let claims = self.live.load().known_claims(&token, self.time.now()).ok_or_else(token_refused)?;
        if !claims.admin {
            self.live.load().rates.request(Who::User(claims.user))?;
        }
        let known = match self.users.fresh(claims.user) {
            Some(user) => Some(user),
            None => match timeout(PATIENCE, self.users.learn(&self.store, claims.user)).await {
                Ok(Ok(user)) => user,
                Ok(Err(_)) | Err(_) => self.users.known(claims.user),
            },
        };
        if known.is_some_and(|user| !user.is_active) {
            return Err(token_refused());
        }
        if !claims.admin {
            return Err(Problem::new(Code::Forbidden, "an admin's token is needed").into());
        }
        Ok(())
    }

    /// Who bids. Bids have a rate of their own.
    ///
    /// # Errors
    /// 401 without a good token, 429 over the rate of bids, 503 when the user can't be looked up or made.
    pub(super) async fn bidder(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify_again(header_token(request)?, Row::Needed).await?;
        let identity = identity.ok_or_else(token_needed)?;
        if !identity.admin {
            self.live.load().rates.bid(Who::User(identity.user.id))?;
        }
        Ok(identity)
    }

    /// Who opens a stream of alarms: the token may also come as a subprotocol or in the query.
    ///
    /// # Errors
    /// 401 without a good token, 429 over the rate of requests, 503 when the user can't be looked up.
    pub(super) async fn stream_user(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        let identity = self.identify_socket(request).await?;
        let identity = identity.ok_or_else(token_needed)?;
        self.admit(request, Some(&identity))?;
        Ok(identity)
    }

    /// Who opens a WebSocket.
    ///
    /// # Errors
    /// 401 without a good token, 503 when the user can't be looked up or over the rate of requests.
    pub(super) async fn socket_user(&self, request: &HttpRequest) -> Result<Identity, ApiError> {
        self.stream_user(request).await.map_err(at_handshake)
    }

    /// Who opens a WebSocket that visitors may open too.
    ///
    /// # Errors
    /// 401 for a bad token, 503 when the user can't be looked up or over the rate of requests.
    pub(super) async fn socket_visitor(&self, request: &HttpRequest) -> Result<Option<Identity>, ApiError> {
        let identity = self.identify_socket(request).await?;
        self.admit(request, identity.as_ref()).map_err(at_handshake)?;
        Ok(identity)
    }

    /// Whose rate counts: the user's, or the address's where there is none.
    pub(super) fn who(&self, request: &HttpRequest, identity: Option<&Identity>) -> Who {
        match identity {
            Some(identity) => Who::User(identity.user.id),
            None => Who::address(self.address(request)),
        }
    }

    /// Judges a token that is presented for reading.
    ///
    /// # Errors
    /// 401 for a bad token or an inactive user, 503 when the user can't be looked up.
    pub(super) async fn identify(&self, token: Option<String>) -> Result<Option<Identity>, ApiError> {
        let Some(token) = token else { return Ok(None) };
        let claims = self.live.load().keys.verify(&token, self.time.now());
        self.identity(claims, Row::Wanted).await.map(Some)
    }

    /// Judges all tokens of a handshake: one that is bad is refused although another one is good, and all have to be
    /// of the same user.
    async fn identify_socket(&self, request: &HttpRequest) -> Result<Option<Identity>, ApiError> {
        let mut shown: Option<Claims> = None;
        let live = self.live.load_full();
        for token in socket_tokens(request)? {
            let claims = live.keys.verify(&token, self.time.now()).ok_or_else(token_refused)?;
            match &shown {
                None => shown = Some(claims),
                Some(first) if first.user == claims.user => {}
                Some(_) => return Err(ApiError::unauthorized("the tokens are of different users")),
            }
        }
        match shown {
            Some(claims) => self.identity(Some(claims), Row::Wanted).await.map(Some),
            None => Ok(None),
        }
    }

    /// Judges a token of somebody who will show it again.
    async fn identify_again(&self, token: Option<String>, row: Row) -> Result<Option<Identity>, ApiError> {
        let Some(token) = token else { return Ok(None) };
        let claims = self.live.load().known_claims(&token, self.time.now());
        self.identity(claims, row).await.map(Some)
    }

    async fn identity(&self, claims: Option<Claims>, row: Row) -> Result<Identity, ApiError> {
        let claims = claims.ok_or_else(token_refused)?;
        let (user, is_stored) = self.see_user(claims.user, claims.username, claims.issued_at, row).await?;
        if !user.is_active {
            return Err(token_refused());
        }
        Ok(Identity { user, admin: claims.admin, expires_at: claims.expires_at, is_stored })
    }

    /// The user of a token, and whether they have a row: made if they are new, renamed if the token is newer than
    /// their name.
    async fn see_user(
        &self,
        id: UserId,
        name: Option<String>,
        iat: Option<i64>,
        row: Row,
    ) -> Result<(Arc<User>, bool), ApiError> {
        let known = match self.users.fresh(id) {
            Some(user) => Some(user),
            None => self.users.learn(&self.store, id).await?,
        };
        let Some(user) = known else {
            return match self.ledger.write(SeeUser { id, name: name.clone(), iat }, PATIENCE).await {
                Ok(user) => Ok((Arc::new(user), true)),
                // Not remembered: the next request tries again to make them.
                Err(_) if row == Row::Wanted => Ok((Arc::new(User::first_seen(id, name.as_deref(), iat)), false)),
                Err(error) => Err(error.into()),
            };
        };
        let mut renamed = User::clone(&user);
        if !renamed.learn_name(name.as_deref(), iat) {
            return Ok((user, true));
        }
        let see = SeeUser { id, name, iat };
        if renamed.username == user.username {
            // Only a newer token with the same name: nobody waits for that.
            self.ledger.submit(see, Instant::now() + PATIENCE, |_| {});
            return Ok((user, true));
        }
        // Somebody who is known is not turned away because his new name can't be written now.
        Ok((self.ledger.write(see, PATIENCE).await.map_or(user, Arc::new), true))
    }

    /// Counts a request of a user, or of an address where there is none; admins are exempt.
    fn admit(&self, request: &HttpRequest, identity: Option<&Identity>) -> Result<(), ApiError> {
        if identity.is_some_and(|identity| identity.admin) {
            return Ok(());
        }
        Ok(self.live.load().rates.request(self.who(request, identity))?)
    }

    /// The client's address.
    pub(super) fn address(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        client_address(peer, request.headers(), &self.config.trusted_proxies)
    }
}

fn token_needed() -> ApiError {
    ApiError::unauthorized("a token is needed")
}

fn token_refused() -> ApiError {
    ApiError::unauthorized("the token is not good")
}

/// A handshake is refused with 401, 403, 404 or 503 (`docs/protocol.md#handshake`): over the rate, too, it is to be tried again later.
fn at_handshake(error: ApiError) -> ApiError {
    match error.0.code() {
        Code::TooManyRequests => Problem::unavailable("too many requests; try again in a moment").into(),
        _ => error,
    }
}

/// The token in the `Authorization` header, if there is one; any other credentials are bad ones.
fn header_token(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let mut token = None;
    for value in request.headers().get_all(AUTHORIZATION) {
        let (scheme, shown) = value
            .to_str()
            .ok()
            .and_then(|value| value.trim().split_once(' '))
            .ok_or_else(|| ApiError::unauthorized("the Authorization header is no bearer token"))?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::unauthorized("the Authorization header is no bearer token"));
        }
        if token.replace(shown.trim().to_owned()).is_some() {
            return Err(ApiError::unauthorized("there is more than one Authorization header"));
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

/// The tokens of a handshake, wherever they stand; an empty one in the query is none.
fn socket_tokens(request: &HttpRequest) -> Result<Vec<String>, ApiError> {
    let of_protocols = offered_protocols(request).filter_map(|offered| offered.strip_prefix(BEARER_PROTOCOL));
    let of_query = query::values(request, "token").filter(|token| !token.is_empty());
    let mut tokens = Vec::from_iter(header_token(request)?);
    tokens.extend(of_protocols.map(str::to_owned).chain(of_query));
    tokens.dedup();
    Ok(tokens)
}
