//! Bids of one goods item: judged and recorded in the same transaction, with their alarms.

use std::sync::Arc;

use super::{
    keys, phases,
    verdict::{BidVerdict, StoredBid},
};
use crate::{
    domain::{AlarmKind, Bid, GoodsId, GoodsState, IdempotencyKey, User, judge},
    store::{Committed, RoomEvent, StoreError, Tx, Write, rows::BidRow},
};

/// Bids of one goods item, in the order in which they are to be judged.
#[derive(Debug, Clone)]
pub struct PlaceBids {
    /// For which goods all of them are.
    pub goods: GoodsId,
    /// The bids.
    pub bids: Vec<KeyedBid>,
}

/// A bid, and what its bidder calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedBid {
    /// The bid.
    pub bid: Bid,
    /// Who bids, as he is known now.
    pub bidder: Arc<User>,
    /// Its `Idempotency-Key`, if it has one.
    pub key: Option<IdempotencyKey>,
}

/// What became of them.
#[derive(Debug, Clone)]
pub struct PlacedBids {
    /// The goods after the last bid; `None` if there are no such goods.
    pub goods: Option<GoodsState>,
    /// One for each bid, in the same order.
    pub verdicts: Vec<BidVerdict>,
}

impl Write for PlaceBids {
    type Out = PlacedBids;

    fn goods(&self) -> Option<GoodsId> {
        Some(self.goods)
    }

    fn weight(&self) -> Option<usize> {
        Some(self.bids.len())
    }

    fn run(&self, tx: &mut Tx<'_>) -> Result<PlacedBids, StoreError> {
        let mut verdicts = Vec::with_capacity(self.bids.len());
        for bid in &self.bids {
            verdicts.push(match &bid.key {
                Some(key) => place_once(tx, bid, key)?,
                None => place(tx, bid)?,
            });
        }
        Ok(PlacedBids { goods: tx.goods(self.goods)?.cloned(), verdicts })
    }
}

/// Looks the key up before the bid is judged, also among the bids of the same transaction, and keeps the verdict.
fn place_once(tx: &mut Tx<'_>, keyed: &KeyedBid, key: &IdempotencyKey) -> Result<BidVerdict, StoreError> {
    if let Some(found) = keys::find(tx, &keyed.bid, key)? {
        return Ok(found);
    }
    let verdict = place(tx, keyed)?;
    keys::keep(tx, &keyed.bid, key, &verdict)?;
    Ok(verdict)
}

fn place(tx: &mut Tx<'_>, KeyedBid { bid, bidder, .. }: &KeyedBid) -> Result<BidVerdict, StoreError> {
    let Some(goods) = tx.goods(bid.goods)? else { return Ok(BidVerdict::UnknownGoods) };
    let mut goods = goods.clone();
    if goods.start_due(bid.received_at) {
        // The bid comes before the clock's tick: the start is recorded first.
        phases::start(tx, &mut goods)?;
    }
    let accepted = match judge(&goods, bid, tx.rules().soft_close_ms) {
        Ok(accepted) => accepted,
        Err(refusal) => return Ok(BidVerdict::Refused(refusal)),
    };
    let id = tx.next_bid()?;
    tx.add_bid(BidRow {
        id: id.get(),
        goods_id: bid.goods.get(),
        seq: accepted.seq,
        user_id: bid.user.get(),
        price: bid.price.won(),
        created_at: bid.received_at.micros(),
    });
    let extended = goods.ends_at != accepted.ends_at;
    goods.take(bid, &accepted);
    if let Some(outbid) = accepted.outbid {
        tx.raise(AlarmKind::Outbid, &goods, None, vec![outbid])?;
    }
    let stored = StoredBid { id, bid: *bid, seq: accepted.seq, high_price: bid.price, ends_at: goods.ends_at };
    tx.tell(Committed::Room(RoomEvent::Bid { bid: stored.clone(), bidder: Arc::clone(bidder) }));
    if extended {
        tx.tell(Committed::Room(RoomEvent::Extended { goods: goods.id, seq: goods.bid_seq, ends_at: goods.ends_at }));
    }
    tx.put_goods(goods);
    Ok(BidVerdict::Accepted(stored))
}
