//! Reads of lists of goods: all, a user's, recommended. A list takes the same few statements however long it is: one or
//! a few for the goods, one each for the users, the first pictures, the likers and the viewer's own likes.

use diesel::{dsl::not, prelude::*};

use super::{
    goods_card::{GoodsCard, GoodsRow, cards, first_pictures},
    page::Page,
};
use crate::{
    domain::{GoodsId, Phase, UserId},
    store::{
        Store, StoreError,
        engine::{Backend, DbConn},
        rows::phase_code,
        schema::{self, goods},
        search::{lower, strpos},
    },
};

/// Goods per page, and the number of recommended goods.
const PAGE_SIZE: i64 = 10;
/// Most goods of a user's list if the request names no page.
const UNPAGED_LIMIT: i64 = 200;

/// Selects goods by all conditions that are not `None`.
#[derive(Debug, Clone, Default)]
pub struct GoodsFilter {
    pub category: Option<String>,
    pub phase: Option<Phase>,
    /// Title or content contains this text; upper and lower case are the same.
    pub search: Option<String>,
}

/// Selects goods by what a user has to do with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserGoods {
    /// The user is the seller, in any phase.
    Sold,
    Bought,
    Liked,
    /// The user is the seller, and the auction is in this phase.
    InPhase(Phase),
}

type Rows<'a> = goods::BoxedQuery<'a, Backend>;

impl Store {
    /// One page of goods as `viewer` sees them, newest first; empty past the last page.
    pub async fn goods_list(
        &self,
        filter: GoodsFilter,
        page: Page,
        viewer: Option<UserId>,
    ) -> Result<Vec<GoodsCard>, StoreError> {
        let is_search = filter.search.is_some();
        let rows = move |conn: &mut DbConn| page_of(conn, filtered(filter), page, PAGE_SIZE);
        let list = move |conn: &mut DbConn| list(conn, viewer, rows);
        if is_search { self.search(list).await } else { self.read(list).await }
    }

    /// One page of a user's goods as `viewer` sees them, newest first; without a page the newest 200. Empty for an
    /// unknown user.
    pub async fn user_goods(
        &self,
        user: UserId,
        which: UserGoods,
        page: Option<Page>,
        viewer: Option<UserId>,
    ) -> Result<Vec<GoodsCard>, StoreError> {
        let (page, size) = page.map_or((Page::FIRST, UNPAGED_LIMIT), |page| (page, PAGE_SIZE));
        let rows = move |conn: &mut DbConn| page_of(conn, of_user(user.get(), which), page, size);
        self.read(move |conn| list(conn, viewer, rows)).await
    }

    /// At most 10 scheduled or live goods as `viewer` sees them: first those of `busiest` in its order, then the
    /// newest. `busiest` has goods with their numbers of participants, most participants first.
    pub async fn recommended(
        &self,
        busiest: Vec<(GoodsId, usize)>,
        viewer: Option<UserId>,
    ) -> Result<Vec<GoodsCard>, StoreError> {
        self.read(move |conn| list(conn, viewer, move |conn| recommended(conn, &busiest))).await
    }
}

fn filtered<'a>(filter: GoodsFilter) -> Rows<'a> {
    let mut rows = goods::table.into_boxed();
    if let Some(category) = filter.category {
        rows = rows.filter(goods::category.eq(category));
    }
    if let Some(phase) = filter.phase {
        rows = rows.filter(goods::phase.eq(phase_code(phase)));
    }
    if let Some(search) = filter.search {
        let text = search.to_lowercase();
        let in_title = strpos(lower(goods::title), text.clone()).gt(0);
        rows = rows.filter(in_title.or(strpos(lower(goods::content), text).gt(0)));
    }
    rows
}

fn of_user<'a>(user: i64, which: UserGoods) -> Rows<'a> {
    let rows = goods::table.into_boxed();
    match which {
        UserGoods::Sold => rows.filter(goods::seller_id.eq(user)),
        UserGoods::InPhase(phase) => rows.filter(goods::seller_id.eq(user)).filter(goods::phase.eq(phase_code(phase))),
        UserGoods::Bought => {
            use schema::trade_rooms::dsl;
            rows.filter(goods::id.eq_any(dsl::trade_rooms.filter(dsl::buyer_id.eq(user)).select(dsl::goods_id)))
        }
        UserGoods::Liked => {
            use schema::likes::dsl;
            let likes = dsl::user_id.eq(user).and(not(dsl::removed));
            rows.filter(goods::id.eq_any(dsl::likes.filter(likes).select(dsl::goods_id)))
        }
    }
}

fn page_of(conn: &mut DbConn, rows: Rows<'_>, page: Page, size: i64) -> Result<Vec<GoodsRow>, StoreError> {
    let rows = rows.order(goods::id.desc()).limit(size).offset(page.offset(size));
    Ok(rows.select(GoodsRow::as_select()).load(conn)?)
}

fn recommended(conn: &mut DbConn, busiest: &[(GoodsId, usize)]) -> Result<Vec<GoodsRow>, StoreError> {
    let limit = usize::try_from(PAGE_SIZE).unwrap_or(0);
    let mut rows: Vec<GoodsRow> = Vec::new();
    if !busiest.is_empty() {
        let is_busiest = goods::id.eq_any(busiest.iter().map(|(id, _)| id.get()));
        let is_open = goods::phase.ne(phase_code(Phase::Ended));
        let mut found: Vec<GoodsRow> =
            goods::table.filter(is_busiest.and(is_open)).select(GoodsRow::as_select()).load(conn)?;
        found.sort_by_key(|row| busiest.iter().position(|(id, _)| *id == row.facts.id));
        add_missing(&mut rows, found, limit);
    }
    // One query per phase, so that the index finds the open goods among millions of ended ones.
    let mut newest = Vec::new();
    for phase in [Phase::Scheduled, Phase::Live] {
        let filter = GoodsFilter { phase: Some(phase), ..GoodsFilter::default() };
        newest.extend(page_of(conn, filtered(filter), Page::FIRST, PAGE_SIZE)?);
    }
    newest.sort_by_key(|row| std::cmp::Reverse(row.facts.id));
    add_missing(&mut rows, newest, limit);
    Ok(rows)
}

/// Adds the rows that are not in the list yet, as long as it has fewer than `limit`.
fn add_missing(rows: &mut Vec<GoodsRow>, more: Vec<GoodsRow>, limit: usize) {
    for row in more {
        if rows.len() < limit && rows.iter().all(|there| there.facts.id != row.facts.id) {
            rows.push(row);
        }
    }
}

/// Cards of the goods that `rows` reads, in one transaction.
fn list(
    conn: &mut DbConn,
    viewer: Option<UserId>,
    rows: impl FnOnce(&mut DbConn) -> Result<Vec<GoodsRow>, StoreError>,
) -> Result<Vec<GoodsCard>, StoreError> {
    conn.transaction(|conn| {
        let rows = rows(conn)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.facts.id.get()).collect();
        let pictures = first_pictures(conn, &ids)?.into_iter().map(|(id, path)| (id, vec![path])).collect();
        cards(conn, rows, pictures, viewer)
    })
}
