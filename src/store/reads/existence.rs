//! Whether goods exist. Reads use it to tell "no such goods" from "nothing found" or "not yours".

use diesel::prelude::*;

use crate::{
    domain::GoodsId,
    store::{StoreError, engine::DbConn, schema},
};

pub(super) fn exists(conn: &mut DbConn, goods: GoodsId) -> Result<bool, StoreError> {
    use schema::goods::dsl;
    let found: i64 = dsl::goods.filter(dsl::id.eq(goods.get())).count().get_result(conn)?;
    Ok(found > 0)
}
