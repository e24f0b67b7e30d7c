//! Verdicts stored under idempotency keys. A key is looked up before its bid is judged, and stored in the transaction
//! that judges it.

use diesel::{delete, insert_into, prelude::*};

use super::verdict::{BidVerdict, StoredBid};
use crate::{
    domain::{Bid, BidId, BidSeq, GoodsId, IdempotencyKey, Price, Refusal, Timestamp},
    store::{StoreError, Tx, schema},
};

/// One row of `idempotency_keys`; which of the optional columns are set depends on `verdict`.
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
/// Older versions stored this verdict. It no longer holds, because the auction may have started since.
const NOT_STARTED: &str = "auction_not_started";
const ENDED: &str = "auction_ended";
const TOO_LOW: &str = "bid_too_low";

/// Looks up what a user's key stands for; `None` if they have not used it in the last 24 hours. The same bid gets
/// `Replayed`, another one `KeyReused`.
pub(super) fn find(tx: &mut Tx<'_>, bid: &Bid, key: &IdempotencyKey) -> Result<Option<BidVerdict>, StoreError> {
    use schema::idempotency_keys::dsl;
    let of_key = || dsl::idempotency_keys.filter(dsl::user_id.eq(bid.user.get()).and(dsl::key.eq(key.as_str())));
    let row: Option<KeyRow> = of_key().select(KeyRow::as_select()).get_result(tx.conn).optional()?;
    let Some(row) = row else { return Ok(None) };
    let is_old = row.created_at <= tx.now().plus_ms(-IdempotencyKey::RETENTION_MS).micros();
    if is_old || row.verdict == NOT_STARTED {
        delete(of_key()).execute(tx.conn)?;
        return Ok(None);
    }
    if (row.goods_id, row.price) != (bid.goods.get(), bid.price.won()) {
        return Ok(Some(BidVerdict::KeyReused));
    }
    Ok(Some(BidVerdict::Replayed(Box::new(verdict(bid, &row)?))))
}

/// Stores a verdict under the key if it is final (`docs/protocol.md#bids` lists which are).
pub(super) fn store(tx: &mut Tx<'_>, bid: &Bid, key: &IdempotencyKey, verdict: &BidVerdict) -> Result<(), StoreError> {
    let (name, accepted, too_low) = match verdict {
        BidVerdict::Accepted(bid) => (ACCEPTED, Some(bid), None),
        BidVerdict::Refused(Refusal::SellerCannotBid) => (SELLER, None, None),
        BidVerdict::Refused(Refusal::Ended) => (ENDED, None, None),
        BidVerdict::Refused(Refusal::TooLow { high_price, minimum }) => (TOO_LOW, None, Some((high_price, minimum))),
        // "Not started" is not final, unknown goods were never judged, and the others come from a stored row.
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
        bid_id: accepted.map(|bid| bid.id.get()),
        seq: accepted.map(|bid| bid.seq.get()),
        ends_at: accepted.map(|bid| bid.ends_at.micros()),
        high_price: too_low.and_then(|(high, _)| high.map(Price::won)),
        minimum: too_low.map(|(_, minimum)| minimum.won()),
        created_at: tx.now().micros(),
    };
    insert_into(schema::idempotency_keys::table).values(row).execute(tx.conn)?;
    Ok(())
}

/// The verdict that a row stores, for the same bid sent again.
fn verdict(bid: &Bid, row: &KeyRow) -> Result<BidVerdict, StoreError> {
    let required = |column: Option<i64>| column.ok_or(StoreError::Row("idempotency_keys"));
    Ok(match row.verdict.as_str() {
        ACCEPTED => BidVerdict::Accepted(StoredBid {
            id: BidId::from_stored(required(row.bid_id)?),
            bid: Bid {
                goods: GoodsId::from_stored(row.goods_id),
                received_at: Timestamp::from_micros(row.received_at),
                ..*bid
            },
            seq: BidSeq::from_stored(required(row.seq)?),
            high_price: Price::from_stored(row.price),
            ends_at: Timestamp::from_micros(required(row.ends_at)?),
        }),
        SELLER => BidVerdict::Refused(Refusal::SellerCannotBid),
        ENDED => BidVerdict::Refused(Refusal::Ended),
        TOO_LOW => BidVerdict::Refused(Refusal::TooLow {
            high_price: row.high_price.map(Price::from_stored),
            minimum: Price::from_stored(required(row.minimum)?),
        }),
        _ => return Err(StoreError::Row("idempotency_keys.verdict")),
    })
}
