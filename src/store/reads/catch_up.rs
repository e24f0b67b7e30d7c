//! What one of several nodes reads to notice what it was not told: the ends of many inboxes, where many rooms stand, what
//! happened in a room since, and what a node that is gone has left undone.

use diesel::{dsl::sql, prelude::*, sql_query, sql_types::BigInt};

use crate::{
    domain::{
        Bid, BidId, EventId, GoodsId, LineId, LineText, Phase, Price, Sender, Timestamp, TradeMessageId, TradeText,
        User, UserId,
    },
    store::{
        RoomEvent, Store, StoreError,
        engine::DbConn,
        rows::{BidRow, UserRow, phase_of},
        schema,
        writes::StoredBid,
    },
};

/// Most bids, lines or messages of one reading of news: as many may mean that there is more.
pub const MOST_NEWS: usize = 200;
const MOST: i64 = MOST_NEWS as i64;

/// How things stand with one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxEnd {
    /// Whose inbox.
    pub user: UserId,
    /// Its newest alarm, 0 if there is none.
    pub newest: i64,
    /// Whether his tokens are good.
    pub is_active: bool,
}

/// How things stand in the rooms of goods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomMark {
    /// Of which goods.
    pub goods: GoodsId,
    /// Where their auction stands.
    pub phase: Phase,
    /// Its end.
    pub ends_at: Timestamp,
    /// Accepted bids.
    pub bid_seq: i64,
    /// The newest line, 0 if there is none.
    pub line: i64,
    /// The newest trade message, 0 if there is none.
    pub message: i64,
}

/// The service's own number, where several can use the same bus.
#[derive(QueryableByName)]
struct ServiceId {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

fn newest_of(table: &str) -> diesel::expression::SqlLiteral<BigInt> {
    sql(&format!("COALESCE((SELECT max({table}.id) FROM {table} WHERE {table}.goods_id = goods.id), 0)"))
}

impl Store {
    /// Which service this is: a number drawn when its database was made. SQLite has none, for its nodes are one.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read.
    pub fn service_id(&self) -> Result<i64, StoreError> {
        let mut conn = self.pool.get().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        match &mut *conn {
            DbConn::Sqlite(_) => Ok(0),
            DbConn::Pg(conn) => Ok(sql_query("SELECT id FROM service").get_result::<ServiceId>(conn)?.id),
        }
    }

    /// The ends of these inboxes. Users who are not known are left out.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn inbox_ends(&self, users: Vec<UserId>) -> Result<Vec<InboxEnd>, StoreError> {
        self.read(move |conn| {
            use schema::users::dsl;
            let newest =
                sql::<BigInt>("COALESCE((SELECT max(inbox.alarm_id) FROM inbox WHERE inbox.user_id = users.id), 0)");
            let rows: Vec<(i64, bool, i64)> = dsl::users
                .filter(dsl::id.eq_any(users.iter().map(|user| user.get())))
                .select((dsl::id, dsl::is_active, newest))
                .load(conn)?;
            let end = |(id, is_active, newest)| InboxEnd { user: UserId::from_stored(id), newest, is_active };
            Ok(rows.into_iter().map(end).collect())
        })
        .await
    }

    /// How things stand in the rooms of these goods. Those that don't exist (any more) are left out.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn room_marks(&self, goods: Vec<GoodsId>) -> Result<Vec<RoomMark>, StoreError> {
        self.read(move |conn| marks(conn, &goods)).await
    }

    /// What happened in the rooms of goods since `from`, at most 200 bids, lines and messages, in an order in which it can
    /// be told. Nothing if there are no such goods.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn news_since(&self, from: RoomMark) -> Result<Vec<RoomEvent>, StoreError> {
        self.read(move |conn| conn.transaction(|conn| news(conn, &from))).await
    }

    /// Fan-outs that are not done, and how far they have come.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn open_fanouts(&self) -> Result<Vec<(EventId, UserId)>, StoreError> {
        self.read(|conn| {
            use schema::fanouts::dsl;
            let rows: Vec<(i64, i64)> = dsl::fanouts.select((dsl::event_id, dsl::after_user_id)).load(conn)?;
            Ok(rows.into_iter().map(|(event, user)| (EventId::from_stored(event), UserId::from_stored(user))).collect())
        })
        .await
    }
}

fn marks(conn: &mut DbConn, goods: &[GoodsId]) -> Result<Vec<RoomMark>, StoreError> {
    use schema::goods::dsl;
    let rows: Vec<(i64, i16, i64, i64, i64, i64)> = dsl::goods
        .filter(dsl::id.eq_any(goods.iter().map(|goods| goods.get())))
        .select((dsl::id, dsl::phase, dsl::ends_at, dsl::bid_seq, newest_of("room_lines"), newest_of("trade_messages")))
        .load(conn)?;
    let mark = |(id, phase, ends_at, bid_seq, line, message)| {
        let (goods, ends_at) = (GoodsId::from_stored(id), Timestamp::from_micros(ends_at));
        Ok(RoomMark { goods, phase: phase_of(phase)?, ends_at, bid_seq, line, message })
    };
    rows.into_iter().map(mark).collect()
}

