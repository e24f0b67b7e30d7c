//! Likes: put and taken back.

use diesel::{delete, insert_into, prelude::*, update};

use super::fan_out;
use crate::{
    domain::{GoodsId, UserId},
    store::{StoreError, Tx, Write, schema},
};

/// Sets whether a user likes goods. Doing it twice changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct SetLike {
    /// Who.
    pub user: UserId,
    /// What.
    pub goods: GoodsId,
    /// Whether he likes them from now on.
    pub like: bool,
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
        if self.like {
            let likes: i64 = dsl::likes.filter(standing).count().get_result(tx.conn)?;
            if likes == 0 {
                let id = tx.next_like()?;
                insert_into(dsl::likes)
                    .values((
                        dsl::id.eq(id),
                        dsl::goods_id.eq(self.goods.get()),
                        dsl::user_id.eq(self.user.get()),
                        dsl::removed.eq(false),
                    ))
                    .execute(tx.conn)?;
            }
        } else if fan_out::is_open(tx.conn, self.goods)? {
            update(dsl::likes.filter(standing)).set(dsl::removed.eq(true)).execute(tx.conn)?;
        } else {
            delete(dsl::likes.filter(standing)).execute(tx.conn)?;
        }
        Ok(true)
    }
}
