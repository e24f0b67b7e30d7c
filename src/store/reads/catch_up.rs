//! Reads with which a node of a cluster finds what it missed on the bus: the newest alarm of many users, the state of
//! many rooms, the events of a room since a cursor, and fan-outs that are not finished.

use std::collections::HashSet;

use diesel::{dsl::sql, prelude::*, sql_query, sql_types::BigInt};

use crate::{
    domain::{
        AlarmCursor, Bid, BidId, BidSeq, EventId, GoodsId, LineId, LineText, Locale, Phase, Price, Sender, Timestamp,
        TradeMessageId, TradeText, User, UserId,
    },
    store::{
        RoomEvent, Store, StoreError,
        engine::DbConn,
        rows::{BidRow, UserRow},
        schema,
        writes::StoredBid,
    },
};

/// Most bids, lines and trade messages, of each, that [`Store::events_since`] returns. If it returns as many events or
/// more, there may be more to read.
pub(crate) const ROOM_EVENTS_LIMIT: usize = 200;
const ROWS_LIMIT: i64 = ROOM_EVENTS_LIMIT as i64;

/// The end of a user's inbox, and whether their tokens are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable)]
pub struct InboxEnd {
    pub user: UserId,
    /// The position after the newest alarm.
    pub end: AlarmCursor,
    /// False if the user is deactivated: their tokens are no longer valid.
    pub is_active: bool,
    /// The language that the user has chosen.
    pub locale: Option<Locale>,
}

/// How far the events of a goods item's rooms (auction room and trade room) go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomCursor {
    pub goods: GoodsId,
    pub phase: Phase,
    pub ends_at: Timestamp,
    pub bid_seq: BidSeq,
    /// Id of the newest line or removal of one, 0 if there is none.
    pub line: i64,
    /// Id of the newest trade message, 0 if there is none.
    pub message: i64,
}

#[derive(QueryableByName)]
struct ServiceIdRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// The newest id of a table with a column `goods_id`, for each row of `goods`; 0 if there is none.
fn newest_id_in(table: &str) -> diesel::expression::SqlLiteral<BigInt> {
    sql(&format!("COALESCE((SELECT max({table}.id) FROM {table} WHERE {table}.goods_id = goods.id), 0)"))
}

impl Store {
    /// A random number that identifies the service among others on the same bus, drawn when its database was created. 0
    /// on SQLite, which is for a single node.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read.
    pub fn service_id(&self) -> Result<i64, StoreError> {
        let mut conn = self.pool.get().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        match &mut *conn {
            DbConn::Sqlite(_) => Ok(0),
            DbConn::Pg(conn) => Ok(sql_query("SELECT id FROM service").get_result::<ServiceIdRow>(conn)?.id),
        }
    }

    /// The ends of these users' inboxes, in any order. Unknown users are left out.
    pub async fn inbox_ends(&self, users: Vec<UserId>) -> Result<Vec<InboxEnd>, StoreError> {
        self.read(move |conn| {
            use schema::users::dsl;
            let newest =
                sql::<BigInt>("COALESCE((SELECT max(inbox.alarm_id) FROM inbox WHERE inbox.user_id = users.id), 0)");
            let users = dsl::users.filter(dsl::id.eq_any(users.iter().map(|user| user.get())));
            Ok(users.select((dsl::id, newest, dsl::is_active, dsl::locale)).load(conn)?)
        })
        .await
    }

    /// The current cursors of the rooms of these goods, in any order. Unknown goods are left out.
    pub async fn room_cursors(&self, goods: Vec<GoodsId>) -> Result<Vec<RoomCursor>, StoreError> {
        self.read(move |conn| cursors(conn, &goods)).await
    }

    /// The events of goods' rooms after `from`, in an order in which they can be broadcast: at most
    /// [`ROOM_EVENTS_LIMIT`] bids, as many lines and as many trade messages. Empty if there are no such goods.
    pub async fn events_since(&self, from: RoomCursor) -> Result<Vec<RoomEvent>, StoreError> {
        self.read(move |conn| conn.transaction(|conn| events(conn, &from))).await
    }

