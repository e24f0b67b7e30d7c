//! Reads of trades: a user's list of trades, and the messages of one trade. Each takes a fixed number of statements,
//! however many trades and messages there are.

use std::collections::HashMap;

use diesel::{
    dsl::{count_star, not},
    prelude::*,
};

use super::{
    goods_card::{exists, first_pictures},
    page::Page,
    users,
};
use crate::{
    domain::{GoodsId, PictureId, Timestamp, TradeMessageId, User, UserId, picture_path},
    store::{
        Store, StoreError,
        engine::DbConn,
        schema::{self, trade_messages, trade_rooms},
    },
};

/// Trades per page.
const TRADES_PAGE_SIZE: i64 = 200;
/// Messages per page.
const MESSAGES_PAGE_SIZE: i64 = 1000;

/// One trade in the list of its seller or its buyer.
#[derive(Debug, Clone)]
pub struct TradeListing {
    pub goods: GoodsId,
    pub seller: User,
    pub buyer: User,
    /// Path of the goods' first picture; `None` if they have none.
    pub image: Option<String>,
    pub title: String,
    /// The price at which the goods were sold, in won.
    pub high_price: i64,
    /// How many messages of the other side this user has not read.
    pub unread: i64,
    /// The newest message's text and when it was stored; `None` before the first one.
    pub last: Option<(String, Timestamp)>,
    pub opened_at: Timestamp,
}

/// What a trade chat shows at its top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradeInfo {
    /// Path of the goods' first picture; `None` if they have none.
    pub image: Option<String>,
    /// The price at which the goods were sold, in won.
    pub high_price: i64,
    pub title: String,
}

/// Whether a user may open the trade chat of goods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TradeAccess {
    /// The user is the seller or the buyer.
    Yours(TradeInfo),
    /// The user is neither, or there is no trade (yet).
    NotYours,
    UnknownGoods,
}

/// The messages of a trade, or why a user may not see them.
#[derive(Debug, Clone)]
pub enum TradeHistory {
    UnknownGoods,
    /// The user is neither seller nor buyer, or there is no trade (yet).
    NotYours,
    /// One page of messages, oldest first; empty past the last page.
    Messages(Vec<TradeMessage>),
}

/// A message from one side of a trade to the other.
#[derive(Debug, Clone)]
pub struct TradeMessage {
    pub id: TradeMessageId,
    /// The seller or the buyer.
    pub author: User,
    pub content: String,
    /// Whether the other side has read it.
    pub is_read: bool,
    pub created_at: Timestamp,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = trade_rooms)]
struct RoomRow {
    goods_id: GoodsId,
    seller_id: i64,
    buyer_id: i64,
    created_at: Timestamp,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = trade_messages)]
struct MessageRow {
    id: TradeMessageId,
    author_id: i64,
    content: String,
    created_at: Timestamp,
    is_read: bool,
}

/// A trade room, its goods' title and price, its newest message's text and time.
type ListedRow = (RoomRow, (String, Option<i64>), Option<(String, Timestamp)>);

impl Store {
    /// One page of a user's trades, the latest activity first; empty past the last page.
    pub async fn trades(&self, user: UserId, page: Page) -> Result<Vec<TradeListing>, StoreError> {
        self.read(move |conn| conn.transaction(|conn| trades(conn, user.get(), page))).await
    }

    /// Whether `user` may open the trade chat of these goods.
    pub async fn trade_access(&self, goods: GoodsId, user: UserId) -> Result<TradeAccess, StoreError> {
        self.read(move |conn| access(conn, goods, user.get())).await
    }

    /// One page of a trade's messages, as `user` may see them: page 1 has the newest 1000. Within a page the oldest
    /// come first.
    pub async fn trade_history(&self, goods: GoodsId, user: UserId, page: Page) -> Result<TradeHistory, StoreError> {
        self.read(move |conn| conn.transaction(|conn| history(conn, goods, user.get(), page))).await
    }
}

fn access(conn: &mut DbConn, goods: GoodsId, user: i64) -> Result<TradeAccess, StoreError> {
    use schema::goods as g;
    let mine = trade_rooms::seller_id.eq(user).or(trade_rooms::buyer_id.eq(user));
    let found: Option<(String, Option<i64>)> = trade_rooms::table
        .inner_join(g::table.on(g::id.eq(trade_rooms::goods_id)))
        .filter(trade_rooms::goods_id.eq(goods.get()).and(mine))
        .select((g::title, g::high_price))
        .get_result(conn)
        .optional()?;
    let Some((title, high_price)) = found else {
        return Ok(if exists(conn, goods)? { TradeAccess::NotYours } else { TradeAccess::UnknownGoods });
    };
    let image = first_pictures(conn, &[goods.get()])?.remove(&goods.get()).map(|picture| path(goods, &picture));
    Ok(TradeAccess::Yours(TradeInfo { image, high_price: high_price.unwrap_or(0), title }))
}

