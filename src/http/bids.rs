//! `POST /goods/{id}/bids` places a bid, `GET /goods/{id}/bids` lists the accepted ones.

use std::time::Instant;

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::header::{HeaderName, HeaderValue},
    web,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApiError, Services, body, json, query};
use crate::{
    actors::{ArrivingBid, BidAnswer},
    domain::{BidSeq, GoodsId, IdempotencyKey, Price, Timestamp, UserId},
    protocol::{Code, Outcome, Problem},
    store::{
        BidListing, WriteError,
        writes::{BidVerdict, StoredBid},
    },
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

#[derive(Deserialize)]
struct BidBody {
    price: Value,
}

#[derive(Serialize)]
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
    fn from(stored: StoredBid) -> Self {
        Self {
            bid_id: stored.id.get(),
            goods_id: stored.bid.goods,
            user_id: stored.bid.user,
            price: stored.bid.price,
            high_price: stored.high_price,
            seq: stored.seq,
            created_at: stored.bid.received_at,
            ends_at: stored.ends_at,
        }
    }
}

/// Places a bid. The response to an accepted bid is sent only after it is on disk.
pub(super) async fn place(
    request: HttpRequest,
    goods: web::Path<String>,
    payload: web::Payload,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let started = Instant::now();
    let bidder = services.bidder(&request).await.map_err(bid_error)?;
    // The time that the bidder's row took is taken off the time limit of their bid.
    let spent = started.elapsed();
    let key = idempotency_key(&request)?;
    let body = body::read(&request, payload, services.config.body_bytes).await?;
    let body: BidBody = body::object(&body)?;
    let max_price = services.config.max_price;
    let price = body::price("price", &body.price, max_price)?;
    let goods = goods_id(&goods)?;
    // The whole bid has been received: `arrive` takes this moment as its arrival.
    let bid = ArrivingBid { goods, bidder: bidder.user, price, key, spent };
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

fn verdict_response(verdict: BidVerdict, max_price: Price) -> Result<HttpResponse, ApiError> {
    match verdict {
        BidVerdict::Accepted(stored) => Ok(json::created(&Accepted::from(stored))),
        BidVerdict::Refused(refusal) => Err(Problem::refused_bid(&refusal, max_price).into()),
        BidVerdict::UnknownGoods => Err(goods_not_found()),
        BidVerdict::KeyReused => Err(Problem::new(
            Code::IdempotencyKeyReused,
            "the key was used for a bid on other goods or at another price",
        )
        .into()),
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

#[derive(Serialize)]
struct History {
    results: Vec<HistoryRow>,
    next_after_seq: Option<i64>,
}

#[derive(Serialize)]
struct HistoryRow {
    bid_id: i64,
    seq: i64,
    user_id: i64,
    username: String,
    price: i64,
    created_at: Timestamp,
}

impl From<BidListing> for HistoryRow {
    fn from(bid: BidListing) -> Self {
        Self {
            bid_id: bid.bid_id,
            seq: bid.seq,
            user_id: bid.user_id,
            username: bid.username,
            price: bid.price,
            created_at: bid.created_at,
        }
    }
}

/// One page of the accepted bids, in the order of their `seq`.
pub(super) async fn list(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    services.visitor(&request).await?;
    let after = query::number(&request, "after_seq")?.unwrap_or(0);
    let limit = query::limit(&request, query::MAX_LIMIT)?;
    let goods = goods_id(&goods)?;
    // One more than requested shows whether there is a next page.
    let mut bids = services.store.bids_after(goods, after, limit + 1).await?.ok_or_else(goods_not_found)?;
    let more = bids.len() as i64 > limit;
    bids.truncate(usize::try_from(limit).unwrap_or(0));
    let next_after_seq = bids.last().filter(|_| more).map(|bid| bid.seq);
    Ok(json::ok(&History { results: bids.into_iter().map(HistoryRow::from).collect(), next_after_seq }))
}
