//! HTTP errors as values: `application/problem+json` (RFC 9457) with the codes of `docs/protocol.md#errors`.
//!
//! A code determines its status and title. Nothing here can carry SQL, a path or a stack trace to a client.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Price, Refusal};

/// The error codes of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Code {
    /// The token is missing, invalid or expired.
    Unauthorized,
    /// The token is valid, but its user may not do this.
    Forbidden,
    /// The path, or what it names, does not exist.
    NotFound,
    MethodNotAllowed,
    BidTooLow,
    AuctionNotStarted,
    /// The bid arrived when the auction ended, or later.
    AuctionEnded,
    /// The auction has started, so its goods can't be deleted any more.
    AuctionStarted,
    SellerCannotBid,
    /// The body is not JSON, not an object, or lacks a required field.
    InvalidBody,
    /// A field or query parameter has a value that isn't allowed.
    InvalidValue,
    IdempotencyKeyReused,
    /// The body is longer than `limits.body_bytes`.
    PayloadTooLarge,
    /// The body is compressed, which is not supported.
    UnsupportedEncoding,
    HeadersTooLarge,
    RequestTimeout,
    TooManyRequests,
    /// The service can't do this now.
    Unavailable,
}

impl Code {
    /// The HTTP status.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Code::Unauthorized => 401,
            Code::Forbidden | Code::SellerCannotBid => 403,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::RequestTimeout => 408,
            Code::BidTooLow | Code::AuctionNotStarted | Code::AuctionEnded | Code::AuctionStarted => 409,
            Code::InvalidBody => 400,
            Code::InvalidValue | Code::IdempotencyKeyReused => 422,
            Code::PayloadTooLarge => 413,
            Code::UnsupportedEncoding => 415,
            Code::HeadersTooLarge => 431,
            Code::TooManyRequests => 429,
            Code::Unavailable => 503,
        }
    }

    /// The name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Code::Unauthorized => "unauthorized",
            Code::Forbidden => "forbidden",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::BidTooLow => "bid_too_low",
            Code::AuctionNotStarted => "auction_not_started",
            Code::AuctionEnded => "auction_ended",
            Code::AuctionStarted => "auction_started",
            Code::SellerCannotBid => "seller_cannot_bid",
            Code::InvalidBody => "invalid_body",
            Code::InvalidValue => "invalid_value",
            Code::IdempotencyKeyReused => "idempotency_key_reused",
            Code::PayloadTooLarge => "payload_too_large",
            Code::UnsupportedEncoding => "unsupported_encoding",
            Code::HeadersTooLarge => "headers_too_large",
            Code::RequestTimeout => "request_timeout",
            Code::TooManyRequests => "too_many_requests",
            Code::Unavailable => "unavailable",
        }
    }

    /// The title of a problem with this code.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Code::Unauthorized => "Unauthorized",
            Code::Forbidden => "Forbidden",
            Code::NotFound => "Not found",
            Code::MethodNotAllowed => "Method not allowed",
            Code::BidTooLow => "Bid too low",
            Code::AuctionNotStarted => "Auction not started",
            Code::AuctionEnded => "Auction ended",
            Code::AuctionStarted => "Auction started",
            Code::SellerCannotBid => "Sellers cannot bid on their own goods",
            Code::InvalidBody => "Invalid body",
            Code::InvalidValue => "Invalid value",
            Code::IdempotencyKeyReused => "Idempotency key reused",
            Code::PayloadTooLarge => "Payload too large",
            Code::UnsupportedEncoding => "Unsupported encoding",
            Code::HeadersTooLarge => "Headers too large",
            Code::RequestTimeout => "Request timeout",
            Code::TooManyRequests => "Too many requests",
            Code::Unavailable => "Unavailable",
        }
    }
}

/// Whether a bid that was answered with 503 is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is not stored, and will not be.
    NotStored,
    /// The service could not find out in time whether it is stored.
    Unknown,
}

