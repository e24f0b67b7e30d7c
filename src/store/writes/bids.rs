//! Bids of one goods item: the transaction that judges a bid also stores it, its verdict under an idempotency key, and
//! the `outbid` alarm.

use std::sync::Arc;

use super::{
    keys, phases,
    verdict::{BidVerdict, StoredBid},
};
use crate::{
    domain::{AlarmKind, Bid, GoodsId, GoodsState, IdempotencyKey, User, judge},
    store::{Committed, RoomEvent, StoreError, Tx, Write, rows::BidRow},
};

/// Judges and stores bids of one goods item.
#[derive(Debug, Clone)]
pub struct PlaceBids {
    pub goods: GoodsId,
    /// The bids, in the order in which they are judged.
    pub bids: Vec<KeyedBid>,
}

/// A bid with its bidder and its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedBid {
    pub bid: Bid,
    /// The bidder, as known when the bid arrived.
    pub bidder: Arc<User>,
    pub key: Option<IdempotencyKey>,
}

/// Outcome of a [`PlaceBids`].
#[derive(Debug, Clone)]
pub struct PlacedBids {
    /// The goods after the last bid; `None` if they do not exist.
    pub goods: Option<GoodsState>,
    /// One verdict per bid, in the same order.
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

/// Judges a bid with a key only if the key is new, and stores the verdict under it. Keys of earlier bids in the same
/// transaction count too.
fn place_once(tx: &mut Tx<'_>, keyed: &KeyedBid, key: &IdempotencyKey) -> Result<BidVerdict, StoreError> {
    if let Some(found) = keys::find(tx, &keyed.bid, key)? {
        return Ok(found);
    }
    let verdict = place(tx, keyed)?;
    keys::store(tx, &keyed.bid, key, &verdict)?;
    Ok(verdict)
}

fn place(tx: &mut Tx<'_>, KeyedBid { bid, bidder, .. }: &KeyedBid) -> Result<BidVerdict, StoreError> {
    let Some(goods) = tx.goods(bid.goods)? else { return Ok(BidVerdict::UnknownGoods) };
    let mut goods = goods.clone();
    if goods.start_due(bid.received_at) {
        // The bid is ahead of the clock's tick, so the start is recorded here.
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
        seq: accepted.seq.get(),
        user_id: bid.user.get(),
        price: bid.price.won(),
        created_at: bid.received_at.micros(),
    });
    let extended = goods.ends_at != accepted.ends_at;
    goods.apply(bid, &accepted);
    if let Some(outbid) = accepted.outbid {
        tx.raise(AlarmKind::Outbid, &goods, None, vec![outbid])?;
    }
    let stored = StoredBid { id, bid: *bid, seq: accepted.seq, high_price: bid.price, ends_at: goods.ends_at };
    tx.emit(Committed::Room(RoomEvent::Bid { bid: stored.clone(), bidder: Arc::clone(bidder) }));
    if extended {
        tx.emit(Committed::Room(RoomEvent::Extended { goods: goods.id, seq: goods.bid_seq, ends_at: goods.ends_at }));
    }
    tx.set_goods(goods);
    Ok(BidVerdict::Accepted(stored))
}
