//! Reading what was said in auction rooms.

use diesel::prelude::*;

use super::{existence::exists, page::Page};
use crate::{
    domain::{GoodsId, Timestamp},
    store::{Store, StoreError, schema},
};

/// Lines of one page.
const PAGE: i64 = 10;

/// A line in an auction room.
#[derive(Debug, Clone)]
pub struct RoomLine {
    /// Its id.
    pub id: i64,
    /// The author's name now.
    pub author: String,
    /// What was said.
    pub content: String,
    /// When it was stored.
    pub created_at: Timestamp,
}

impl Store {
    /// One page of a room's lines, newest first, none past the end; `None` if there are no such goods.
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
                .limit(PAGE)
                .offset(page.offset(PAGE))
                .select((room_lines::id, users::username, room_lines::content, room_lines::created_at))
                .load(conn)?;
            let line =
                |(id, author, content, at)| RoomLine { id, author, content, created_at: Timestamp::from_micros(at) };
            Ok(Some(rows.into_iter().map(line).collect()))
        })
        .await
    }
}
