//! Database rows as diesel reads and writes them, and their conversions from and to the domain's types.

use diesel::{prelude::*, update};

use super::{
    StoreError,
    engine::{DbConn, on_each},
    schema,
};
use crate::domain::{
    Alarm, AlarmId, AlarmKind, BidSeq, EventId, GoodsId, GoodsState, Lead, Locale, Phase, Price, Sender, Timestamp,
    TradeRoomId, User, UserId,
};

/// A phase as the column `goods.phase` stores it.
pub(crate) const fn phase_code(phase: Phase) -> i16 {
    match phase {
        Phase::Scheduled => 0,
        Phase::Live => 1,
        Phase::Ended => 2,
    }
}

/// The phase that `goods.phase` stores as `code`.
pub(crate) fn phase_of(code: i16) -> Result<Phase, StoreError> {
    [Phase::Scheduled, Phase::Live, Phase::Ended]
        .into_iter()
        .find(|phase| phase_code(*phase) == code)
        .ok_or(StoreError::Row("goods.phase"))
}

/// The one row of `id_counters`: the last id given of each kind. A transaction reads it when it needs its first id and
/// writes it back at its end.
#[derive(Queryable, Selectable, AsChangeset, Debug, Clone, Copy, PartialEq, Eq)]
#[diesel(table_name = schema::id_counters)]
pub(crate) struct Counters {
    pub goods: i64,
    pub bid: i64,
    pub alarm: i64,
    pub trade_room: i64,
    pub like_mark: i64,
    pub line: i64,
    pub trade_message: i64,
}

impl Counters {
    pub(crate) fn read(conn: &mut DbConn) -> Result<Self, StoreError> {
        Ok(on_each!(conn, conn => schema::id_counters::table.select(Self::as_select()).get_result(conn))?)
    }

    pub(crate) fn write(self, conn: &mut DbConn) -> Result<(), StoreError> {
        on_each!(conn, conn => update(schema::id_counters::table).set(self).execute(conn))?;
        Ok(())
    }
}

/// The columns of a goods row that the auction's rules need.
#[derive(Queryable, Selectable)]
#[diesel(table_name = schema::goods)]
pub(crate) struct StateRow {
    id: i64,
    seller_id: i64,
    title: String,
    phase: i16,
    starts_at: i64,
    ends_at: i64,
    start_price: i64,
    min_increment: i64,
    high_price: Option<i64>,
    high_bidder_id: Option<i64>,
    bid_seq: i64,
    ending_soon_done: bool,
}

impl TryFrom<StateRow> for GoodsState {
    type Error = StoreError;

    fn try_from(row: StateRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: GoodsId::from_stored(row.id),
            seller: UserId::from_stored(row.seller_id),
            title: row.title,
            phase: phase_of(row.phase)?,
            starts_at: Timestamp::from_micros(row.starts_at),
            ends_at: Timestamp::from_micros(row.ends_at),
            start_price: Price::from_stored(row.start_price),
            min_increment: Price::from_stored(row.min_increment),
            lead: match (row.high_bidder_id, row.high_price) {
                (Some(user), Some(price)) => {
                    Some(Lead { user: UserId::from_stored(user), price: Price::from_stored(price) })
                }
                (None, None) => None,
                _ => return Err(StoreError::Row("goods.high_bidder_id")),
            },
            bid_seq: BidSeq::from_stored(row.bid_seq),
            ending_soon_done: row.ending_soon_done,
        })
    }
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::bids)]
pub(crate) struct BidRow {
    pub id: i64,
    pub goods_id: i64,
    pub seq: i64,
    pub user_id: i64,
    pub price: i64,
    pub created_at: i64,
}

/// An inbox row to be written.
pub(crate) struct InboxEntry {
    pub user_id: i64,
    pub alarm_id: i64,
    pub kind: AlarmKind,
    /// Whether the user has muted this kind; `None` lets the statement that writes the row find out.
    pub muted: Option<bool>,
}

/// Rows that a transaction has collected and writes together.
#[derive(Default)]
pub(crate) struct PendingRows {
    pub bids: Vec<BidRow>,
    pub alarms: Vec<NewAlarmRow>,
    pub inbox: Vec<InboxEntry>,
}

impl PendingRows {
    pub(crate) fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.alarms.is_empty() && self.inbox.is_empty()
    }
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::alarms)]
pub(crate) struct AlarmRow {
    pub id: i64,
    pub event_id: i64,
    pub kind: String,
    pub goods_id: Option<i64>,
    pub goods_title: Option<String>,
    pub created_at: i64,
    pub high_price: Option<i64>,
    pub ends_at: Option<i64>,
    pub start_price: Option<i64>,
    pub trade_room_id: Option<i64>,
    pub bid_seq: Option<i64>,
    pub message: Option<String>,
    pub sender_id: Option<i64>,
    pub sender_name: Option<String>,
}

