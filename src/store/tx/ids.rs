//! The ids that a transaction gives out. They come from counters in the database, and rise in commit order.

use super::Tx;
use crate::{
    domain::{AlarmId, BidId, GoodsId, LineId, TradeMessageId, TradeRoomId},
    store::{StoreError, rows::Counters},
};

macro_rules! next_ids {
    ($($name:ident, $counter:ident -> $id:ident;)+) => {
        impl Tx<'_> {
            $(pub(crate) fn $name(&mut self) -> Result<$id, StoreError> {
                let counters = self.counters()?;
                counters.$counter += 1;
                Ok($id::from_stored(counters.$counter))
            })+
        }
    };
}

next_ids! {
    next_bid, bid -> BidId;
    next_alarm, alarm -> AlarmId;
    next_goods, goods -> GoodsId;
    next_trade_room, trade_room -> TradeRoomId;
    next_line, line -> LineId;
    next_trade_message, trade_message -> TradeMessageId;
}

impl Tx<'_> {
    pub(crate) fn next_like_id(&mut self) -> Result<i64, StoreError> {
        let counters = self.counters()?;
        counters.like_mark += 1;
        Ok(counters.like_mark)
    }

    /// Id of the newest like. Likes after it do not belong to an audience that is fixed now.
    pub(crate) fn newest_like(&mut self) -> Result<i64, StoreError> {
        Ok(self.counters()?.like_mark)
    }

    fn counters(&mut self) -> Result<&mut Counters, StoreError> {
        let counters = match self.counters {
            Some(counters) => counters,
            None => *self.counters_before.insert(Counters::read(self.conn)?),
        };
        Ok(self.counters.insert(counters))
    }
}