fn trades(conn: &mut DbConn, user: i64, page: Page) -> Result<Vec<TradeListing>, StoreError> {
    use schema::goods;
    let rooms: Vec<ListedRow> = trade_rooms::table
        .inner_join(goods::table.on(goods::id.eq(trade_rooms::goods_id)))
        .left_join(trade_messages::table.on(trade_rooms::last_message_id.eq(trade_messages::id.nullable())))
        .filter(trade_rooms::seller_id.eq(user).or(trade_rooms::buyer_id.eq(user)))
        .order((trade_rooms::active_at.desc(), trade_rooms::id.desc()))
        .limit(TRADES_PAGE_SIZE)
        .offset(page.offset(TRADES_PAGE_SIZE))
        .select((
            RoomRow::as_select(),
            (goods::title, goods::high_price),
            (trade_messages::content, trade_messages::created_at).nullable(),
        ))
        .load(conn)?;
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = rooms.iter().map(|(room, ..)| room.goods_id.get()).collect();
    let sides: Vec<i64> = rooms.iter().flat_map(|(room, ..)| [room.seller_id, room.buyer_id]).collect();
    let people = users::find_all(conn, &sides)?;
    let mut pictures = first_pictures(conn, &ids)?;
    let unread = unread(conn, user, &ids)?;
    let side = |id: i64, column| people.get(&id).cloned().ok_or(StoreError::Row(column));
    let listing = |(room, (title, high_price), last): ListedRow| {
        Ok(TradeListing {
            goods: room.goods_id,
            seller: side(room.seller_id, "trade_rooms.seller_id")?,
            buyer: side(room.buyer_id, "trade_rooms.buyer_id")?,
            image: pictures.remove(&room.goods_id.get()).map(|picture| path(room.goods_id, &picture)),
            title,
            high_price: high_price.unwrap_or(0),
            unread: unread.get(&room.goods_id.get()).copied().unwrap_or(0),
            last,
            opened_at: room.created_at,
        })
    };
    rooms.into_iter().map(listing).collect()
}

/// How many messages of the other side `user` has not read, by goods; only for trades that have any.
fn unread(conn: &mut DbConn, user: i64, goods: &[i64]) -> Result<HashMap<i64, i64>, StoreError> {
    let counts: Vec<(i64, i64)> = trade_messages::table
        .filter(trade_messages::goods_id.eq_any(goods.iter().copied()))
        // `NOT` rather than `= FALSE`, so that the engine finds the partial index.
        .filter(trade_messages::author_id.ne(user).and(not(trade_messages::is_read)))
        .group_by(trade_messages::goods_id)
        .select((trade_messages::goods_id, count_star()))
        .load(conn)?;
    Ok(counts.into_iter().collect())
}

fn history(conn: &mut DbConn, goods: GoodsId, user: i64, page: Page) -> Result<TradeHistory, StoreError> {
    let room: Option<RoomRow> = trade_rooms::table
        .filter(trade_rooms::goods_id.eq(goods.get()))
        .select(RoomRow::as_select())
        .get_result(conn)
        .optional()?;
    let Some(room) = room else {
        return Ok(if exists(conn, goods)? { TradeHistory::NotYours } else { TradeHistory::UnknownGoods });
    };
    if ![room.seller_id, room.buyer_id].contains(&user) {
        return Ok(TradeHistory::NotYours);
    }
    let mut rows: Vec<MessageRow> = trade_messages::table
        .filter(trade_messages::goods_id.eq(goods.get()))
        .order(trade_messages::id.desc())
        .limit(MESSAGES_PAGE_SIZE)
        .offset(page.offset(MESSAGES_PAGE_SIZE))
        .select(MessageRow::as_select())
        .load(conn)?;
    rows.reverse();
    let people = users::find_all(conn, &[room.seller_id, room.buyer_id])?;
    let message = |row: MessageRow| {
        Ok(TradeMessage {
            id: row.id,
            author: people.get(&row.author_id).cloned().ok_or(StoreError::Row("trade_messages.author_id"))?,
            content: row.content,
            is_read: row.is_read,
            created_at: row.created_at,
        })
    };
    Ok(TradeHistory::Messages(rows.into_iter().map(message).collect::<Result<_, StoreError>>()?))
}

/// The path by which clients get the first picture of goods.
fn path(goods: GoodsId, picture: &str) -> String {
    picture_path(picture, PictureId::Goods(goods, 0)).into_owned()
}