/// An alarm to be written. What it has more than an [`AlarmRow`] is read for an event's deliveries only.
#[derive(Insertable)]
#[diesel(table_name = schema::alarms)]
pub(crate) struct NewAlarmRow {
    #[diesel(embed)]
    pub alarm: AlarmRow,
    /// Everybody whose inbox gets it, ascending; `None`: nobody.
    pub receivers: Option<String>,
    pub last_receiver: Option<i64>,
    /// `None`: at `created_at`.
    pub stored_at: Option<i64>,
}

impl NewAlarmRow {
    pub(crate) fn new(alarm: &Alarm, receivers: &[UserId], now: Timestamp) -> Self {
        Self {
            alarm: AlarmRow::from(alarm),
            receivers: (!receivers.is_empty()).then(|| user_list(receivers)),
            last_receiver: receivers.iter().max().map(|user| user.get()),
            stored_at: (now != alarm.created_at).then(|| now.micros()),
        }
    }
}

/// The ids of users as a column holds them: in ascending order, with commas between.
pub(crate) fn user_list(users: &[UserId]) -> String {
    let mut ids: Vec<i64> = users.iter().map(|user| user.get()).collect();
    ids.sort_unstable();
    let texts: Vec<String> = ids.iter().map(i64::to_string).collect();
    texts.join(",")
}

/// The users of such a list, in ascending order. The error contains `column`.
pub(crate) fn parse_user_list(list: &str, column: &'static str) -> Result<Vec<UserId>, StoreError> {
    let user = |id: &str| id.parse().map(UserId::from_stored).map_err(|_| StoreError::Row(column));
    list.split(',').map(user).collect()
}

impl From<&Alarm> for AlarmRow {
    fn from(alarm: &Alarm) -> Self {
        Self {
            id: alarm.id.get(),
            event_id: alarm.event.get(),
            kind: alarm.kind.name().to_owned(),
            goods_id: alarm.goods.map(GoodsId::get),
            goods_title: alarm.goods_title.clone(),
            created_at: alarm.created_at.micros(),
            high_price: alarm.high_price.map(Price::won),
            ends_at: alarm.ends_at.map(Timestamp::micros),
            start_price: alarm.start_price.map(Price::won),
            trade_room_id: alarm.trade_room.map(TradeRoomId::get),
            bid_seq: alarm.bid_seq.map(BidSeq::get),
            message: alarm.text.clone(),
            sender_id: alarm.sender.as_ref().map(|sender| sender.id.get()),
            sender_name: alarm.sender.as_ref().map(|sender| sender.name.clone()),
        }
    }
}

impl TryFrom<AlarmRow> for Alarm {
    type Error = StoreError;

    fn try_from(row: AlarmRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: AlarmId::from_stored(row.id),
            event: EventId::from_stored(row.event_id),
            kind: AlarmKind::from_name(&row.kind).ok_or(StoreError::Row("alarms.kind"))?,
            goods: row.goods_id.map(GoodsId::from_stored),
            goods_title: row.goods_title,
            created_at: Timestamp::from_micros(row.created_at),
            high_price: row.high_price.map(Price::from_stored),
            ends_at: row.ends_at.map(Timestamp::from_micros),
            start_price: row.start_price.map(Price::from_stored),
            trade_room: row.trade_room_id.map(TradeRoomId::from_stored),
            bid_seq: row.bid_seq.map(BidSeq::from_stored),
            text: row.message,
            sender: row.sender_id.zip(row.sender_name).map(|(id, name)| Sender { id: UserId::from_stored(id), name }),
        })
    }
}

/// All columns of a user except their inbox cursors.
#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = schema::users)]
pub(crate) struct UserRow {
    id: i64,
    username: String,
    profile_image: String,
    rating_score: i32,
    is_active: bool,
    named_at: i64,
    /// Changed by itself (`writes/preferences.rs`): an update leaves it as it is.
    #[diesel(skip_insertion, skip_update)]
    locale: Option<Locale>,
}

impl UserRow {
    /// The user; `None` if they are unknown.
    pub(crate) fn find(conn: &mut DbConn, id: UserId) -> Result<Option<User>, StoreError> {
        let row: Option<Self> =
            schema::users::table.find(id.get()).select(Self::as_select()).get_result(conn).optional()?;
        Ok(row.map(User::from))
    }
}

impl From<&User> for UserRow {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.get(),
            username: user.username.clone(),
            profile_image: user.profile_image.clone(),
            rating_score: user.rating_score,
            is_active: user.is_active,
            named_at: user.named_at,
            locale: user.locale,
        }
    }
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: UserId::from_stored(row.id),
            username: row.username,
            profile_image: row.profile_image,
            rating_score: row.rating_score,
            is_active: row.is_active,
            named_at: row.named_at,
            locale: row.locale,
        }
    }
}
