//! Reads of who likes goods: two statements for all goods of a list, however many users like them.

use std::collections::{HashMap, HashSet};

use diesel::{dsl::not, prelude::*, sql_query, sql_types::BigInt};

use crate::store::{
    StoreError,
    engine::{Backend, DbConn},
    schema,
};

/// Most likers that are listed for a goods item.
const LIKERS_LIMIT: usize = 200;

/// The first likers of each of some goods, and which of these goods the viewer likes.
pub(super) struct Likes {
    likers: HashMap<i64, Vec<i64>>,
    viewer: Option<i64>,
    liked_by_viewer: HashSet<i64>,
}

#[derive(QueryableByName)]
struct LikeRow {
    #[diesel(sql_type = BigInt)]
    goods_id: i64,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
}

impl Likes {
    /// Reads the likes of at most a page of goods: the statement grows with their number.
    pub(super) fn read(conn: &mut DbConn, goods: &[i64], viewer: Option<i64>) -> Result<Self, StoreError> {
        let mut likers: HashMap<i64, Vec<i64>> = HashMap::new();
        if !goods.is_empty() {
            for row in first_likers(conn, goods)? {
                likers.entry(row.goods_id).or_default().push(row.user_id);
            }
        }
        // UNION ALL guarantees no order.
        likers.values_mut().for_each(|likers| likers.sort_unstable());
        let liked_by_viewer = match viewer {
            Some(viewer) => {
                use schema::likes::dsl;
                // `NOT` rather than `= FALSE`, so that the engine finds the partial index.
                let by_viewer = dsl::user_id.eq(viewer).and(not(dsl::removed));
                let among = dsl::goods_id.eq_any(goods.iter().copied());
                let liked: Vec<i64> = dsl::likes.filter(by_viewer.and(among)).select(dsl::goods_id).load(conn)?;
                liked.into_iter().collect()
            }
            None => HashSet::new(),
        };
        Ok(Self { likers, viewer, liked_by_viewer })
    }

    /// At most 200 users who like the goods, by id, and whether the viewer likes them. If so, the viewer is always
    /// listed. Takes the goods' likes out, so call it once for each goods item.
    pub(super) fn take(&mut self, goods: i64) -> (Vec<i64>, bool) {
        let mut likers = self.likers.remove(&goods).unwrap_or_default();
        let liked = self.liked_by_viewer.contains(&goods);
        if let Some(viewer) = self.viewer.filter(|viewer| liked && !likers.contains(viewer)) {
            likers.truncate(LIKERS_LIMIT - 1);
            likers.push(viewer);
        }
        (likers, liked)
    }
}

/// One subquery with a limit for each goods item, so that one with a hundred thousand likers costs no more than 200
/// rows.
fn first_likers(conn: &mut DbConn, goods: &[i64]) -> Result<Vec<LikeRow>, StoreError> {
    let part = |place: usize| {
        format!(
            "SELECT goods_id, user_id FROM (SELECT goods_id, user_id FROM likes \
             WHERE goods_id = ${place} AND NOT removed ORDER BY user_id LIMIT {LIKERS_LIMIT}) AS part_{place}"
        )
    };
    let parts: Vec<String> = (1..=goods.len()).map(part).collect();
    let query = sql_query(parts.join(" UNION ALL ")).into_boxed::<Backend>();
    Ok(goods.iter().fold(query, |query, id| query.bind::<BigInt, _>(*id)).load(conn)?)
}
