//! Reads for the handshake of a room's socket: whether the goods exist, whether the user may open their trade chat, and
//! what it shows first.

use diesel::prelude::*;

use super::existence::exists;
use crate::{
    domain::{GoodsId, Phase, UserId},
    store::{Store, StoreError, rows::phase_of, schema},
};

/// What a trade chat shows at its top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradeInfo {
    /// Path of the goods' first picture; `None` if they have none.
    pub image: Option<String>,
    /// The price at which the goods were sold, in won.
    pub high_price: i64,
    /// The goods' title.
    pub title: String,
}

/// Whether a user may open the trade chat of goods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TradeAccess {
    /// The user is the seller or the buyer.
    Yours(TradeInfo),
    /// The user is neither, or there is no trade (yet).
    NotYours,
    /// There are no such goods.
    UnknownGoods,
}

impl Store {
    /// Whether `user` may open the trade chat of these goods.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn trade_access(&self, goods: GoodsId, user: UserId) -> Result<TradeAccess, StoreError> {
        self.read(move |conn| {
            use schema::{goods as g, goods_images as i, trade_rooms as t};
            let mine = t::seller_id.eq(user.get()).or(t::buyer_id.eq(user.get()));
            let found: Option<(String, Option<i64>)> = t::table
                .inner_join(g::table.on(g::id.eq(t::goods_id)))
                .filter(t::goods_id.eq(goods.get()).and(mine))
                .select((g::title, g::high_price))
                .get_result(conn)
                .optional()?;
            let Some((title, high_price)) = found else {
                return Ok(if exists(conn, goods)? { TradeAccess::NotYours } else { TradeAccess::UnknownGoods });
            };
            let image: Option<String> = i::table
                .filter(i::goods_id.eq(goods.get()))
                .order(i::position)
                .limit(1)
                .select(i::path)
                .get_result(conn)
                .optional()?;
            Ok(TradeAccess::Yours(TradeInfo { image, high_price: high_price.unwrap_or(0), title }))
        })
        .await
    }

    /// The phase of these goods' auction; `None` if there are no such goods.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn phase(&self, goods: GoodsId) -> Result<Option<Phase>, StoreError> {
        self.read(move |conn| {
            use schema::goods::dsl;
            let phase: Option<i16> =
                dsl::goods.filter(dsl::id.eq(goods.get())).select(dsl::phase).get_result(conn).optional()?;
            phase.map(phase_of).transpose()
        })
        .await
    }
}
