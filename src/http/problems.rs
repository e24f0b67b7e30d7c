//! The problems that operations may answer with, for `/openapi.json`: an operation lists these types among its
//! `responses`.
//!
//! Several codes may share a status, so each has a key of its own here; `openapi` joins those of one status.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

use crate::protocol::Code;

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $($code:ident),+;)+) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(Code::$code),+].into_iter().map(documented).collect()
            }
        }
    )+};
}

problems! {
    /// Every call that reads the token: a bad one is refused where none is needed, too.
    Caller: Unauthorized, TooManyRequests, Unavailable;
    /// Calls that need an admin's token.
    Admin: Unauthorized, Forbidden, TooManyRequests, Unavailable;
    /// The health report, which doesn't need the database.
    AdminReport: Unauthorized, Forbidden, TooManyRequests;
    /// `/metrics`.
    Scraper: Unauthorized, Unavailable;
    /// Calls with a body.
    Body: InvalidBody, InvalidValue, PayloadTooLarge, UnsupportedEncoding;
    /// Handshakes of WebSockets.
    Handshake: InvalidBody, Unauthorized, Forbidden, Unavailable;
    Forbidden: Forbidden;
    NotFound: NotFound;
    InvalidValue: InvalidValue;
    AuctionStarted: AuctionStarted;
    AuctionEnded: AuctionEnded;
    Unavailable: Unavailable;
    /// A bid, besides `Caller`, `Body` and `NotFound`.
    Bid: BidTooLow, AuctionNotStarted, AuctionEnded, SellerCannotBid, IdempotencyKeyReused;
}

/// The key has the form that `openapi` takes apart: the status, and the code.
fn documented(code: Code) -> (String, RefOr<Response>) {
    (format!("{} {}", code.status(), code.name()), Response::new(code.title()).into())
}
