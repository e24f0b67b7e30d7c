//! The phase changes of an auction: its start, its last minute, its end. Each is recorded once. The clock or a bid may
//! ask for one first; asking again, or too early, changes nothing.

use diesel::{insert_into, prelude::*, update};

use super::{
    fan_out::{self, Audience},
    users,
};
use crate::{
    domain::{AlarmKind, GoodsId, GoodsState, Phase, Sender, TradeRoomId, UserId, end_alarms},
    store::{Committed, RoomEvent, StoreError, Tx, Write, schema},
};

/// Starts an auction if its start is due, and raises `auction_started` for its likers.
#[derive(Debug, Clone, Copy)]
pub struct StartAuction(pub GoodsId);

impl Write for StartAuction {
    /// The goods afterwards; `None` if they do not exist.
    type Out = Option<GoodsState>;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let now = tx.now();
        let Some(goods) = tx.goods(self.0)? else { return Ok(None) };
        let mut goods = goods.clone();
        if goods.start_due(now) {
            start(tx, &mut goods)?;
        }
        Ok(Some(goods))
    }
}

/// Records the start, and raises `auction_started` for everybody who likes the goods now.
pub(super) fn start(tx: &mut Tx<'_>, goods: &mut GoodsState) -> Result<(), StoreError> {
    if goods.advance(Phase::Live) {
        tx.set_goods(goods.clone());
        tx.emit(Committed::Room(RoomEvent::Started(goods.id)));
        let max_like = tx.newest_like()?;
        let audience = Audience::OfGoods { goods: goods.id, max_like, max_bid_seq: None, also: None };
        fan_out::raise(tx, AlarmKind::AuctionStarted, goods, &audience)?;
    }
    Ok(())
}

/// Raises `ending_soon` for likers and bidders, once, if it is due.
#[derive(Debug, Clone, Copy)]
pub struct RaiseEndingSoon(pub GoodsId);

impl Write for RaiseEndingSoon {
    /// The goods afterwards; `None` if they do not exist.
    type Out = Option<GoodsState>;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let now = tx.now();
        let Some(goods) = tx.goods(self.0)? else { return Ok(None) };
        let mut goods = goods.clone();
        let due = goods.ending_soon_at().is_some_and(|at| at <= now);
        if due && goods.phase == Phase::Live && !goods.end_due(now) {
            goods.ending_soon_done = true;
            tx.set_goods(goods.clone());
            let max_like = tx.newest_like()?;
            let max_bid_seq = Some(goods.bid_seq);
            let audience = Audience::OfGoods { goods: goods.id, max_like, max_bid_seq, also: None };
            fan_out::raise(tx, AlarmKind::EndingSoon, &goods, &audience)?;
        }
        Ok(Some(goods))
    }
}

/// Ends an auction if its end is due. Reads `ends_at` in the transaction, because a bid may have moved it. Phase,
/// buyer, trade room and alarms change together.
#[derive(Debug, Clone, Copy)]
pub struct EndAuction(pub GoodsId);

/// Outcome of an [`EndAuction`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The auction has ended, now or earlier.
    Yes(GoodsState),
    NotYet(GoodsState),
    UnknownGoods,
}

impl Write for EndAuction {
    type Out = Ended;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Ended, StoreError> {
        let now = tx.now();
        let Some(goods) = tx.goods(self.0)? else { return Ok(Ended::UnknownGoods) };
        let mut goods = goods.clone();
        if goods.phase == Phase::Ended {
            return Ok(Ended::Yes(goods));
        }
        if !goods.end_due(now) || !goods.advance(Phase::Ended) {
            return Ok(Ended::NotYet(goods));
        }
        tx.set_goods(goods.clone());
        let trade_room = open_trade_room(tx, &goods)?;
        for (kind, receivers) in end_alarms(&goods, &bidders(tx, goods.id)?) {
            tx.raise(kind, &goods, trade_room, receivers)?;
        }
        let buyer = match goods.lead {
            Some(lead) => Some(Sender { id: lead.user, name: users::name(tx, lead.user)? }),
            None => None,
        };
        let high_price = goods.lead.map(|lead| lead.price);
        tx.emit(Committed::Room(RoomEvent::Ended { goods: goods.id, seq: goods.bid_seq, buyer, high_price }));
        Ok(Ended::Yes(goods))
    }
}

/// Opens a trade room for seller and buyer; `None` if nobody bid.
fn open_trade_room(tx: &mut Tx<'_>, goods: &GoodsState) -> Result<Option<TradeRoomId>, StoreError> {
    let Some(lead) = goods.lead else { return Ok(None) };
    let room = tx.next_trade_room()?;
    {
        use schema::trade_rooms::dsl;
        insert_into(dsl::trade_rooms)
            .values((
                dsl::id.eq(room.get()),
                dsl::goods_id.eq(goods.id.get()),
                dsl::seller_id.eq(goods.seller.get()),
                dsl::buyer_id.eq(lead.user.get()),
                dsl::created_at.eq(tx.now().micros()),
                dsl::active_at.eq(tx.now().micros()),
            ))
            .execute(tx.conn)?;
    }
    use schema::goods::dsl;
    update(dsl::goods.filter(dsl::id.eq(goods.id.get()))).set(dsl::trade_room_id.eq(room.get())).execute(tx.conn)?;
    Ok(Some(room))
}

/// Everybody who has bid on the goods, each user once.
fn bidders(tx: &mut Tx<'_>, goods: GoodsId) -> Result<Vec<UserId>, StoreError> {
    use schema::bidders::dsl;
    // Bids that this transaction accepted earlier count too.
    tx.flush()?;
    let of_goods = dsl::bidders.filter(dsl::goods_id.eq(goods.get()));
    let ids: Vec<i64> = of_goods.select(dsl::user_id).order(dsl::user_id).load(tx.conn)?;
    Ok(ids.into_iter().map(UserId::from_stored).collect())
}
