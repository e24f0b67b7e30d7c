//! Reads for the export of a user: all that is kept of them, in pages, so that an export takes little memory and keeps
//! no connection for long.

use diesel::{dsl::max, prelude::*};
use serde::Serialize;

use super::audit::AuditEntry;
use crate::{
    domain::{AlarmKind, Locale, Timestamp, UserId},
    store::{
        Store, StoreError,
        engine::DbConn,
        schema::{
            audit, bids, goods, goods_images, idempotency_keys, likes, mutes, room_lines, trade_messages, trade_rooms,
            users,
        },
    },
};

/// Rows of a page.
const ROWS_LIMIT: i64 = 200;
/// Ids of a page where no index finds a user's rows: it has all their rows among this many ids.
const IDS_LIMIT: i64 = 5000;

/// A part of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportPart {
    /// Goods that they sell.
    Goods,
    Bids,
    Likes,
    /// Lines that they wrote in auction rooms.
    Lines,
    /// Trades in which they sell or buy.
    Trades,
    /// Messages that they wrote there.
    Messages,
    IdempotencyKeys,
    /// What admins did to them, and what they did as an admin.
    Audit,
}

/// Where the next page of a part begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExportCursor {
    /// After this id …
    pub id: i64,
    /// … or, of idempotency keys, after this one.
    key: String,
}

impl ExportCursor {
    pub(crate) fn after(id: i64) -> Self {
        Self { id, key: String::new() }
    }
}

/// A page of a part.
pub(crate) struct ExportPage {
    pub rows: Vec<ExportRow>,
    /// `None` at the end.
    pub next: Option<ExportCursor>,
}

/// One exported row.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ExportRow {
    Goods {
        #[serde(flatten)]
        goods: ExportedGoods,
        images: Vec<String>,
    },
    Bid(ExportedBid),
    Like(ExportedLike),
    Line(ExportedLine),
    Trade(ExportedTrade),
    Message(ExportedMessage),
    IdempotencyKey(ExportedKey),
    Audit(AuditEntry),
}

/// The user's own row and preferences.
#[derive(Debug, Serialize)]
pub(crate) struct ExportedUser {
    #[serde(flatten)]
    user: ExportedUserRow,
    muted: Vec<String>,
}

impl ExportedUser {
    /// The language that the user has chosen.
    pub(crate) fn locale(&self) -> Option<Locale> {
        self.user.locale
    }
}

macro_rules! exported {
    ($($name:ident from $table:ident { $($field:ident: $type:ty,)+ })+) => {
        $(#[derive(Debug, Queryable, Selectable, Serialize)]
        #[diesel(table_name = $table)]
        pub(crate) struct $name { $($field: $type,)+ })+
    };
}

exported! {
    ExportedUserRow from users {
        id: i64, username: String, profile_image: String, rating_score: i32, is_active: bool, received_up_to: i64,
        read_up_to: i64, locale: Option<Locale>,
    }
    ExportedGoods from goods {
        id: i64, title: String, content: String, category: String, start_price: i64, predict_price: i64,
        min_increment: i64, starts_at: Timestamp, ends_at: Timestamp, created_at: Timestamp,
    }
    ExportedBid from bids { id: i64, goods_id: i64, seq: i64, price: i64, created_at: Timestamp, }
    ExportedLike from likes { goods_id: i64, }
    ExportedLine from room_lines { id: i64, goods_id: i64, content: String, created_at: Timestamp, }
    ExportedTrade from trade_rooms {
        id: i64, goods_id: i64, seller_id: i64, buyer_id: i64, created_at: Timestamp,
    }
    ExportedMessage from trade_messages {
        id: i64, goods_id: i64, content: String, created_at: Timestamp, is_read: bool,
    }
    ExportedKey from idempotency_keys {
        key: String, goods_id: i64, price: i64, verdict: String, created_at: Timestamp,
    }
}

impl Store {
    /// The user's own data; `None` if they are unknown.
    pub(crate) async fn export_user(&self, user: UserId) -> Result<Option<ExportedUser>, StoreError> {
        self.read(move |conn| {
            let row = users::table.find(user.get()).select(ExportedUserRow::as_select()).get_result(conn).optional()?;
            let Some(row) = row else { return Ok(None) };
            let of_user = mutes::user_id.eq(user.get()).and(mutes::kind.eq_any(AlarmKind::ALL.map(AlarmKind::name)));
            let muted = mutes::table.filter(of_user).order(mutes::kind).select(mutes::kind).load(conn)?;
            Ok(Some(ExportedUser { user: row, muted }))
        })
        .await
    }

    /// A page of a part.
    pub(crate) async fn export_page(
        &self,
        user: UserId,
        part: ExportPart,
        from: ExportCursor,
    ) -> Result<ExportPage, StoreError> {
        self.read(move |conn| page(conn, user.get(), part, &from)).await
    }
}

