//! Goods that the marketplace's backend sets up and changes by an id of its own.

use diesel::{delete, prelude::*, update};

use super::{
    audit::{AdminAction, AdminWrite, AuditTarget},
    goods, users,
};
use crate::{
    domain::{
        DraftError, DraftRules, ExternalId, GoodsDraft, GoodsId, GoodsState, NewGoods, Phase, Price, Timestamp,
        UpdateRefusal, User, UserId,
    },
    store::{Committed, StoreError, Tx, Write, rows::UserRow, schema},
};

/// Creates the goods of an external id, or changes them as far as their phase allows.
#[derive(Debug, Clone)]
pub(crate) struct PutGoods {
    pub external_id: ExternalId,
    /// Needed for new goods. The seller need not be known yet.
    pub seller: Option<UserId>,
    pub draft: GoodsDraft,
    pub rules: DraftRules,
}

/// Outcome of a [`PutGoods`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GoodsPut {
    Created(GoodsId),
    /// These fields have changed; none if all was so before.
    Changed(GoodsId, Vec<&'static str>),
    Invalid(DraftError),
    Refused(UpdateRefusal),
}

impl Write for PutGoods {
    type Out = GoodsPut;

    fn run(&self, tx: &mut Tx<'_>) -> Result<GoodsPut, StoreError> {
        let found: Option<i64> = {
            use schema::goods::dsl;
            let of_id = dsl::goods.filter(dsl::external_id.eq(self.external_id.as_str()));
            of_id.select(dsl::id).get_result(tx.conn).optional()?
        };
        match found {
            Some(id) => self.change(tx, GoodsId::from_stored(id)),
            None => self.create(tx),
        }
    }
}

impl PutGoods {
    fn create(&self, tx: &mut Tx<'_>) -> Result<GoodsPut, StoreError> {
        let Some(seller) = self.seller else { return Ok(GoodsPut::Invalid(DraftError::Missing("seller_id"))) };
        let goods = match self.draft.clone().check(None, &self.rules, tx.now()) {
            Ok(goods) => goods,
            Err(error) => return Ok(GoodsPut::Invalid(error)),
        };
        ensure_user(tx, seller)?;
        Ok(GoodsPut::Created(goods::insert(tx, seller, &goods, Some(&self.external_id))?))
    }

    fn change(&self, tx: &mut Tx<'_>, id: GoodsId) -> Result<GoodsPut, StoreError> {
        let now = tx.now();
        let Some(state) = tx.goods(id)?.cloned() else { return Err(StoreError::Row("goods.external_id")) };
        let current = current(tx, &state)?;
        let new = match self.draft.clone().check(Some(&current), &self.rules, now) {
            Ok(goods) => goods,
            Err(error) => return Ok(GoodsPut::Invalid(error)),
        };
        let seller = self.seller.unwrap_or(state.seller);
        let mut fields = new.differences(&current);
        if seller != state.seller {
            fields.push("seller_id");
        }
        if let Some(refusal) = UpdateRefusal::of(&state, &fields, now) {
            return Ok(GoodsPut::Refused(refusal));
        }
        if !fields.is_empty() {
            self.write(tx, state, seller, &new, fields.contains(&"images"))?;
        }
        Ok(GoodsPut::Changed(id, fields))
    }

    fn write(
        &self,
        tx: &mut Tx<'_>,
        state: GoodsState,
        seller: UserId,
        new: &NewGoods,
        has_new_images: bool,
    ) -> Result<(), StoreError> {
        use schema::goods::dsl;
        let id = state.id;
        let row = dsl::goods.filter(dsl::id.eq(id.get()));
        let description = (dsl::title.eq(&new.title), dsl::content.eq(&new.content), dsl::category.eq(&new.category));
        update(row).set(description).execute(tx.conn)?;
        if has_new_images {
            delete(schema::goods_images::table.filter(schema::goods_images::goods_id.eq(id.get()))).execute(tx.conn)?;
            goods::insert_images(tx, id, &new.images)?;
        }
        if state.phase != Phase::Scheduled {
            tx.replace_goods(GoodsState { title: new.title.clone(), ..state });
            return Ok(());
        }
        ensure_user(tx, seller)?;
        update(row)
            .set((
                dsl::seller_id.eq(seller.get()),
                dsl::start_price.eq(new.start_price.won()),
                dsl::predict_price.eq(new.predict_price.won()),
                dsl::min_increment.eq(new.min_increment.won()),
                dsl::starts_at.eq(new.starts_at.micros()),
                dsl::ends_at.eq(new.ends_at.micros()),
                dsl::scheduled_ends_at.eq(new.ends_at.micros()),
            ))
            .execute(tx.conn)?;
        let state = GoodsState {
            seller,
            title: new.title.clone(),
            starts_at: new.starts_at,
            ends_at: new.ends_at,
            start_price: new.start_price,
            min_increment: new.min_increment,
            ..state
        };
        tx.replace_goods(state.clone());
        tx.emit(Committed::GoodsMade(state));
        Ok(())
    }
}

/// Creates a user whom this service does not know yet.
fn ensure_user(tx: &mut Tx<'_>, id: UserId) -> Result<(), StoreError> {
    if UserRow::find(tx.conn, id)?.is_none() {
        users::store(tx, &User::first_seen(id, None, None), true)?;
    }
    Ok(())
}

/// What the goods are now, with the end that they were set up with.
fn current(tx: &mut Tx<'_>, state: &GoodsState) -> Result<NewGoods, StoreError> {
    use schema::{goods::dsl, goods_images};
    let row = dsl::goods.filter(dsl::id.eq(state.id.get()));
    let (content, category, predict_price, ends_at): (String, String, i64, Option<i64>) =
        row.select((dsl::content, dsl::category, dsl::predict_price, dsl::scheduled_ends_at)).get_result(tx.conn)?;
    let images = goods_images::table.filter(goods_images::goods_id.eq(state.id.get())).order(goods_images::position);
    Ok(NewGoods {
        title: state.title.clone(),
        content,
        category,
        start_price: state.start_price,
        predict_price: Price::from_stored(predict_price),
        min_increment: state.min_increment,
        starts_at: state.starts_at,
        ends_at: ends_at.map_or(state.ends_at, Timestamp::from_micros),
        images: images.select(goods_images::path).load(tx.conn)?,
    })
}

impl AdminWrite for PutGoods {
    fn action(&self, out: &GoodsPut) -> Option<AdminAction> {
        match out {
            GoodsPut::Created(id) => Some(AdminAction {
                name: "goods.create",
                target: AuditTarget::Goods(*id),
                fields: vec!["external_id", "seller_id"],
            }),
            GoodsPut::Changed(id, fields) if !fields.is_empty() => {
                Some(AdminAction { name: "goods.change", target: AuditTarget::Goods(*id), fields: fields.clone() })
            }
            GoodsPut::Changed(..) | GoodsPut::Invalid(_) | GoodsPut::Refused(_) => None,
        }
    }
}
