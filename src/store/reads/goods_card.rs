//! What lists and pages of goods have in common: the goods' own data, and what is read for many goods at once.

use std::collections::HashMap;

use diesel::prelude::*;

use super::{likes::Likes, users};
use crate::{
    domain::{GoodsId, Phase, Timestamp, User, UserId},
    store::{
        StoreError,
        engine::DbConn,
        schema::{self, goods},
    },
};

/// The data of a goods item that its own row holds. Prices are in won.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = goods)]
pub struct GoodsFacts {
    pub id: GoodsId,
    pub title: String,
    pub content: String,
    pub category: String,
    pub phase: Phase,
    /// The price that the seller expects.
    pub predict_price: i64,
    pub start_price: i64,
    pub min_increment: i64,
    /// `None` before the first bid.
    pub high_price: Option<i64>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub created_at: Timestamp,
    /// Id of the trade room of seller and buyer; `None` unless the goods are sold.
    #[diesel(column_name = trade_room_id)]
    pub trade_room: Option<i64>,
    /// Number of accepted bids, which is the seq of the newest one.
    pub bid_seq: i64,
    /// The id that the marketplace's backend has for them.
    pub external_id: Option<String>,
    pub like_count: i64,
}

/// A goods item as lists show it.
#[derive(Debug, Clone)]
pub struct GoodsCard {
    pub facts: GoodsFacts,
    pub seller: User,
    /// The leader while the auction is live, the buyer afterwards; `None` if nobody has bid.
    pub buyer: Option<User>,
    /// Whether the viewer likes the goods.
    pub is_like: bool,
    /// Paths of pictures, in the seller's order; in lists only the first.
    pub images: Vec<String>,
    /// At most 200 users who like the goods, by id; the viewer is always among them if they like the goods.
    pub likes: Vec<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = goods)]
pub(super) struct GoodsRow {
    #[diesel(embed)]
    pub facts: GoodsFacts,
    pub seller_id: i64,
    pub high_bidder_id: Option<i64>,
}

/// Whether there are such goods, to tell "no such goods" from "nothing found" or "not yours".
pub(super) fn exists(conn: &mut DbConn, id: GoodsId) -> Result<bool, StoreError> {
    let found: i64 = goods::table.filter(goods::id.eq(id.get())).count().get_result(conn)?;
    Ok(found > 0)
}

/// Path of the first picture, by goods; only for goods that have one.
pub(super) fn first_pictures(conn: &mut DbConn, goods: &[i64]) -> Result<HashMap<i64, String>, StoreError> {
    use schema::goods_images::dsl;
    // Position 0 always exists if there is any picture: all pictures of goods are written together.
    let first = dsl::goods_id.eq_any(goods.iter().copied()).and(dsl::position.eq(0));
    let found: Vec<(i64, String)> = dsl::goods_images.filter(first).select((dsl::goods_id, dsl::path)).load(conn)?;
    Ok(found.into_iter().collect())
}

/// Makes cards of goods rows: reads users and likes, for all goods at once. `pictures` are paths by goods.
pub(super) fn cards(
    conn: &mut DbConn,
    rows: Vec<GoodsRow>,
    mut pictures: HashMap<i64, Vec<String>>,
    viewer: Option<UserId>,
) -> Result<Vec<GoodsCard>, StoreError> {
    let ids: Vec<i64> = rows.iter().map(|row| row.facts.id.get()).collect();
    let people: Vec<i64> = rows.iter().flat_map(|row| [Some(row.seller_id), row.high_bidder_id]).flatten().collect();
    let people = users::find_all(conn, &people)?;
    let mut likes = Likes::read(conn, &ids, viewer.map(UserId::get))?;
    let person = |id: i64, column| people.get(&id).cloned().ok_or(StoreError::Row(column));
    let card = |row: GoodsRow| {
        let id = row.facts.id.get();
        let (likers, is_like) = likes.take(id);
        Ok(GoodsCard {
            seller: person(row.seller_id, "goods.seller_id")?,
            buyer: row.high_bidder_id.map(|id| person(id, "goods.high_bidder_id")).transpose()?,
            is_like,
            images: pictures.remove(&id).unwrap_or_default(),
            likes: likers,
            facts: row.facts,
        })
    };
    rows.into_iter().map(card).collect()
}
