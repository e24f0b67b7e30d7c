//! The start, the last minute and the end of an auction: each once, whoever comes first (clock or bid).

use diesel::{insert_into, prelude::*, update};

use super::{
    fan_out::{self, Audience},
    users,
};
use crate::{
    domain::{AlarmKind, GoodsId, GoodsState, Phase, Sender, TradeRoomId, UserId, end_alarms},
    store::{Committed, RoomEvent, StoreError, Tx, Write, schema},
};

/// Starts an auction if its start is due.
#[derive(Debug, Clone, Copy)]
pub struct StartAuction(pub GoodsId);

impl Write for StartAuction {
    /// The goods after it; `None` if there are none.
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

/// Records the start and alarms who likes the goods now.
pub(super) fn start(tx: &mut Tx<'_>, goods: &mut GoodsState) -> Result<(), StoreError> {
    if goods.advance(Phase::Live) {
        tx.put_goods(goods.clone());
        tx.tell(Committed::Room(RoomEvent::Started(goods.id)));
        let max_like = tx.like_mark()?;
        fan_out::begin(tx, AlarmKind::AuctionStarted, goods, Audience { max_like, max_bid_seq: 0 })?;
    }
    Ok(())
}

/// Raises `ending_soon` if it is due: to likers and bidders, once.
#[derive(Debug, Clone, Copy)]
pub struct RaiseEndingSoon(pub GoodsId);

impl Write for RaiseEndingSoon {
    /// The goods after it; `None` if there are none.
    type Out = Option<GoodsState>;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let now = tx.now();
        let Some(goods) = tx.goods(self.0)? else { return Ok(None) };
        let mut goods = goods.clone();
        let due = goods.ending_soon_at().is_some_and(|at| at <= now);
        if due && goods.phase == Phase::Live && !goods.end_due(now) {
            goods.ending_soon_done = true;
            tx.put_goods(goods.clone());
            let max_like = tx.like_mark()?;
            fan_out::begin(tx, AlarmKind::EndingSoon, &goods, Audience { max_like, max_bid_seq: goods.bid_seq })?;
        }
        Ok(Some(goods))
    }
}

/// Ends an auction if its end is due; reads `ends_at` again, for a bid may have moved it.
#[derive(Debug, Clone, Copy)]
pub struct EndAuction(pub GoodsId);

/// What became of an [`EndAuction`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It has ended, now or before.
    Yes(GoodsState),
    /// The end lies later.
    NotYet(GoodsState),
    /// No such goods.
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
        tx.put_goods(goods.clone());
        let trade_room = open_trade_room(tx, &goods)?;
        for (kind, receivers) in end_alarms(&goods, &bidders(tx, goods.id)?) {
            tx.raise(kind, &goods, trade_room, receivers)?;
        }
        let buyer = match goods.lead {
            Some(lead) => Some(Sender { id: lead.user, name: users::name(tx, lead.user)? }),
            None => None,
        };
        let high_price = goods.lead.map(|lead| lead.price);
        tx.tell(Committed::Room(RoomEvent::Ended { goods: goods.id, seq: goods.bid_seq, buyer, high_price }));
        Ok(Ended::Yes(goods))
    }
}

/// A trade room for seller and buyer; none without a buyer.
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

fn bidders(tx: &mut Tx<'_>, goods: GoodsId) -> Result<Vec<UserId>, StoreError> {
    use schema::bidders::dsl;
    // Bids of this very transaction count too.
    tx.flush()?;
    let of_goods = dsl::bidders.filter(dsl::goods_id.eq(goods.get()));
    let ids: Vec<i64> = of_goods.select(dsl::user_id).order(dsl::user_id).load(tx.conn)?;
    Ok(ids.into_iter().map(UserId::from_stored).collect())
}
