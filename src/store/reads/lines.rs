//! Reads of the lines of auction rooms.

use diesel::prelude::*;

use super::{existence::exists, page::Page};
use crate::{
    domain::{GoodsId, Timestamp},
    store::{Store, StoreError, schema},
};

/// Lines per page.
const PAGE_SIZE: i64 = 10;

/// A line in an auction room.
#[derive(Debug, Clone)]
pub struct RoomLine {
    /// The line's id; a room's newer lines have higher ones.
    pub id: i64,
    /// The author's current name.
    pub author: String,
    /// The line's text.
    pub content: String,
    /// When the line was stored.
    pub created_at: Timestamp,
}

impl Store {
    /// One page of a room's lines, newest first; empty past the last page, `None` if there are no such goods.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn lines(&self, goods: GoodsId, page: Page) -> Result<Option<Vec<RoomLine>>, StoreError> {
        self.read(move |conn| {
            use schema::{room_lines, users};
            if !exists(conn, goods)? {
                return Ok(None);
            }
            let rows: Vec<(i64, String, String, i64)> = room_lines::table
                .inner_join(users::table.on(users::id.eq(room_lines::author_id)))
                .filter(room_lines::goods_id.eq(goods.get()))
                .order(room_lines::id.desc())
                .limit(PAGE_SIZE)
                .offset(page.offset(PAGE_SIZE))
                .select((room_lines::id, users::username, room_lines::content, room_lines::created_at))
                .load(conn)?;
            let line =
                |(id, author, content, at)| RoomLine { id, author, content, created_at: Timestamp::from_micros(at) };
            Ok(Some(rows.into_iter().map(line).collect()))
        })
        .await
    }
}
