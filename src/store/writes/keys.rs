//! Answers kept under idempotency keys: looked up before a bid is judged, stored with its verdict.

use diesel::{delete, insert_into, prelude::*};

use super::verdict::{BidVerdict, StoredBid};
use crate::{
    domain::{Bid, BidId, GoodsId, IdempotencyKey, Price, Refusal, Timestamp},
    store::{StoreError, Tx, schema},
};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::idempotency_keys)]
struct KeyRow {
    user_id: i64,
    key: String,
    goods_id: i64,
    price: i64,
    verdict: String,
    received_at: i64,
    bid_id: Option<i64>,
    seq: Option<i64>,
    ends_at: Option<i64>,
    high_price: Option<i64>,
    minimum: Option<i64>,
    created_at: i64,
}

const ACCEPTED: &str = "accepted";
const SELLER: &str = "seller_cannot_bid";
/// Kept by versions before this one; the same bid may be accepted now.
const NOT_STARTED: &str = "auction_not_started";
const ENDED: &str = "auction_ended";
const TOO_LOW: &str = "bid_too_low";

/// The verdict under a user's key, if he has used it in the last 24 hours: the stored one again, or that it belongs to
/// another goods or price.
pub(super) fn find(tx: &mut Tx<'_>, bid: &Bid, key: &IdempotencyKey) -> Result<Option<BidVerdict>, StoreError> {
    use schema::idempotency_keys::dsl;
    let of_key = || dsl::idempotency_keys.filter(dsl::user_id.eq(bid.user.get()).and(dsl::key.eq(key.as_str())));
    let row: Option<KeyRow> = of_key().select(KeyRow::as_select()).get_result(tx.conn).optional()?;
    let Some(row) = row else { return Ok(None) };
    let is_old = row.created_at <= tx.now().plus_ms(-IdempotencyKey::KEPT_MS).micros();
    if is_old || row.verdict == NOT_STARTED {
        delete(of_key()).execute(tx.conn)?;
        return Ok(None);
    }
    if (row.goods_id, row.price) != (bid.goods.get(), bid.price.won()) {
        return Ok(Some(BidVerdict::KeyReused));
    }
    Ok(Some(BidVerdict::Replayed(Box::new(verdict(bid, &row)?))))
}

/// Keeps a verdict of the rule under the key, if it stays what it is (`docs/protocol.md#bids` names which).
pub(super) fn keep(tx: &mut Tx<'_>, bid: &Bid, key: &IdempotencyKey, verdict: &BidVerdict) -> Result<(), StoreError> {
    let (name, stored, low) = match verdict {
        BidVerdict::Accepted(stored) => (ACCEPTED, Some(stored), None),
        BidVerdict::Refused(Refusal::SellerCannotBid) => (SELLER, None, None),
        BidVerdict::Refused(Refusal::Ended) => (ENDED, None, None),
        BidVerdict::Refused(Refusal::TooLow { high_price, minimum }) => (TOO_LOW, None, Some((high_price, minimum))),
        // "Not started" holds only for now, and no such goods is no verdict of the rule; the others are kept already.
        BidVerdict::Refused(Refusal::NotStarted)
        | BidVerdict::UnknownGoods
        | BidVerdict::Replayed(_)
        | BidVerdict::KeyReused => return Ok(()),
    };
    let row = KeyRow {
        user_id: bid.user.get(),
        key: key.as_str().to_owned(),
        goods_id: bid.goods.get(),
        price: bid.price.won(),
        verdict: name.to_owned(),
        received_at: bid.received_at.micros(),
        bid_id: stored.map(|stored| stored.id.get()),
        seq: stored.map(|stored| stored.seq),
        ends_at: stored.map(|stored| stored.ends_at.micros()),
        high_price: low.and_then(|(high, _)| high.map(Price::won)),
        minimum: low.map(|(_, minimum)| minimum.won()),
        created_at: tx.now().micros(),
    };
    insert_into(schema::idempotency_keys::table).values(row).execute(tx.conn)?;
    Ok(())
}

fn verdict(bid: &Bid, row: &KeyRow) -> Result<BidVerdict, StoreError> {
    let whole = |column: Option<i64>| column.ok_or(StoreError::Row("idempotency_keys"));
    Ok(match row.verdict.as_str() {
        ACCEPTED => BidVerdict::Accepted(StoredBid {
            id: BidId::from_stored(whole(row.bid_id)?),
            bid: Bid {
                goods: GoodsId::from_stored(row.goods_id),
                received_at: Timestamp::from_micros(row.received_at),
                ..*bid
            },
            seq: whole(row.seq)?,
            high_price: Price::from_stored(row.price),
            ends_at: Timestamp::from_micros(whole(row.ends_at)?),
        }),
        SELLER => BidVerdict::Refused(Refusal::SellerCannotBid),
        ENDED => BidVerdict::Refused(Refusal::Ended),
        TOO_LOW => BidVerdict::Refused(Refusal::TooLow {
            high_price: row.high_price.map(Price::from_stored),
            minimum: Price::from_stored(whole(row.minimum)?),
        }),
        _ => return Err(StoreError::Row("idempotency_keys.verdict")),
    })
}
