//! Who likes goods: for one page or a whole list in two statements, however many like them.

use std::collections::{HashMap, HashSet};

use diesel::{dsl::not, prelude::*, sql_query, sql_types::BigInt};

use crate::store::{
    StoreError,
    engine::{Backend, DbConn},
    schema,
};

/// Most likers that are named with goods.
const LISTED: usize = 200;

/// Some likers of some goods, and which of these the viewer likes.
pub(super) struct Likes {
    likers: HashMap<i64, Vec<i64>>,
    viewer: Option<i64>,
    viewers: HashSet<i64>,
}

#[derive(QueryableByName)]
struct LikeRow {
    #[diesel(sql_type = BigInt)]
    goods_id: i64,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
}

impl Likes {
    /// Reads them for a page of goods: not for hundreds, for each has a part of the statement.
    pub(super) fn read(conn: &mut DbConn, goods: &[i64], viewer: Option<i64>) -> Result<Self, StoreError> {
        let mut likers: HashMap<i64, Vec<i64>> = HashMap::new();
        if !goods.is_empty() {
            for row in some_likers(conn, goods)? {
                likers.entry(row.goods_id).or_default().push(row.user_id);
            }
        }
        // A union promises no order.
        likers.values_mut().for_each(|likers| likers.sort_unstable());
        let viewers = match viewer {
            Some(viewer) => {
                use schema::likes::dsl;
                // NOT rather than = FALSE: the partial indexes are found by it.
                let standing = dsl::user_id.eq(viewer).and(not(dsl::removed));
                let among = dsl::goods_id.eq_any(goods.iter().copied());
                let liked: Vec<i64> = dsl::likes.filter(standing.and(among)).select(dsl::goods_id).load(conn)?;
                liked.into_iter().collect()
            }
            None => HashSet::new(),
        };
        Ok(Self { likers, viewer, viewers })
    }

    /// At most 200 users who like the goods, by id, the viewer among them if he does; and whether he does.
    pub(super) fn of(&mut self, goods: i64) -> (Vec<i64>, bool) {
        let mut likers = self.likers.remove(&goods).unwrap_or_default();
        let liked = self.viewers.contains(&goods);
        if let Some(viewer) = self.viewer.filter(|viewer| liked && !likers.contains(viewer)) {
            likers.truncate(LISTED - 1);
            likers.push(viewer);
        }
        (likers, liked)
    }
}

/// Each goods item's own bounded part: one with a hundred thousand likers costs no more than its 200.
fn some_likers(conn: &mut DbConn, goods: &[i64]) -> Result<Vec<LikeRow>, StoreError> {
    let part = |place: usize| {
        format!(
            "SELECT goods_id, user_id FROM (SELECT goods_id, user_id FROM likes \
             WHERE goods_id = ${place} AND NOT removed ORDER BY user_id LIMIT {LISTED}) AS part_{place}"
        )
    };
    let parts: Vec<String> = (1..=goods.len()).map(part).collect();
    let query = sql_query(parts.join(" UNION ALL ")).into_boxed::<Backend>();
    Ok(goods.iter().fold(query, |query, id| query.bind::<BigInt, _>(*id)).load(conn)?)
}
