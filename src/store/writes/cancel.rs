//! Cancels auctions: an admin ends one before its time, without a buyer.

use diesel::{prelude::*, update};

use super::{
    audit::{AdminAction, AdminWrite, AuditTarget},
    fan_out::{self, Audience},
};
use crate::{
    domain::{AlarmKind, GoodsId, Phase, Timestamp},
    store::{Committed, RoomEvent, StoreError, Tx, Write, schema},
};

/// Ends a scheduled or live auction without a buyer, and raises `auction_cancelled` for its seller, bidders and likers.
/// Bids that are judged later are too late, whenever they arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CancelGoods {
    pub goods: GoodsId,
    /// When the service had read the whole request. The auction ends as of this moment.
    pub received_at: Timestamp,
}

/// Outcome of a [`CancelGoods`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancelled {
    Yes,
    /// The auction has ended, or its end was due when the request arrived.
    Ended,
    UnknownGoods,
}

impl Write for CancelGoods {
    type Out = Cancelled;

    fn goods(&self) -> Option<GoodsId> {
        Some(self.goods)
    }

    fn run(&self, tx: &mut Tx<'_>) -> Result<Cancelled, StoreError> {
        let Some(goods) = tx.goods(self.goods)? else { return Ok(Cancelled::UnknownGoods) };
        let mut goods = goods.clone();
        // Once the end is due, what was bid until then counts.
        if goods.end_due(self.received_at) || !goods.advance(Phase::Ended) {
            return Ok(Cancelled::Ended);
        }
        goods.ends_at = self.received_at;
        goods.lead = None;
        tx.set_goods(goods.clone());
        {
            use schema::goods::dsl;
            update(dsl::goods.filter(dsl::id.eq(goods.id.get()))).set(dsl::cancelled.eq(true)).execute(tx.conn)?;
        }
        tx.emit(Committed::Room(RoomEvent::Cancelled { goods: goods.id, seq: goods.bid_seq }));
        let (max_like, max_bid_seq) = (tx.newest_like()?, Some(goods.bid_seq));
        let audience = Audience::OfGoods { goods: goods.id, max_like, max_bid_seq, also: Some(goods.seller) };
        fan_out::raise(tx, AlarmKind::AuctionCancelled, &goods, &audience)?;
        Ok(Cancelled::Yes)
    }
}

impl AdminWrite for CancelGoods {
    fn action(&self, out: &Cancelled) -> Option<AdminAction> {
        let target = AuditTarget::Goods(self.goods);
        (*out == Cancelled::Yes).then(|| AdminAction { name: "goods.cancel", target, fields: Vec::new() })
    }
}
