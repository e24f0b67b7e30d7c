//! Reads of the accepted bids of goods.

use diesel::prelude::*;

use super::existence::exists;
use crate::{
    domain::{GoodsId, Timestamp},
    store::{Store, StoreError, rows::BidRow, schema},
};

/// An accepted bid as lists of bids show it.
#[derive(Debug, Clone)]
pub struct BidListing {
    /// The bid's id.
    pub bid_id: i64,
    /// Its number among the accepted bids of the goods, from 1 without gaps.
    pub seq: i64,
    /// The bidder's id.
    pub user_id: i64,
    /// The bidder's current name.
    pub username: String,
    /// The price, in won.
    pub price: i64,
    /// When the bid arrived at the service.
    pub created_at: Timestamp,
}

impl BidListing {
    pub(super) fn new((row, username): (BidRow, String)) -> Self {
        Self {
            bid_id: row.id,
            seq: row.seq,
            user_id: row.user_id,
            username,
            price: row.price,
            created_at: Timestamp::from_micros(row.created_at),
        }
    }
}

impl Store {
    /// At most `limit` bids with a seq above `after_seq`, oldest first; `None` if there are no such goods.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn bids_after(
        &self,
        goods: GoodsId,
        after_seq: i64,
        limit: i64,
    ) -> Result<Option<Vec<BidListing>>, StoreError> {
        self.read(move |conn| {
            use schema::{bids, users};
            if !exists(conn, goods)? {
                return Ok(None);
            }
            let rows: Vec<(BidRow, String)> = bids::table
                .inner_join(users::table.on(users::id.eq(bids::user_id)))
                .filter(bids::goods_id.eq(goods.get()).and(bids::seq.gt(after_seq)))
                .order(bids::seq)
                .limit(limit)
                .select((BidRow::as_select(), users::username))
                .load(conn)?;
            Ok(Some(rows.into_iter().map(BidListing::new).collect()))
        })
        .await
    }
}
