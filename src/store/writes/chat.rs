//! What people write: lines of an auction room, messages of a trade with their alarm, and what the other side has read.

use std::sync::Arc;

use diesel::{dsl::not, insert_into, prelude::*, update};

use crate::{
    domain::{Alarm, GoodsId, LineText, Sender, TradeMessageId, TradeText, User, UserId},
    store::{Committed, RoomEvent, StoreError, Tx, Write, schema},
};

/// A line in an auction room, in whatever phase.
#[derive(Debug, Clone)]
pub struct SayLine {
    /// In whose room.
    pub goods: GoodsId,
    /// Who says it.
    pub author: Arc<User>,
    /// What.
    pub text: LineText,
}

impl Write for SayLine {
    /// False if there are no such goods (any more).
    type Out = bool;

    fn run(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        if tx.goods(self.goods)?.is_none() {
            return Ok(false);
        }
        let id = tx.next_line()?;
        let at = tx.now();
        {
            use schema::room_lines::dsl;
            insert_into(dsl::room_lines)
                .values((
                    dsl::id.eq(id.get()),
                    dsl::goods_id.eq(self.goods.get()),
                    dsl::author_id.eq(self.author.id.get()),
                    dsl::content.eq(self.text.as_str()),
                    dsl::created_at.eq(at.micros()),
                ))
                .execute(tx.conn)?;
        }
        tx.tell(Committed::Room(RoomEvent::Line {
            goods: self.goods,
            id,
            author: Arc::clone(&self.author),
            text: self.text.clone(),
            at,
        }));
        Ok(true)
    }
}

/// A message from one side of a trade to the other; its alarm is stored with it.
#[derive(Debug, Clone)]
pub struct SendTradeMessage {
    /// About which goods.
    pub goods: GoodsId,
    /// Who writes.
    pub author: Arc<User>,
    /// What.
    pub text: TradeText,
}

impl Write for SendTradeMessage {
    /// False if the author is on neither side of a trade of these goods.
    type Out = bool;

    fn run(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let sides: Option<(i64, i64)> = {
            use schema::trade_rooms::dsl;
            dsl::trade_rooms
                .filter(dsl::goods_id.eq(self.goods.get()))
                .select((dsl::seller_id, dsl::buyer_id))
                .get_result(tx.conn)
                .optional()?
        };
        let author = self.author.id.get();
        let other = match sides {
            Some((seller, buyer)) if author == seller => buyer,
            Some((seller, buyer)) if author == buyer => seller,
            _ => return Ok(false),
        };
        let Some(goods) = tx.goods(self.goods)?.cloned() else { return Ok(false) };
        let id = tx.next_trade_message()?;
        let at = tx.now();
        {
            use schema::trade_messages::dsl;
            insert_into(dsl::trade_messages)
                .values((
                    dsl::id.eq(id.get()),
                    dsl::goods_id.eq(self.goods.get()),
                    dsl::author_id.eq(author),
                    dsl::content.eq(self.text.as_str()),
                    dsl::created_at.eq(at.micros()),
                    dsl::is_read.eq(false),
                ))
                .execute(tx.conn)?;
        }
        {
            use schema::trade_rooms::dsl;
            update(dsl::trade_rooms.filter(dsl::goods_id.eq(self.goods.get())))
                .set((dsl::last_message_id.eq(id.get()), dsl::active_at.eq(at.micros())))
                .execute(tx.conn)?;
        }
        let sender = Sender { id: self.author.id, name: self.author.username.clone() };
        let alarm = Alarm::chat(tx.next_alarm()?, &goods, sender, self.text.as_str().to_owned(), at);
        tx.add_alarm(alarm, vec![UserId::from_stored(other)]);
        tx.tell(Committed::Room(RoomEvent::TradeMessage {
            goods: self.goods,
            id,
            author: Arc::clone(&self.author),
            text: self.text.clone(),
            at,
        }));
        Ok(true)
    }
}

/// Which messages somebody has read.
#[derive(Debug, Clone)]
pub enum ReadMessages {
    /// All up to this one.
    UpTo(TradeMessageId),
    /// These.
    These(Vec<TradeMessageId>),
}

/// One side of a trade has read messages of the other; what is read stays read.
#[derive(Debug, Clone)]
pub struct ReadTrade {
    /// About which goods.
    pub goods: GoodsId,
    /// Who has read.
    pub reader: UserId,
    /// Which of them.
    pub which: ReadMessages,
}

impl Write for ReadTrade {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        use schema::trade_messages::dsl;
        let of_other = dsl::goods_id.eq(self.goods.get()).and(dsl::author_id.ne(self.reader.get()));
        let unread = of_other.and(not(dsl::is_read));
        match &self.which {
            ReadMessages::UpTo(last) => {
                let seen = dsl::trade_messages.filter(unread.and(dsl::id.le(last.get())));
                update(seen).set(dsl::is_read.eq(true)).execute(tx.conn)?;
            }
            ReadMessages::These(messages) => {
                for some in messages.chunks(500) {
                    let seen = unread.and(dsl::id.eq_any(some.iter().map(|id| id.get())));
                    update(dsl::trade_messages.filter(seen)).set(dsl::is_read.eq(true)).execute(tx.conn)?;
                }
            }
        }
        Ok(())
    }
}