fn news(conn: &mut DbConn, from: &RoomMark) -> Result<Vec<RoomEvent>, StoreError> {
    let goods = from.goods;
    let Some(now) = marks(conn, &[goods])?.pop() else { return Ok(Vec::new()) };
    let mut news = Vec::new();
    if from.phase == Phase::Scheduled && now.phase != Phase::Scheduled {
        news.push(RoomEvent::Started(goods));
    }
    if now.bid_seq > from.bid_seq {
        news.extend(bids(conn, from, now.ends_at)?);
    }
    if now.ends_at != from.ends_at && now.bid_seq > 0 {
        news.push(RoomEvent::Extended { goods, seq: now.bid_seq, ends_at: now.ends_at });
    }
    if now.line > from.line {
        news.extend(lines(conn, from)?);
    }
    if from.phase != Phase::Ended && now.phase == Phase::Ended {
        news.push(ended(conn, &now)?);
    }
    if now.message > from.message {
        news.extend(messages(conn, from)?);
    }
    Ok(news)
}

fn bids(conn: &mut DbConn, from: &RoomMark, ends_at: Timestamp) -> Result<Vec<RoomEvent>, StoreError> {
    use schema::{bids, users};
    let rows: Vec<(BidRow, UserRow)> = bids::table
        .inner_join(users::table.on(users::id.eq(bids::user_id)))
        .filter(bids::goods_id.eq(from.goods.get()).and(bids::seq.gt(from.bid_seq)))
        .order(bids::seq)
        .limit(MOST)
        .select((BidRow::as_select(), UserRow::as_select()))
        .load(conn)?;
    let told = |(row, user): (BidRow, UserRow)| {
        let price = Price::from_stored(row.price);
        let received_at = Timestamp::from_micros(row.created_at);
        let bid = Bid { goods: from.goods, user: UserId::from_stored(row.user_id), price, received_at };
        let bid = StoredBid { id: BidId::from_stored(row.id), bid, seq: row.seq, high_price: price, ends_at };
        RoomEvent::Bid { bid, bidder: User::from(user).into() }
    };
    Ok(rows.into_iter().map(told).collect())
}

fn lines(conn: &mut DbConn, from: &RoomMark) -> Result<Vec<RoomEvent>, StoreError> {
    use schema::{room_lines, users};
    let rows: Vec<(i64, String, i64, UserRow)> = room_lines::table
        .inner_join(users::table.on(users::id.eq(room_lines::author_id)))
        .filter(room_lines::goods_id.eq(from.goods.get()).and(room_lines::id.gt(from.line)))
        .order(room_lines::id)
        .limit(MOST)
        .select((room_lines::id, room_lines::content, room_lines::created_at, UserRow::as_select()))
        .load(conn)?;
    let told = |(id, text, at, author): (i64, String, i64, UserRow)| {
        Ok(RoomEvent::Line {
            goods: from.goods,
            id: LineId::from_stored(id),
            author: User::from(author).into(),
            text: LineText::parse(&text).ok_or(StoreError::Row("room_lines.content"))?,
            at: Timestamp::from_micros(at),
        })
    };
    rows.into_iter().map(told).collect()
}

fn messages(conn: &mut DbConn, from: &RoomMark) -> Result<Vec<RoomEvent>, StoreError> {
    use schema::{trade_messages, users};
    let rows: Vec<(i64, String, i64, UserRow)> = trade_messages::table
        .inner_join(users::table.on(users::id.eq(trade_messages::author_id)))
        .filter(trade_messages::goods_id.eq(from.goods.get()).and(trade_messages::id.gt(from.message)))
        .order(trade_messages::id)
        .limit(MOST)
        .select((trade_messages::id, trade_messages::content, trade_messages::created_at, UserRow::as_select()))
        .load(conn)?;
    let told = |(id, text, at, author): (i64, String, i64, UserRow)| {
        Ok(RoomEvent::TradeMessage {
            goods: from.goods,
            id: TradeMessageId::from_stored(id),
            author: User::from(author).into(),
            text: TradeText::parse(&text).ok_or(StoreError::Row("trade_messages.content"))?,
            at: Timestamp::from_micros(at),
        })
    };
    rows.into_iter().map(told).collect()
}

fn ended(conn: &mut DbConn, now: &RoomMark) -> Result<RoomEvent, StoreError> {
    use schema::{goods, users};
    let row: Option<(i64, String, Option<i64>)> = goods::table
        .inner_join(users::table.on(users::id.nullable().eq(goods::high_bidder_id)))
        .filter(goods::id.eq(now.goods.get()))
        .select((users::id, users::username, goods::high_price))
        .get_result(conn)
        .optional()?;
    let (buyer, high_price) = match row {
        Some((id, name, price)) => (Some(Sender { id: UserId::from_stored(id), name }), price.map(Price::from_stored)),
        None => (None, None),
    };
    Ok(RoomEvent::Ended { goods: now.goods, seq: now.bid_seq, buyer, high_price })
}
