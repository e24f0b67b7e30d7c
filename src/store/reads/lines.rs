//! Reads of the lines of auction rooms.

use diesel::prelude::*;

use super::{goods_card::exists, page::Page};
use crate::{
    domain::{GoodsId, Timestamp},
    store::{
        Store, StoreError,
        schema::{room_lines, users},
    },
};

/// Lines per page.
const PAGE_SIZE: i64 = 10;

/// A line in an auction room.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = room_lines)]
pub struct RoomLine {
    pub id: i64,
    /// The author's current name.
    #[diesel(select_expression = users::username)]
    pub author: String,
    pub content: String,
    pub created_at: Timestamp,
}

impl Store {
    /// One page of a room's lines, newest first; empty past the last page, `None` if there are no such goods.
    pub async fn lines(&self, goods: GoodsId, page: Page) -> Result<Option<Vec<RoomLine>>, StoreError> {
        self.read(move |conn| {
            if !exists(conn, goods)? {
                return Ok(None);
            }
            let lines = room_lines::table
                .inner_join(users::table.on(users::id.eq(room_lines::author_id)))
                .filter(room_lines::goods_id.eq(goods.get()))
                .order(room_lines::id.desc())
                .limit(PAGE_SIZE)
                .offset(page.offset(PAGE_SIZE));
            Ok(Some(lines.select(RoomLine::as_select()).load(conn)?))
        })
        .await
    }
}
