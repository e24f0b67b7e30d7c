//! HTTP errors as data: `application/problem+json` (RFC 9457) with the codes of `docs/protocol.md#errors`.
//! A code knows its status and title; nothing here can carry SQL, a path or a stack.

use serde::Serialize;

use crate::domain::{Price, Refusal};

/// The contract's error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No token where one is needed, or a bad one.
    Unauthorized,
    /// A good token that isn't enough.
    Forbidden,
    /// No such thing.
    NotFound,
    /// The path exists, the method doesn't.
    MethodNotAllowed,
    /// Below the minimum.
    BidTooLow,
    /// The bid arrived before the start.
    AuctionNotStarted,
    /// The bid arrived at or after the end.
    AuctionEnded,
    /// The goods' auction has begun: they can't be deleted any more.
    AuctionStarted,
    /// The seller bid on his own goods.
    SellerCannotBid,
    /// Not JSON, not an object, or a needed field is missing.
    InvalidBody,
    /// A field or query value that can't be taken.
    InvalidValue,
    /// The idempotency key belongs to another bid.
    IdempotencyKeyReused,
    /// Over `limits.body_bytes`.
    PayloadTooLarge,
    /// The body is compressed.
    UnsupportedEncoding,
    /// The head of the request is too large.
    HeadersTooLarge,
    /// The body didn't come in time.
    RequestTimeout,
    /// Over a rate.
    TooManyRequests,
    /// Not now.
    Unavailable,
}

impl Code {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
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
    pub const fn name(self) -> &'static str {
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

    const fn title(self) -> &'static str {
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

/// What became of a bid that was answered with 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is not and will not be stored.
    NotStored,
    /// The commit's fate could not be learned in time.
    Unknown,
}

/// One problem document. Boxed, because it travels in the error of every `Result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Document>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Document {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(serialize_with = "code_name")]
    code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_price: Option<i64>,
    /// Where the code names it; null where no bid is high enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<Option<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// Seconds for the `Retry-After` header.
    #[serde(skip)]
    retry_after_s: Option<u64>,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn code_name<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

impl Problem {
    /// A problem of this code, in words for the client's developer.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
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

    /// 422: this field can't be taken, and what is asked of it.
    pub fn invalid_value(field: &str, asked: &str) -> Self {
        Self::new(Code::InvalidValue, format!("{field}: {asked}")).with(|it| it.field = Some(field.to_owned()))
    }

    /// 429 with the seconds to wait.
    pub fn too_many_requests(retry_after_s: u64) -> Self {
        Self::new(Code::TooManyRequests, "slow down").with(|it| it.retry_after_s = Some(retry_after_s.max(1)))
    }

    /// 503, for something that can be tried again.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(Code::Unavailable, detail).with(|it| it.retry_after_s = Some(1))
    }

    /// 503 for a bid, with what became of it.
    pub fn bid_unavailable(outcome: Outcome) -> Self {
        let detail = match outcome {
            Outcome::NotStored => "the bid was not stored; try again",
            Outcome::Unknown => "the bid may have been stored; look at the goods' bids before you try again",
        };
        Self::unavailable(detail).with(|it| it.outcome = Some(outcome))
    }

    /// A bid refused by the rule, where no price may be above `max_price` (`limits.max_price`).
    pub fn refused_bid(refusal: &Refusal, max_price: Price) -> Self {
        match refusal {
            Refusal::SellerCannotBid => Self::new(Code::SellerCannotBid, "the goods are yours"),
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

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The price to beat, where the code names it.
    pub fn high_price(&self) -> Option<i64> {
        self.0.high_price
    }

    /// Whether no bid is high enough any more.
    pub fn leaves_no_room(&self) -> bool {
        self.0.minimum == Some(None)
    }

    /// What became of a bid, where the code names it.
    pub fn outcome(&self) -> Option<Outcome> {
        self.0.outcome
    }

    /// Seconds for `Retry-After`, where the code wants it.
    pub fn retry_after_s(&self) -> Option<u64> {
        self.0.retry_after_s
    }
}