    /// Unfinished fan-outs, each with the last user who has received its alarm. Leaves out those that wait for an older
    /// one of the same collapse key.
    pub async fn open_fanouts(&self) -> Result<Vec<(EventId, UserId)>, StoreError> {
        self.read(|conn| {
            use schema::fanouts::dsl;
            let open = dsl::fanouts.select((dsl::event_id, dsl::after_user_id, dsl::collapse_key)).order(dsl::event_id);
            let open: Vec<(EventId, UserId, Option<String>)> = open.load(conn)?;
            let mut keys = HashSet::new();
            let goes_on = |(event, user, key): (_, _, Option<String>)| {
                key.is_none_or(|key| keys.insert(key)).then_some((event, user))
            };
            Ok(open.into_iter().filter_map(goes_on).collect())
        })
        .await
    }
}

fn cursors(conn: &mut DbConn, goods: &[GoodsId]) -> Result<Vec<RoomCursor>, StoreError> {
    use schema::goods::dsl;
    type Row = (GoodsId, Phase, Timestamp, BidSeq, (i64, i64), i64);
    let lines = (newest_id_in("room_lines"), newest_id_in("line_removals"));
    let rows: Vec<Row> = dsl::goods
        .filter(dsl::id.eq_any(goods.iter().map(|goods| goods.get())))
        .select((dsl::id, dsl::phase, dsl::ends_at, dsl::bid_seq, lines, newest_id_in("trade_messages")))
        .load(conn)?;
    let cursor = |(goods, phase, ends_at, bid_seq, (line, removal), message): Row| {
        let line = line.max(removal);
        RoomCursor { goods, phase, ends_at, bid_seq, line, message }
    };
    Ok(rows.into_iter().map(cursor).collect())
}

fn events(conn: &mut DbConn, from: &RoomCursor) -> Result<Vec<RoomEvent>, StoreError> {
    let goods = from.goods;
    let Some(now) = cursors(conn, &[goods])?.pop() else { return Ok(Vec::new()) };
    let mut events = Vec::new();
    let is_cancelled = now.phase == Phase::Ended && is_cancelled(conn, goods)?;
    // Cancelled goods without a bid may never have started.
    let has_started = now.phase != Phase::Scheduled && (!is_cancelled || now.bid_seq > BidSeq::NONE);
    if from.phase == Phase::Scheduled && has_started {
        events.push(RoomEvent::Started(goods));
    }
    if now.bid_seq > from.bid_seq {
        events.extend(bids(conn, from, now.ends_at)?);
    }
    if now.ends_at != from.ends_at && now.bid_seq > BidSeq::NONE && !is_cancelled {
        events.push(RoomEvent::Extended { goods, seq: now.bid_seq, ends_at: now.ends_at });
    }
    if now.line > from.line {
        events.extend(lines(conn, from)?);
    }
    if from.phase != Phase::Ended && now.phase == Phase::Ended {
        let seq = now.bid_seq;
        events.push(if is_cancelled { RoomEvent::Cancelled { goods, seq } } else { ended(conn, &now)? });
    }
    if now.message > from.message {
        events.extend(messages(conn, from)?);
    }
    Ok(events)
}

fn is_cancelled(conn: &mut DbConn, goods: GoodsId) -> Result<bool, StoreError> {
    use schema::goods::dsl;
    Ok(dsl::goods.filter(dsl::id.eq(goods.get())).select(dsl::cancelled).get_result(conn)?)
}

