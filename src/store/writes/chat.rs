//! Chat: lines of an auction room, messages of a trade with their alarm, and which messages the other side has read.

use std::sync::Arc;

use diesel::{dsl::not, insert_into, prelude::*, update};

use crate::{
    domain::{Alarm, GoodsId, LineText, Sender, TradeMessageId, TradeText, User, UserId},
    store::{Committed, RoomEvent, StoreError, Tx, Write, schema},
};

/// Stores a line that a user says in an auction room. Lines are allowed in every phase.
#[derive(Debug, Clone)]
pub struct SayLine {
    pub goods: GoodsId,
    pub author: Arc<User>,
    pub text: LineText,
}

/// Outcome of a [`SayLine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineSaid {
    Yes,
    /// The goods do not exist or have been deleted.
    UnknownGoods,
}

impl Write for SayLine {
    type Out = LineSaid;

    fn run(&self, tx: &mut Tx<'_>) -> Result<LineSaid, StoreError> {
        if tx.goods(self.goods)?.is_none() {
            return Ok(LineSaid::UnknownGoods);
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
        tx.emit(Committed::Room(RoomEvent::Line {
            goods: self.goods,
            id,
            author: Arc::clone(&self.author),
            text: self.text.clone(),
            at,
        }));
        Ok(LineSaid::Yes)
    }
}

/// Stores a message from one side of a trade to the other, together with its alarm.
#[derive(Debug, Clone)]
pub struct SendTradeMessage {
    pub goods: GoodsId,
    /// The seller or the buyer.
    pub author: Arc<User>,
    pub text: TradeText,
}

/// Outcome of a [`SendTradeMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageSent {
    Yes,
    /// The goods are not sold, or the author is neither their seller nor their buyer.
    NotTheirTrade,
}

impl Write for SendTradeMessage {
    type Out = MessageSent;

    fn run(&self, tx: &mut Tx<'_>) -> Result<MessageSent, StoreError> {
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
            _ => return Ok(MessageSent::NotTheirTrade),
        };
        let Some(goods) = tx.goods(self.goods)?.cloned() else { return Ok(MessageSent::NotTheirTrade) };
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
        tx.emit(Committed::Room(RoomEvent::TradeMessage {
            goods: self.goods,
            id,
            author: Arc::clone(&self.author),
            text: self.text.clone(),
            at,
        }));
        Ok(MessageSent::Yes)
    }
}

/// The messages to mark as read.
#[derive(Debug, Clone)]
pub(crate) enum ReadMessages {
    UpTo(TradeMessageId),
    These(Vec<TradeMessageId>),
}

/// Marks messages as read that one side of a trade got from the other. Nothing makes them unread again.
#[derive(Debug, Clone)]
pub(crate) struct MarkMessagesRead {
    pub goods: GoodsId,
    pub reader: UserId,
    /// The messages that they have read; their own are skipped.
    pub which: ReadMessages,
}

impl Write for MarkMessagesRead {
    type Out = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        use schema::trade_messages::dsl;
        let of_other = dsl::goods_id.eq(self.goods.get()).and(dsl::author_id.ne(self.reader.get()));
        let unread = of_other.and(not(dsl::is_read));
        match &self.which {
            ReadMessages::UpTo(last) => {
                let read = dsl::trade_messages.filter(unread.and(dsl::id.le(last.get())));
                update(read).set(dsl::is_read.eq(true)).execute(tx.conn)?;
            }
            ReadMessages::These(messages) => {
                for ids in messages.chunks(500) {
                    let read = unread.and(dsl::id.eq_any(ids.iter().map(|id| id.get())));
                    update(dsl::trade_messages.filter(read)).set(dsl::is_read.eq(true)).execute(tx.conn)?;
                }
            }
        }
        Ok(())
    }
}
