//! Whether goods are there, for reads that tell "none" from "not yours".

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