/// One problem document. It is boxed to keep the `Result`s that carry it small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(description = "Why a request was refused (RFC 9457).")]
pub(crate) struct Problem(Box<Document>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ProblemDocument)]
struct Document {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// What is wrong, for people.
    detail: String,
    #[serde(serialize_with = "code_name")]
    code: Code,
    /// The field, query value or header that is wrong, with `invalid_value` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The price to beat, with `bid_too_low` only; 0 before the first bid.
    #[serde(skip_serializing_if = "Option::is_none")]
    high_price: Option<i64>,
    /// The minimum of the next bid, with `bid_too_low` only; null if it would be above `limits.max_price`.
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<Option<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// The seconds in the `Retry-After` header. Not part of the body.
    #[serde(skip)]
    retry_after_s: Option<u64>,
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn code_name<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

impl Problem {
    /// A problem with this code. `detail` tells the client's developer what is wrong.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Document {
            kind: "about:blank",
            title: code.title(),
            status: code.status(),
            detail: detail.into(),
            code,
            field: None,
            high_price: None,
            minimum: None,
            outcome: None,
            retry_after_s: None,
        }))
    }

    fn with(mut self, set: impl FnOnce(&mut Document)) -> Self {
        set(&mut self.0);
        self
    }

    /// 422 for this field. `expected` says what values are allowed.
    pub(crate) fn invalid_value(field: &str, expected: &str) -> Self {
        Self::new(Code::InvalidValue, format!("{field}: {expected}")).with(|it| it.field = Some(field.to_owned()))
    }

    /// 429. `retry_after_s` is how long the client is to wait, at least 1 second.
    pub(crate) fn too_many_requests(retry_after_s: u64) -> Self {
        Self::new(Code::TooManyRequests, "too many requests; wait for the seconds in Retry-After")
            .with(|it| it.retry_after_s = Some(retry_after_s.max(1)))
    }

    /// 503 for something that can be tried again after a second.
    pub(crate) fn unavailable(detail: &str) -> Self {
        Self::new(Code::Unavailable, detail).with(|it| it.retry_after_s = Some(1))
    }

    /// 503 for a bid.
    pub(crate) fn bid_unavailable(outcome: Outcome) -> Self {
        let detail = match outcome {
            Outcome::NotStored => "the bid was not stored; try again",
            Outcome::Unknown => "the bid may have been stored; look at the goods' bids before you try again",
        };
        Self::unavailable(detail).with(|it| it.outcome = Some(outcome))
    }

    /// A bid that the judge refused. `max_price` is `limits.max_price`, above which no bid is possible.
    pub(crate) fn refused_bid(refusal: &Refusal, max_price: Price) -> Self {
        match refusal {
            Refusal::SellerCannotBid => Self::new(Code::SellerCannotBid, "sellers cannot bid on their own goods"),
            Refusal::NotStarted => Self::new(Code::AuctionNotStarted, "the auction has not started"),
            Refusal::Ended => Self::new(Code::AuctionEnded, "the auction has ended"),
            Refusal::TooLow { high_price, minimum } => {
                let minimum = Some(minimum.won()).filter(|minimum| *minimum <= max_price.won());
                let detail = minimum.map_or_else(
                    || format!("no higher bid is possible: a price is at most {}", max_price.won()),
                    |minimum| format!("the next bid is at least {minimum}"),
                );
                Self::new(Code::BidTooLow, detail).with(|it| {
                    it.high_price = Some(high_price.map_or(0, Price::won));
                    it.minimum = Some(minimum);
                })
            }
        }
    }

    /// The HTTP status of the code.
    pub(crate) fn status(&self) -> u16 {
        self.0.status
    }

    /// The error code.
    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    /// The price to beat, 0 before the first bid. `None` unless the code is `bid_too_low`.
    pub(crate) fn high_price(&self) -> Option<i64> {
        self.0.high_price
    }

    /// Whether the next bid would have to be above `limits.max_price`.
    pub(crate) fn no_higher_bid_possible(&self) -> bool {
        self.0.minimum == Some(None)
    }

    /// Whether the bid is stored. `None` unless it was answered with 503.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.0.outcome
    }

    /// The seconds in the `Retry-After` header. `None` sends no such header.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.0.retry_after_s
    }
}
