//! Lists of goods: all, recommended, of a user. However long a list is, it takes the same few statements: one for the
//! goods, one each for the people, the first pictures, the likers and the viewer's own likes.

use diesel::{dsl::not, prelude::*};

use super::{
    goods::{GoodsFacts, GoodsRow, first_pictures, people_of},
    likes::Likes,
    page::Page,
    users,
};
use crate::{
    domain::{GoodsId, Phase, User, UserId},
    store::{
        Store, StoreError,
        engine::{Backend, DbConn},
        rows::phase_code,
        schema::{self, goods},
        search::{lower, strpos},
    },
};

/// Goods of one page, and of the recommended ones.
const PAGE: i64 = 10;
/// Goods of a user's list where no page is asked for.
const WHOLE: i64 = 200;

/// Goods as lists show them.
#[derive(Debug, Clone)]
pub struct GoodsCard {
    /// What their row says.
    pub facts: GoodsFacts,
    /// Who sells.
    pub seller: User,
    /// The leader while live, the buyer afterwards.
    pub buyer: Option<User>,
    /// Whether the viewer likes them.
    pub is_like: bool,
    /// Path of the first picture.
    pub image: Option<String>,
    /// At most 200 users who like them, the viewer among them if he does.
    pub likes: Vec<i64>,
}

/// Which goods; what is `None` may be anything.
#[derive(Debug, Clone, Default)]
pub struct GoodsFilter {
    /// Of exactly this category.
    pub category: Option<String>,
    /// In this phase.
    pub phase: Option<Phase>,
    /// With this text in title or content, in upper or lower case.
    pub search: Option<String>,
}

/// Which goods of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserGoods {
    /// All that he sells or has sold.
    Sold,
    /// Those that he has bought.
    Bought,
    /// Those that he likes.
    Liked,
    /// Those that he sells, in this phase.
    InPhase(Phase),
}

type Rows<'a> = goods::BoxedQuery<'a, Backend>;

impl Store {
    /// One page of goods as `viewer` sees them, newest first; none past the end.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn goods_list(
        &self,
        filter: GoodsFilter,
        page: Page,
        viewer: Option<UserId>,
    ) -> Result<Vec<GoodsCard>, StoreError> {
        let is_search = filter.search.is_some();
        let list = move |conn: &mut DbConn| {
            conn.transaction(|conn| {
                let rows = page_of(conn, filtered(filter), page, PAGE)?;
                cards(conn, rows, viewer)
            })
        };
        if is_search { self.search(list).await } else { self.read(list).await }
    }

    /// One page of a user's goods as `viewer` sees them, newest first; without a page the newest 200. A user whom nobody
    /// has seen has none.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn user_goods(
        &self,
        user: UserId,
        which: UserGoods,
        page: Option<Page>,
        viewer: Option<UserId>,
    ) -> Result<Vec<GoodsCard>, StoreError> {
        self.read(move |conn| {
            conn.transaction(|conn| {
                let (page, size) = page.map_or((Page::FIRST, WHOLE), |page| (page, PAGE));
                let rows = page_of(conn, of_user(user.get(), which), page, size)?;
                cards(conn, rows, viewer)
            })
        })
        .await
    }

    /// At most 10 scheduled or live goods as `viewer` sees them: those of `busiest` (some goods with their number
    /// of participants, most first) in that order, then the newest.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read in time.
    pub async fn recommended(
        &self,
        busiest: Vec<(GoodsId, usize)>,
        viewer: Option<UserId>,
    ) -> Result<Vec<GoodsCard>, StoreError> {
        self.read(move |conn| {
            conn.transaction(|conn| {
                let rows = recommended(conn, &busiest)?;
                cards(conn, rows, viewer)
            })
        })
        .await
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
            let standing = dsl::user_id.eq(user).and(not(dsl::removed));
            rows.filter(goods::id.eq_any(dsl::likes.filter(standing).select(dsl::goods_id)))
        }
    }
}

fn page_of(conn: &mut DbConn, rows: Rows<'_>, page: Page, size: i64) -> Result<Vec<GoodsRow>, StoreError> {
    let page_of = rows.order(goods::id.desc()).limit(size).offset(page.offset(size));
    Ok(page_of.select(GoodsRow::as_select()).load(conn)?)
}

fn recommended(conn: &mut DbConn, busiest: &[(GoodsId, usize)]) -> Result<Vec<GoodsRow>, StoreError> {
    let most = usize::try_from(PAGE).unwrap_or(0);
    let mut rows: Vec<GoodsRow> = Vec::new();
    if !busiest.is_empty() {
        let is_one = goods::id.eq_any(busiest.iter().map(|(id, _)| id.get()));
        let open = goods::phase.ne(phase_code(Phase::Ended));
        let mut found: Vec<GoodsRow> =
            goods::table.filter(is_one.and(open)).select(GoodsRow::as_select()).load(conn)?;
        found.sort_by_key(|row| busiest.iter().position(|(id, _)| id.get() == row.id));
        add(&mut rows, found, most);
    }
    // By phase, so that millions of ended goods are not walked through for the few that are not.
    let mut newest = page_of(
        conn,
        goods::table.filter(goods::phase.eq(phase_code(Phase::Scheduled))).into_boxed(),
        Page::FIRST,
        PAGE,
    )?;
    newest.extend(page_of(
        conn,
        goods::table.filter(goods::phase.eq(phase_code(Phase::Live))).into_boxed(),
        Page::FIRST,
        PAGE,
    )?);
    newest.sort_by_key(|row| std::cmp::Reverse(row.id));
    add(&mut rows, newest, most);
    Ok(rows)
}

/// Adds those that are not there yet.
fn add(rows: &mut Vec<GoodsRow>, more: Vec<GoodsRow>, most: usize) {
    for row in more {
        if rows.len() < most && rows.iter().all(|there| there.id != row.id) {
            rows.push(row);
        }
    }
}

/// What a list shows beside the goods' own rows, for all of them at once.
fn cards(conn: &mut DbConn, rows: Vec<GoodsRow>, viewer: Option<UserId>) -> Result<Vec<GoodsCard>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let people = users::find_all(conn, &people_of(&rows))?;
    let mut pictures = first_pictures(conn, &ids)?;
    let mut likes = Likes::read(conn, &ids, viewer.map(UserId::get))?;
    let card = |row: GoodsRow| {
        let buyer =
            row.high_bidder_id.map(|id| people.get(&id).cloned().ok_or(StoreError::Row("goods.high_bidder_id")));
        let (likers, is_like) = likes.of(row.id);
        Ok(GoodsCard {
            seller: people.get(&row.seller_id).cloned().ok_or(StoreError::Row("goods.seller_id"))?,
            buyer: buyer.transpose()?,
            is_like,
            image: pictures.remove(&row.id),
            likes: likers,
            facts: row.try_into()?,
        })
    };
    rows.into_iter().map(card).collect()
}
