//! Creates goods, and deletes goods whose auction has not begun.

use diesel::{delete, insert_into, prelude::*};

use crate::{
    domain::{BidSeq, ExternalId, GoodsId, GoodsState, NewGoods, Phase, Timestamp, UserId},
    store::{Committed, RoomEvent, StoreError, Tx, Write, rows::phase_code, schema},
};

/// Creates goods for a seller. If their start is already past, the clock starts the auction at once, with its alarms.
#[derive(Debug, Clone)]
pub struct CreateGoods {
    pub seller: UserId,
    /// The goods as the seller describes them, already validated.
    pub goods: NewGoods,
}

impl Write for CreateGoods {
    /// Id of the new goods, and when they were created.
    type Out = (GoodsId, Timestamp);

    fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        Ok((insert(tx, self.seller, &self.goods, None)?, tx.now()))
    }
}

/// Inserts goods with their pictures. Returns their id.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    seller: UserId,
    new: &NewGoods,
    external_id: Option<&ExternalId>,
) -> Result<GoodsId, StoreError> {
    let id = tx.next_goods()?;
    {
        use schema::goods::dsl;
        insert_into(dsl::goods)
            .values((
                dsl::id.eq(id.get()),
                dsl::seller_id.eq(seller.get()),
                dsl::title.eq(&new.title),
                dsl::content.eq(&new.content),
                dsl::category.eq(&new.category),
                dsl::start_price.eq(new.start_price.won()),
                dsl::predict_price.eq(new.predict_price.won()),
                dsl::min_increment.eq(new.min_increment.won()),
                dsl::starts_at.eq(new.starts_at.micros()),
                dsl::ends_at.eq(new.ends_at.micros()),
                dsl::scheduled_ends_at.eq(new.ends_at.micros()),
                dsl::created_at.eq(tx.now().micros()),
                dsl::phase.eq(phase_code(Phase::Scheduled)),
                dsl::bid_seq.eq(0),
                dsl::ending_soon_done.eq(false),
                dsl::external_id.eq(external_id.map(ExternalId::as_str)),
            ))
            .execute(tx.conn)?;
    }
    insert_images(tx, id, &new.images)?;
    let state = GoodsState {
        id,
        seller,
        title: new.title.clone(),
        phase: Phase::Scheduled,
        starts_at: new.starts_at,
        ends_at: new.ends_at,
        start_price: new.start_price,
        min_increment: new.min_increment,
        lead: None,
        bid_seq: BidSeq::NONE,
        ending_soon_done: false,
    };
    tx.emit(Committed::GoodsMade(state));
    Ok(id)
}

pub(super) fn insert_images(tx: &mut Tx<'_>, goods: GoodsId, images: &[String]) -> Result<(), StoreError> {
    use schema::goods_images::dsl;
    for (position, path) in (0i32..).zip(images) {
        insert_into(dsl::goods_images)
            .values((dsl::goods_id.eq(goods.get()), dsl::position.eq(position), dsl::path.eq(path)))
            .execute(tx.conn)?;
    }
    Ok(())
}

/// Deletes goods at the request of their seller, if their auction has not begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeleteGoods {
    pub goods: GoodsId,
    /// The user who asks; only the seller may delete.
    pub user: UserId,
}

/// Outcome of a [`DeleteGoods`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// The goods are deleted, with their pictures, likes and lines.
    Yes,
    UnknownGoods,
    NotYours,
    /// The auction has started, or its start is due.
    Started,
}

impl Write for DeleteGoods {
    type Out = Deleted;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Deleted, StoreError> {
        let now = tx.now();
        let Some(goods) = tx.goods(self.goods)? else { return Ok(Deleted::UnknownGoods) };
        if goods.seller != self.user {
            return Ok(Deleted::NotYours);
        }
        if goods.phase != Phase::Scheduled || goods.starts_at <= now {
            return Ok(Deleted::Started);
        }
        let id = self.goods.get();
        delete(schema::goods::table.filter(schema::goods::id.eq(id))).execute(tx.conn)?;
        delete(schema::goods_images::table.filter(schema::goods_images::goods_id.eq(id))).execute(tx.conn)?;
        delete(schema::likes::table.filter(schema::likes::goods_id.eq(id))).execute(tx.conn)?;
        delete(schema::room_lines::table.filter(schema::room_lines::goods_id.eq(id))).execute(tx.conn)?;
        delete(schema::line_removals::table.filter(schema::line_removals::goods_id.eq(id))).execute(tx.conn)?;
        tx.remove_goods(self.goods);
        tx.emit(Committed::Room(RoomEvent::Deleted(self.goods)));
        Ok(Deleted::Yes)
    }
}