/// Rows that an index finds, and where the next ones begin: at most [`ROWS_LIMIT`], by `$id`.
macro_rules! indexed {
    ($conn:expr, $from:expr, $table:ident.$id:ident, $row:ident, $are_theirs:expr) => {{
        let after = $table::table.filter($are_theirs).filter($table::$id.gt($from.id)).order($table::$id);
        let rows: Vec<(i64, $row)> = after.limit(ROWS_LIMIT).select(($table::$id, $row::as_select())).load($conn)?;
        let next = rows.last().filter(|_| rows.len() as i64 == ROWS_LIMIT).map(|(id, _)| ExportCursor::after(*id));
        (rows, next)
    }};
}

/// Rows that no index finds, and where the next ones begin: all among [`IDS_LIMIT`] ids.
macro_rules! scanned {
    ($conn:expr, $from:expr, $table:ident, $row:ident, $are_theirs:expr) => {{
        let until = $from.id.saturating_add(IDS_LIMIT);
        let among = $table::id.gt($from.id).and($table::id.le(until));
        let rows: Vec<(i64, $row)> = $table::table
            .filter(among)
            .filter($are_theirs)
            .order($table::id)
            .select(($table::id, $row::as_select()))
            .load($conn)?;
        let newest: Option<i64> = $table::table.select(max($table::id)).get_result($conn)?;
        (rows, newest.filter(|newest| *newest > until).map(|_| ExportCursor::after(until)))
    }};
}

fn page(conn: &mut DbConn, user: i64, part: ExportPart, from: &ExportCursor) -> Result<ExportPage, StoreError> {
    macro_rules! page {
        ($kind:ident, $found:expr) => {{
            let (rows, next) = $found;
            ExportPage { rows: rows.into_iter().map(|(_, row)| ExportRow::$kind(row)).collect(), next }
        }};
    }
    Ok(match part {
        ExportPart::Goods => {
            let (rows, next) = indexed!(conn, from, goods.id, ExportedGoods, goods::seller_id.eq(user));
            ExportPage { rows: with_images(conn, rows)?, next }
        }
        ExportPart::Bids => page!(Bid, scanned!(conn, from, bids, ExportedBid, bids::user_id.eq(user))),
        ExportPart::Likes => {
            let are_theirs = likes::user_id.eq(user).and(likes::removed.eq(false));
            page!(Like, indexed!(conn, from, likes.goods_id, ExportedLike, are_theirs))
        }
        ExportPart::Lines => {
            page!(Line, indexed!(conn, from, room_lines.id, ExportedLine, room_lines::author_id.eq(user)))
        }
        ExportPart::Trades => {
            let are_theirs = trade_rooms::seller_id.eq(user).or(trade_rooms::buyer_id.eq(user));
            page!(Trade, indexed!(conn, from, trade_rooms.id, ExportedTrade, are_theirs))
        }
        ExportPart::Messages => {
            let are_theirs = trade_messages::author_id.eq(user);
            page!(Message, indexed!(conn, from, trade_messages.id, ExportedMessage, are_theirs))
        }
        ExportPart::IdempotencyKeys => keys(conn, user, &from.key)?,
        ExportPart::Audit => {
            let are_about_them = audit::target.eq("user").and(audit::target_id.eq(user));
            page!(Audit, scanned!(conn, from, audit, AuditEntry, audit::admin_id.eq(user).or(are_about_them)))
        }
    })
}

fn with_images(conn: &mut DbConn, rows: Vec<(i64, ExportedGoods)>) -> Result<Vec<ExportRow>, StoreError> {
    let images: Vec<(i64, String)> = goods_images::table
        .filter(goods_images::goods_id.eq_any(rows.iter().map(|(id, _)| *id)))
        .order((goods_images::goods_id, goods_images::position))
        .select((goods_images::goods_id, goods_images::path))
        .load(conn)?;
    let of = |id: i64| images.iter().filter(move |(goods, _)| *goods == id).map(|(_, path)| path.clone()).collect();
    Ok(rows.into_iter().map(|(id, goods)| ExportRow::Goods { goods, images: of(id) }).collect())
}

fn keys(conn: &mut DbConn, user: i64, after: &str) -> Result<ExportPage, StoreError> {
    use idempotency_keys::dsl;
    let of_user = dsl::idempotency_keys.filter(dsl::user_id.eq(user).and(dsl::key.gt(after)));
    let rows: Vec<ExportedKey> =
        of_user.order(dsl::key).limit(ROWS_LIMIT).select(ExportedKey::as_select()).load(conn)?;
    let last = rows.last().filter(|_| rows.len() as i64 == ROWS_LIMIT);
    let next = last.map(|row| ExportCursor { id: 0, key: row.key.clone() });
    Ok(ExportPage { rows: rows.into_iter().map(ExportRow::IdempotencyKey).collect(), next })
}
