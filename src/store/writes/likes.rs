//! Likes: put and taken back.

use diesel::{delete, insert_into, prelude::*, update};

use super::fan_out;
use crate::{
    domain::{GoodsId, UserId},
    store::{StoreError, Tx, Write, schema},
};

/// What a user wants of his like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Like {
    /// He likes the goods from now on.
    On,
    /// He likes them no more.
    Off,
    /// The other of the two.
    Toggle,
}

/// Sets whether a user likes goods. Setting it twice changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct SetLike {
    /// Who.
    pub user: UserId,
    /// What.
    pub goods: GoodsId,
    /// How.
    pub like: Like,
}

impl Write for SetLike {
    /// False if there are no such goods.
    type Out = bool;

    fn run(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        use schema::likes::dsl;
        if tx.goods(self.goods)?.is_none() {
            return Ok(false);
        }
        let of_user = dsl::goods_id.eq(self.goods.get()).and(dsl::user_id.eq(self.user.get()));
        let standing = of_user.and(dsl::removed.eq(false));
        let likes: i64 = dsl::likes.filter(standing).count().get_result(tx.conn)?;
        let (is, wanted) = (likes > 0, if self.like == Like::Toggle { likes == 0 } else { self.like == Like::On });
        if is == wanted {
            return Ok(true);
        }
        if wanted {
            let id = tx.next_like()?;
            insert_into(dsl::likes)
                .values((
                    dsl::id.eq(id),
                    dsl::goods_id.eq(self.goods.get()),
                    dsl::user_id.eq(self.user.get()),
                    dsl::removed.eq(false),
                ))
                .execute(tx.conn)?;
        } else if fan_out::is_open(tx.conn, self.goods)? {
            update(dsl::likes.filter(standing)).set(dsl::removed.eq(true)).execute(tx.conn)?;
        } else {
            delete(dsl::likes.filter(standing)).execute(tx.conn)?;
        }
        let more = if wanted { 1 } else { -1 };
        {
            use schema::goods::dsl;
            update(dsl::goods.filter(dsl::id.eq(self.goods.get())))
                .set(dsl::like_count.eq(dsl::like_count + more))
                .execute(tx.conn)?;
        }
        Ok(true)
    }
}
