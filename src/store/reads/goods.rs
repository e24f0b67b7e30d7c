//! The read of one goods item with everything that its page shows. Lists of goods are in `goods_lists`.

use std::collections::HashMap;

use diesel::prelude::*;

use super::{bids::BidListing, likes::Likes, users};
use crate::{
    domain::{GoodsId, NewGoods, Phase, Timestamp, User, UserId},
    store::{
        Store, StoreError,
        engine::DbConn,
        rows::{BidRow, phase_of},
        schema,
    },
};

/// Most bids that a goods page lists.
const BIDS_LIMIT: i64 = 200;

/// The data of a goods item that its own row holds.
#[derive(Debug, Clone)]
pub struct GoodsFacts {
    /// The goods' id.
    pub id: GoodsId,
    /// The title that the seller gave.
    pub title: String,
    /// The description that the seller gave.
    pub content: String,
    /// The category that the seller gave.
    pub category: String,
    /// The auction's phase.
    pub phase: Phase,
    /// The price that the seller expects, in won.
    pub predict_price: i64,
    /// The minimum of the first bid, in won.
    pub start_price: i64,
    /// How much a bid must be above the high price at least, in won.
    pub min_increment: i64,
    /// The highest accepted price in won, 0 before the first bid.
    pub high_price: i64,
    /// When the auction starts: earlier bids are refused.
    pub starts_at: Timestamp,
    /// When the auction ends: later bids are refused.
    pub ends_at: Timestamp,
    /// When the goods were created.
    pub created_at: Timestamp,
    /// Id of the trade room of seller and buyer; `None` unless the goods are sold.
    pub trade_room: Option<i64>,
    /// Number of accepted bids, which is the seq of the newest one.
    pub bid_seq: i64,
    /// How many users like the goods.
    pub like_count: i64,
}

/// A goods item with everything that its page shows.
#[derive(Debug, Clone)]
pub struct GoodsDetail {
    /// The data of the goods' own row.
    pub facts: GoodsFacts,
    /// The seller of the goods.
    pub seller: User,
    /// The leader while the auction is live, the buyer afterwards; `None` if nobody has bid.
    pub buyer: Option<User>,
    /// Whether the viewer likes the goods.
    pub is_like: bool,
    /// Paths of pictures, in the seller's order.
    pub images: Vec<String>,
    /// At most 200 users who like the goods, by id; the viewer is always among them if they like the goods.
    pub likes: Vec<i64>,
    /// The highest 200 bids, highest first.
    pub bids: Vec<BidListing>,
}

impl GoodsDetail {
    /// A goods item right after its creation.
    pub fn fresh(id: GoodsId, seller: User, goods: NewGoods, created_at: Timestamp) -> Self {
        Self {
            facts: GoodsFacts {
                id,
                title: goods.title,
                content: goods.content,
                category: goods.category,
                phase: Phase::Scheduled,
                predict_price: goods.predict_price.won(),
                start_price: goods.start_price.won(),
                min_increment: goods.min_increment.won(),
                high_price: 0,
                starts_at: goods.starts_at,
                ends_at: goods.ends_at,
                created_at,
                trade_room: None,
                bid_seq: 0,
                like_count: 0,
            },
            seller,
            buyer: None,
            is_like: false,
            images: goods.images,
            likes: Vec::new(),
            bids: Vec::new(),
        }
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = schema::goods)]
pub(super) struct GoodsRow {
    pub id: i64,
    pub seller_id: i64,
    title: String,
    content: String,
    category: String,
    start_price: i64,
    predict_price: i64,
    min_increment: i64,
    starts_at: i64,
    ends_at: i64,
    created_at: i64,
    phase: i16,
    high_price: Option<i64>,
    pub high_bidder_id: Option<i64>,
    bid_seq: i64,
    trade_room_id: Option<i64>,
    like_count: i64,
}

impl TryFrom<GoodsRow> for GoodsFacts {
    type Error = StoreError;

    fn try_from(row: GoodsRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: GoodsId::from_stored(row.id),
            title: row.title,
            content: row.content,
            category: row.category,
            phase: phase_of(row.phase)?,
            predict_price: row.predict_price,
            start_price: row.start_price,
            min_increment: row.min_increment,
            high_price: row.high_price.unwrap_or(0),
            starts_at: Timestamp::from_micros(row.starts_at),
            ends_at: Timestamp::from_micros(row.ends_at),
            created_at: Timestamp::from_micros(row.created_at),
            trade_room: row.trade_room_id,
            bid_seq: row.bid_seq,
            like_count: row.like_count,
        })
    }
}

impl Store {
    /// The goods item as `viewer` sees it (`None`: a visitor); `None` if there are no such goods.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn goods_detail(
        &self,
        goods: GoodsId,
        viewer: Option<UserId>,
    ) -> Result<Option<GoodsDetail>, StoreError> {
        // One transaction, so that all parts show the same moment.
        self.read(move |conn| conn.transaction(|conn| detail(conn, goods.get(), viewer.map(UserId::get)))).await
    }
}

fn detail(conn: &mut DbConn, goods: i64, viewer: Option<i64>) -> Result<Option<GoodsDetail>, StoreError> {
    let row: Option<GoodsRow> = schema::goods::table
        .filter(schema::goods::id.eq(goods))
        .select(GoodsRow::as_select())
        .get_result(conn)
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let mut people = users::find_all(conn, &people_of(std::slice::from_ref(&row)))?;
    let buyer = row.high_bidder_id.map(|id| people.remove(&id).ok_or(StoreError::Row("goods.high_bidder_id")));
    let seller = people.remove(&row.seller_id).ok_or(StoreError::Row("goods.seller_id"))?;
    let images: Vec<String> = {
        use schema::goods_images::dsl;
        dsl::goods_images.filter(dsl::goods_id.eq(goods)).order(dsl::position).select(dsl::path).load(conn)?
    };
    let (likes, is_like) = Likes::read(conn, &[goods], viewer)?.take(goods);
    let bids: Vec<(BidRow, String)> = {
        use schema::{bids, users};
        bids::table
            .inner_join(users::table.on(users::id.eq(bids::user_id)))
            .filter(bids::goods_id.eq(goods))
            .order(bids::seq.desc())
            .limit(BIDS_LIMIT)
            .select((BidRow::as_select(), users::username))
            .load(conn)?
    };
    Ok(Some(GoodsDetail {
        facts: row.try_into()?,
        seller,
        buyer: buyer.transpose()?,
        is_like,
        images,
        likes,
        bids: bids.into_iter().map(BidListing::new).collect(),
    }))
}

/// Ids of the sellers and high bidders of these goods.
pub(super) fn people_of(rows: &[GoodsRow]) -> Vec<i64> {
    rows.iter().flat_map(|row| [Some(row.seller_id), row.high_bidder_id]).flatten().collect()
}

/// Path of the first picture, by goods; only for goods that have one.
pub(super) fn first_pictures(conn: &mut DbConn, goods: &[i64]) -> Result<HashMap<i64, String>, StoreError> {
    use schema::goods_images::dsl;
    // Position 0 always exists if there is any picture: all pictures are written with their goods and never change.
    let first = dsl::goods_id.eq_any(goods.iter().copied()).and(dsl::position.eq(0));
    let found: Vec<(i64, String)> = dsl::goods_images.filter(first).select((dsl::goods_id, dsl::path)).load(conn)?;
    Ok(found.into_iter().collect())
}
