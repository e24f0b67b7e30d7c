//! `POST /goods/{id}/bids` places a bid, `GET /goods/{id}/bids` lists the accepted ones.

use std::time::Instant;

use actix_web::{
    HttpRequest, ResponseError,
    http::header::{HeaderName, HeaderValue},
    web::{Path, Payload},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{ApiError, Data, Response, body, json, problems, query};
use crate::{
    actors::{ArrivingBid, BidAnswer, Door},
    domain::{Bid, BidSeq, GoodsId, IdempotencyKey, Price, Timestamp, UserId},
    protocol::{Code, Outcome, Problem},
    store::{
        BidListing, WriteError,
        writes::{BidVerdict, StoredBid},
    },
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

#[derive(Deserialize, ToSchema)]
struct BidBody {
    /// In whole units of the currency, at most `limits.max_price`.
    #[schema(value_type = i64, minimum = 1)]
    price: Value,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PlacedBid)]
struct Accepted {
    bid_id: i64,
    goods_id: GoodsId,
    user_id: UserId,
    price: Price,
    high_price: Price,
    seq: BidSeq,
    created_at: Timestamp,
    ends_at: Timestamp,
}

impl From<StoredBid> for Accepted {
    fn from(StoredBid { id, bid, seq, high_price, ends_at }: StoredBid) -> Self {
        let Bid { goods: goods_id, user: user_id, price, received_at: created_at } = bid;
        Self { bid_id: id.get(), goods_id, user_id, price, high_price, seq, created_at, ends_at }
    }
}

/// Places a bid. The response to an accepted bid is sent only after it is on disk.
#[utoipa::path(
    post, path = "/goods/{id}/bids", operation_id = "place_bid", tag = "bids", security(("bearer" = [])),
    params(
        ("id" = GoodsId, Path, description = "The goods"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 64, pattern = "^[!-~]+$",
            description = "The same key with the same bid gives the first answer again, for 24 hours"),
    ),
    request_body(content = BidBody, example = json!({"price": 12000})),
    responses(
        (status = 201, description = "The bid is on disk", body = Accepted, headers(
            (
                "Idempotent-Replayed" = Option<bool>,
                description = "`true` on the answer to an earlier bid with this key"
            ),
        )),
        problems::Caller, problems::Body, problems::NotFound, problems::Bid,
    ),
)]
pub(super) async fn place(request: HttpRequest, goods: Path<String>, payload: Payload, services: Data) -> Response {
    let started = Instant::now();
    let bidder = services.bidder(&request).await.map_err(bid_error)?;
    // The time that the bidder's row took is taken off the time limit of their bid.
    let spent = started.elapsed();
    let key = idempotency_key(&request)?;
    let body: BidBody = body::object(&request, payload, &services).await?;
    let max_price = services.config.max_price;
    let price = body::price("price", &body.price, max_price)?;
    let goods = goods_id(&goods)?;
    // The whole bid has been received: `arrive` takes this moment as its arrival.
    let bid = ArrivingBid { door: Door::Http, goods, bidder: bidder.user, price, key, spent };
    let answer = services.ingress.arrive(bid).await;
    match answer {
        BidAnswer::Verdict(BidVerdict::Replayed(first)) => {
            let mut response = verdict_response(*first, max_price).unwrap_or_else(|error| error.error_response());
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
        BidAnswer::Verdict(verdict) => verdict_response(verdict, max_price),
        BidAnswer::Failed(WriteError::NotStored) => Err(Problem::bid_unavailable(Outcome::NotStored).into()),
        BidAnswer::Failed(WriteError::Unknown) => Err(Problem::bid_unavailable(Outcome::Unknown).into()),
    }
}

/// An error from before the bid went to the ledger: if it is a 503, it says that the bid is not stored.
fn bid_error(error: ApiError) -> ApiError {
    match error.0.code() {
        Code::Unavailable => Problem::bid_unavailable(Outcome::NotStored).into(),
        _ => error,
    }
}

fn verdict_response(verdict: BidVerdict, max_price: Price) -> Response {
    match verdict {
        BidVerdict::Accepted(stored) => Ok(json::created(&Accepted::from(stored))),
        BidVerdict::Refused(refusal) => Err(Problem::refused_bid(&refusal, max_price).into()),
        BidVerdict::UnknownGoods => Err(goods_not_found()),
        BidVerdict::KeyReused => {
            let detail = "the key was used for a bid on other goods or at another price";
            Err(Problem::new(Code::IdempotencyKeyReused, detail).into())
        }
        // A stored verdict is never itself a replay, so this goes one level deep.
        BidVerdict::Replayed(first) => verdict_response(*first, max_price),
    }
}

/// The `Idempotency-Key` header; `None` without one.
fn idempotency_key(request: &HttpRequest) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    let key = std::str::from_utf8(value.as_bytes()).ok().and_then(IdempotencyKey::parse);
    match key {
        Some(key) if values.next().is_none() => Ok(Some(key)),
        _ => Err(Problem::invalid_value("Idempotency-Key", "one key of 1 to 64 characters")),
    }
}

/// 404 for goods that do not exist.
pub(super) fn goods_not_found() -> ApiError {
    ApiError::not_found("no such goods")
}

/// Parses the goods id of a path. 404 for anything else than an id.
pub(super) fn goods_id(path: &str) -> Result<GoodsId, ApiError> {
    GoodsId::parse(path).ok_or_else(goods_not_found)
}

#[derive(Serialize, ToSchema)]
struct History {
    results: Vec<BidListing>,
    next_after_seq: Option<i64>,
}

/// One page of the accepted bids, in the order of their `seq`.
#[utoipa::path(
    get, path = "/goods/{id}/bids", operation_id = "bids", tag = "bids", security((), ("bearer" = [])),
    params(
        ("id" = GoodsId, Path, description = "The goods"),
        ("after_seq" = Option<i64>, Query, minimum = 0, description = "Bids after this `seq`"),
        ("limit" = Option<i64>, Query, minimum = 1, description = "Rows on a page; above 200 counts as 200"),
    ),
    responses(
        (status = 200, description = "In the order of `seq`", body = History), problems::Caller, problems::InvalidValue,
        problems::NotFound,
    ),
)]
pub(super) async fn list(request: HttpRequest, goods: Path<String>, services: Data) -> Response {
    services.visitor(&request).await?;
    let after = query::number(&request, "after_seq")?.unwrap_or(0);
    let limit = query::limit(&request, query::MAX_LIMIT)?;
    let goods = goods_id(&goods)?;
    // One more than requested shows whether there is a next page.
    let mut bids = services.store.bids_after(goods, after, limit + 1).await?.ok_or_else(goods_not_found)?;
    let more = bids.len() as i64 > limit;
    bids.truncate(usize::try_from(limit).unwrap_or(0));
    let next_after_seq = bids.last().filter(|_| more).map(|bid| bid.seq);
    Ok(json::ok(&History { results: bids, next_after_seq }))
}
