//! Reading goods.

use diesel::prelude::*;

use super::{bids::BidListing, users};
use crate::{
    domain::{GoodsId, NewGoods, Phase, Timestamp, User, UserId},
    store::{
        Store, StoreError,
        conn::DbConn,
        rows::{BidRow, phase_of},
        schema,
    },
};

/// Most likes and bids that a goods page lists.
const LISTED: i64 = 200;

/// Goods with everything that their page shows.
#[derive(Debug, Clone)]
pub struct GoodsDetail {
    /// The goods' id.
    pub id: i64,
    /// Who sells.
    pub seller: User,
    /// The leader while live, the buyer afterwards.
    pub buyer: Option<User>,
    /// Whether the viewer likes them.
    pub is_like: bool,
    /// Paths of pictures, in the seller's order.
    pub images: Vec<String>,
    /// The seller's text.
    pub title: String,
    /// The seller's text.
    pub content: String,
    /// The seller's text.
    pub category: String,
    /// Where the auction stands.
    pub phase: Phase,
    /// What the seller expects, in won.
    pub predict_price: i64,
    /// The least first bid, in won.
    pub start_price: i64,
    /// The least step, in won.
    pub min_increment: i64,
    /// The highest accepted price in won, 0 before the first bid.
    pub high_price: i64,
    /// When bids begin to count.
    pub starts_at: Timestamp,
    /// When they cease to.
    pub ends_at: Timestamp,
    /// When the goods were made.
    pub created_at: Timestamp,
    /// Where seller and buyer meet, once sold.
    pub trade_room: Option<i64>,
    /// Number of accepted bids.
    pub bid_seq: i64,
    /// At most 200 users who like them, the viewer among them if he does.
    pub likes: Vec<i64>,
    /// How many like them.
    pub like_count: i64,
    /// The highest 200 bids, highest first.
    pub bids: Vec<BidListing>,
}

impl GoodsDetail {
    /// Goods as they are right after they were made.
    pub fn fresh(id: GoodsId, seller: User, goods: NewGoods, created_at: Timestamp) -> Self {
        Self {
            id: id.get(),
            seller,
            buyer: None,
            is_like: false,
            images: goods.images,
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
            likes: Vec::new(),
            like_count: 0,
            bids: Vec::new(),
        }
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = schema::goods)]
struct GoodsRow {
    id: i64,
    seller_id: i64,
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
    high_bidder_id: Option<i64>,
    bid_seq: i64,
    trade_room_id: Option<i64>,
}

pub(super) fn exists(conn: &mut DbConn, goods: GoodsId) -> Result<bool, StoreError> {
    use schema::goods::dsl;
    let found: i64 = dsl::goods.filter(dsl::id.eq(goods.get())).count().get_result(conn)?;
    Ok(found > 0)
}

impl Store {
    /// The goods as `viewer` sees them; `None` if there are none of that id.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn goods_detail(
        &self,
        goods: GoodsId,
        viewer: Option<UserId>,
    ) -> Result<Option<GoodsDetail>, StoreError> {
        // One transaction: all parts are of the same moment.
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
    let seller = users::find(conn, row.seller_id)?.ok_or(StoreError::Row("goods.seller_id"))?;
    let buyer = match row.high_bidder_id {
        Some(id) => Some(users::find(conn, id)?.ok_or(StoreError::Row("goods.high_bidder_id"))?),
        None => None,
    };
    let images: Vec<String> = {
        use schema::goods_images::dsl;
        dsl::goods_images.filter(dsl::goods_id.eq(goods)).order(dsl::position).select(dsl::path).load(conn)?
    };
    let (likes, like_count, is_like) = likes(conn, goods, viewer)?;
    let bids: Vec<(BidRow, String)> = {
        use schema::{bids, users};
        bids::table
            .inner_join(users::table.on(users::id.eq(bids::user_id)))
            .filter(bids::goods_id.eq(goods))
            .order(bids::seq.desc())
            .limit(LISTED)
            .select((BidRow::as_select(), users::username))
            .load(conn)?
    };
    Ok(Some(GoodsDetail {
        id: row.id,
        seller,
        buyer,
        is_like,
        images,
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
        likes,
        like_count,
        bids: bids.into_iter().map(BidListing::new).collect(),
    }))
}

/// Some users who like the goods, how many do, and whether the viewer does.
fn likes(conn: &mut DbConn, goods: i64, viewer: Option<i64>) -> Result<(Vec<i64>, i64, bool), StoreError> {
    use schema::likes::dsl;
    let standing = || dsl::likes.filter(dsl::goods_id.eq(goods).and(dsl::removed.eq(false)));
    let mut users: Vec<i64> = standing().order(dsl::user_id).limit(LISTED).select(dsl::user_id).load(conn)?;
    let count: i64 =
        if (users.len() as i64) < LISTED { users.len() as i64 } else { standing().count().get_result(conn)? };
    let Some(viewer) = viewer else { return Ok((users, count, false)) };
    let liked = users.contains(&viewer) || {
        let found: i64 = standing().filter(dsl::user_id.eq(viewer)).count().get_result(conn)?;
        found > 0
    };
    if liked && !users.contains(&viewer) {
        users.pop();
        users.push(viewer);
    }
    Ok((users, count, liked))
}