fn bids(conn: &mut DbConn, from: &RoomCursor, ends_at: Timestamp) -> Result<Vec<RoomEvent>, StoreError> {
    use schema::{bids, users};
    let rows: Vec<(BidRow, UserRow)> = bids::table
        .inner_join(users::table.on(users::id.eq(bids::user_id)))
        .filter(bids::goods_id.eq(from.goods.get()).and(bids::seq.gt(from.bid_seq.get())))
        .order(bids::seq)
        .limit(ROWS_LIMIT)
        .select((BidRow::as_select(), UserRow::as_select()))
        .load(conn)?;
    let event = |(row, user): (BidRow, UserRow)| {
        let price = Price::from_stored(row.price);
        let received_at = Timestamp::from_micros(row.created_at);
        let bid = Bid { goods: from.goods, user: UserId::from_stored(row.user_id), price, received_at };
        let bid = StoredBid {
            id: BidId::from_stored(row.id),
            bid,
            seq: BidSeq::from_stored(row.seq),
            high_price: price,
            ends_at,
        };
        RoomEvent::Bid { bid, bidder: User::from(user).into() }
    };
    Ok(rows.into_iter().map(event).collect())
}

/// Lines and removals in the order of their ids.
fn lines(conn: &mut DbConn, from: &RoomCursor) -> Result<Vec<RoomEvent>, StoreError> {
    use schema::{line_removals, room_lines, users};
    let rows: Vec<(LineId, LineText, Timestamp, UserRow)> = room_lines::table
        .inner_join(users::table.on(users::id.eq(room_lines::author_id)))
        .filter(room_lines::goods_id.eq(from.goods.get()).and(room_lines::id.gt(from.line)))
        .order(room_lines::id)
        .limit(ROWS_LIMIT)
        .select((room_lines::id, room_lines::content, room_lines::created_at, UserRow::as_select()))
        .load(conn)?;
    let removals: Vec<(LineId, LineId)> = line_removals::table
        .filter(line_removals::goods_id.eq(from.goods.get()).and(line_removals::id.gt(from.line)))
        .order(line_removals::id)
        .limit(ROWS_LIMIT)
        .select((line_removals::id, line_removals::line_id))
        .load(conn)?;
    let goods = from.goods;
    let line = |(id, text, at, author): (LineId, _, _, UserRow)| {
        (id, RoomEvent::Line { goods, id, author: User::from(author).into(), text, at })
    };
    let removal = |(id, line)| (id, RoomEvent::LineRemoved { goods, id, line });
    let mut events: Vec<(LineId, RoomEvent)> =
        rows.into_iter().map(line).chain(removals.into_iter().map(removal)).collect();
    events.sort_unstable_by_key(|(id, _)| *id);
    events.truncate(ROOM_EVENTS_LIMIT);
    Ok(events.into_iter().map(|(_, event)| event).collect())
}

fn messages(conn: &mut DbConn, from: &RoomCursor) -> Result<Vec<RoomEvent>, StoreError> {
    use schema::{trade_messages, users};
    let rows: Vec<(TradeMessageId, TradeText, Timestamp, UserRow)> = trade_messages::table
        .inner_join(users::table.on(users::id.eq(trade_messages::author_id)))
        .filter(trade_messages::goods_id.eq(from.goods.get()).and(trade_messages::id.gt(from.message)))
        .order(trade_messages::id)
        .limit(ROWS_LIMIT)
        .select((trade_messages::id, trade_messages::content, trade_messages::created_at, UserRow::as_select()))
        .load(conn)?;
    let event = |(id, text, at, author)| RoomEvent::TradeMessage {
        goods: from.goods,
        id,
        author: User::from(author).into(),
        text,
        at,
    };
    Ok(rows.into_iter().map(event).collect())
}

fn ended(conn: &mut DbConn, now: &RoomCursor) -> Result<RoomEvent, StoreError> {
    use schema::{goods, users};
    let row: Option<(UserId, String, Option<i64>)> = goods::table
        .inner_join(users::table.on(users::id.nullable().eq(goods::high_bidder_id)))
        .filter(goods::id.eq(now.goods.get()))
        .select((users::id, users::username, goods::high_price))
        .get_result(conn)
        .optional()?;
    let (buyer, price) = row.map(|(id, name, price)| (Sender { id, name }, price)).unzip();
    let high_price = price.flatten().map(Price::from_stored);
    Ok(RoomEvent::Ended { goods: now.goods, seq: now.bid_seq, buyer, high_price })
}
