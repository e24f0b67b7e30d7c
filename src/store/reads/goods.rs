//! Reads of one goods item: its phase, and everything that its page shows. Lists of goods are in `goods_lists`.

use std::collections::HashMap;

use diesel::prelude::*;

use super::{
    bids::BidListing,
    goods_card::{GoodsCard, GoodsFacts, GoodsRow, cards},
};
use crate::{
    domain::{GoodsId, NewGoods, Phase, PictureId, Timestamp, User, UserId, is_url},
    store::{
        Store, StoreError,
        engine::DbConn,
        schema::{self, goods},
    },
};

/// Most bids that a goods page lists.
const BIDS_LIMIT: i64 = 200;

/// A goods item with everything that its page shows.
#[derive(Debug, Clone)]
pub struct GoodsDetail {
    /// What lists show too; here with all pictures.
    pub card: GoodsCard,
    /// The highest 200 bids, highest first.
    pub bids: Vec<BidListing>,
}

impl GoodsDetail {
    /// A goods item right after its creation.
    pub fn fresh(id: GoodsId, seller: User, goods: NewGoods, created_at: Timestamp) -> Self {
        let facts = GoodsFacts {
            id,
            title: goods.title,
            content: goods.content,
            category: goods.category,
            phase: Phase::Scheduled,
            predict_price: goods.predict_price.won(),
            start_price: goods.start_price.won(),
            min_increment: goods.min_increment.won(),
            high_price: None,
            starts_at: goods.starts_at,
            ends_at: goods.ends_at,
            created_at,
            trade_room: None,
            bid_seq: 0,
            external_id: None,
            like_count: 0,
        };
        let images = goods.images;
        let card = GoodsCard { facts, seller, buyer: None, is_like: false, images, likes: Vec::new() };
        Self { card, bids: Vec::new() }
    }
}

impl Store {
    /// The goods item as `viewer` sees it (`None`: a visitor); `None` if there are no such goods.
    pub async fn goods_detail(
        &self,
        goods: GoodsId,
        viewer: Option<UserId>,
    ) -> Result<Option<GoodsDetail>, StoreError> {
        // One transaction, so that all parts show the same moment.
        self.read(move |conn| conn.transaction(|conn| detail(conn, goods.get(), viewer))).await
    }

    /// The URL of a picture that is elsewhere; `None` if there is no such picture or it has none.
    pub(crate) async fn picture_url(&self, picture: PictureId) -> Result<Option<String>, StoreError> {
        self.read(move |conn| {
            use schema::{goods_images, users};
            let found: Option<String> = match picture {
                PictureId::Goods(goods, position) => {
                    let position = i32::try_from(position).unwrap_or(i32::MAX);
                    let images = goods_images::table.find((goods.get(), position));
                    images.select(goods_images::path).get_result(conn).optional()?
                }
                PictureId::User(user) => {
                    users::table.find(user.get()).select(users::profile_image).get_result(conn).optional()?
                }
            };
            Ok(found.filter(|picture| is_url(picture)))
        })
        .await
    }

    /// The phase of these goods' auction; `None` if there are no such goods.
    pub async fn phase(&self, goods: GoodsId) -> Result<Option<Phase>, StoreError> {
        self.read(move |conn| {
            use schema::goods::dsl;
            Ok(dsl::goods.filter(dsl::id.eq(goods.get())).select(dsl::phase).get_result(conn).optional()?)
        })
        .await
    }
}

fn detail(conn: &mut DbConn, id: i64, viewer: Option<UserId>) -> Result<Option<GoodsDetail>, StoreError> {
    use schema::{bids, goods_images, users};
    let row = goods::table.filter(goods::id.eq(id)).select(GoodsRow::as_select()).get_result(conn).optional()?;
    let Some(row) = row else { return Ok(None) };
    let images = goods_images::table.filter(goods_images::goods_id.eq(id)).order(goods_images::position);
    let images = HashMap::from([(id, images.select(goods_images::path).load(conn)?)]);
    let bids = bids::table
        .inner_join(users::table.on(users::id.eq(bids::user_id)))
        .filter(bids::goods_id.eq(id))
        .order(bids::seq.desc())
        .limit(BIDS_LIMIT);
    let bids = bids.select(BidListing::as_select()).load(conn)?;
    Ok(cards(conn, vec![row], images, viewer)?.pop().map(|card| GoodsDetail { card, bids }))
}
