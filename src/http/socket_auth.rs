//! What a session asks about its user while it runs: tokens, the user's state, rates. HTTP requests use the same.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use actix_web::{HttpRequest, web};

use super::{
    Services,
    identity::{ENSURE_USER_TIMEOUT, Identity},
    rate_limits::RateKey,
};
use crate::{
    actors::{AuthFuture, AuthOutcome, Authenticated, RateVerdict, SocketAuth},
    domain::{Locale, User},
    protocol::Code,
    store::writes::EnsureUser,
};

/// The token's user, and how long the token is valid.
pub(super) fn authenticated(identity: &Identity) -> Authenticated {
    Authenticated { user: identity.user.id, expires_at: identity.expires_at }
}

/// Gives a session access to what HTTP requests use too: tokens, users, rates.
pub(super) struct RequestAuth {
    services: Arc<Services>,
    /// The user who opened the socket, as last known; `None` for a visitor.
    user: RefCell<Option<Arc<User>>>,
    /// Whether the user's row is stored. The handshake starts to store it but does not wait.
    is_stored: Arc<AtomicBool>,
    admin: bool,
    rate_key: RateKey,
}

impl RequestAuth {
    /// `identity` is `None` for a visitor.
    pub(super) fn new(request: &HttpRequest, services: &web::Data<Services>, identity: Option<&Identity>) -> Self {
        Self {
            services: services.clone().into_inner(),
            user: RefCell::new(identity.map(|identity| Arc::clone(&identity.user))),
            is_stored: Arc::new(AtomicBool::new(identity.is_none_or(|identity| identity.is_stored))),
            admin: identity.is_some_and(|identity| identity.admin),
            rate_key: services.rate_key(request, identity),
        }
    }
}

impl SocketAuth for RequestAuth {
    fn authenticate(&self, token: String) -> AuthFuture {
        let services = Arc::clone(&self.services);
        Box::pin(async move {
            match services.identify(Some(token)).await {
                Ok(Some(identity)) => AuthOutcome::Valid(authenticated(&identity)),
                Ok(None) => AuthOutcome::Invalid,
                Err(error) if error.0.code() == Code::Unauthorized => AuthOutcome::Invalid,
                Err(_) => AuthOutcome::Unavailable,
            }
        })
    }

    fn user(&self) -> Option<Arc<User>> {
        let mut user = self.user.borrow_mut();
        let user = user.as_mut()?;
        if let Some(known) = self.services.users.last_known(user.id) {
            *user = known;
        }
        Some(Arc::clone(user))
    }

    fn may_write(&self) -> bool {
        if self.is_stored.load(Ordering::Relaxed) {
            return true;
        }
        if let Some(user) = self.user() {
            let ensure = EnsureUser { id: user.id, name: Some(user.username.clone()), iat: Some(user.named_at) };
            let is_stored = Arc::clone(&self.is_stored);
            self.services.ledger.submit(ensure, Instant::now() + ENSURE_USER_TIMEOUT, move |stored| {
                is_stored.fetch_or(stored.is_ok(), Ordering::Relaxed);
            });
        }
        false
    }

    fn count_bid(&self) -> RateVerdict {
        if self.admin { RateVerdict::Fine } else { self.services.live.load().rates.count_bid(self.rate_key) }
    }

    fn count_line(&self) -> RateVerdict {
        if self.admin { RateVerdict::Fine } else { self.services.live.load().rates.count_line(self.rate_key) }
    }

    fn default_locale(&self) -> Locale {
        self.services.live.load().locale
    }
}
