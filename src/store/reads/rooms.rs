//! What the handshake of a room asks: whether there are such goods, who may open their trade chat, and what he is shown
//! first.

use diesel::prelude::*;

use super::existence::exists;
use crate::{
    domain::{GoodsId, Phase, UserId},
    store::{Store, StoreError, rows::phase_of, schema},
};

/// What a trade chat begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradeInfo {
    /// The first picture.
    pub image: Option<String>,
    /// What the goods were sold for, in won.
    pub high_price: i64,
    /// Their title.
    pub title: String,
}

/// Whether somebody may open the trade chat of goods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TradeAccess {
    /// He is the seller or the buyer.
    Yours(TradeInfo),
    /// He is neither, or there is no trade (yet).
    NotYours,
    /// No such goods.
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

    /// Where the auction of these goods stands; `None` if there are none.
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
