//! Reads of the accepted bids of goods.

use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use super::goods_card::exists;
use crate::{
    domain::{GoodsId, Timestamp},
    store::{
        Store, StoreError,
        schema::{bids, users},
    },
};

/// An accepted bid as lists of bids show it.
#[derive(Debug, Clone, Queryable, Selectable, Serialize, ToSchema)]
#[diesel(table_name = bids)]
pub struct BidListing {
    #[diesel(column_name = id)]
    pub bid_id: i64,
    pub seq: i64,
    pub user_id: i64,
    /// The bidder's current name.
    #[diesel(select_expression = users::username)]
    pub username: String,
    pub price: i64,
    /// When the bid arrived at the service.
    pub created_at: Timestamp,
}

impl Store {
    /// At most `limit` bids with a seq above `after_seq`, oldest first; `None` if there are no such goods.
    pub async fn bids_after(
        &self,
        goods: GoodsId,
        after_seq: i64,
        limit: i64,
    ) -> Result<Option<Vec<BidListing>>, StoreError> {
        self.read(move |conn| {
            if !exists(conn, goods)? {
                return Ok(None);
            }
            let listed = bids::table
                .inner_join(users::table.on(users::id.eq(bids::user_id)))
                .filter(bids::goods_id.eq(goods.get()).and(bids::seq.gt(after_seq)))
                .order(bids::seq)
                .limit(limit);
            Ok(Some(listed.select(BidListing::as_select()).load(conn)?))
        })
        .await
    }
}
