//! Likes of goods: users add and remove them.

use diesel::{delete, insert_into, prelude::*, update};

use super::fan_out;
use crate::{
    domain::{GoodsId, UserId},
    store::{StoreError, Tx, Write, schema},
};

/// What a user wants to do with their like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Like {
    On,
    Off,
    /// Remove the like if there is one, add it otherwise.
    Toggle,
}

/// Sets whether a user likes goods. Repeating `On` or `Off` changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct SetLike {
    pub user: UserId,
    pub goods: GoodsId,
    pub like: Like,
}

/// Outcome of a [`SetLike`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeSet {
    /// The user likes the goods, or does not, as they want.
    Done,
    UnknownGoods,
}

impl Write for SetLike {
    type Out = LikeSet;

    fn run(&self, tx: &mut Tx<'_>) -> Result<LikeSet, StoreError> {
        use schema::likes::dsl;
        if tx.goods(self.goods)?.is_none() {
            return Ok(LikeSet::UnknownGoods);
        }
        let of_user = dsl::goods_id.eq(self.goods.get()).and(dsl::user_id.eq(self.user.get()));
        let active = of_user.and(dsl::removed.eq(false));
        let likes: i64 = dsl::likes.filter(active).count().get_result(tx.conn)?;
        let (is_liked, wanted) =
            (likes > 0, if self.like == Like::Toggle { likes == 0 } else { self.like == Like::On });
        if is_liked == wanted {
            return Ok(LikeSet::Done);
        }
        if wanted {
            let id = tx.next_like_id()?;
            insert_into(dsl::likes)
                .values((
                    dsl::id.eq(id),
                    dsl::goods_id.eq(self.goods.get()),
                    dsl::user_id.eq(self.user.get()),
                    dsl::removed.eq(false),
                ))
                .execute(tx.conn)?;
        } else if fan_out::is_open(tx.conn, self.goods)? {
            // The running fan-out still has to reach this user, so the row stays until it is done.
            update(dsl::likes.filter(active)).set(dsl::removed.eq(true)).execute(tx.conn)?;
        } else {
            delete(dsl::likes.filter(active)).execute(tx.conn)?;
        }
        let change = if wanted { 1 } else { -1 };
        {
            use schema::goods::dsl;
            update(dsl::goods.filter(dsl::id.eq(self.goods.get())))
                .set(dsl::like_count.eq(dsl::like_count + change))
                .execute(tx.conn)?;
        }
        Ok(LikeSet::Done)
    }
}
