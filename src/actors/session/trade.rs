//! The socket of a trade chat, for seller and buyer of ended goods. What is written goes to both sides after the commit;
//! what has been written to the other side's socket is read.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::{
    Ctx, Role, Session, SessionContext,
    context::{Registration, Signed},
    room_input::Heard,
    upgrade,
};
use crate::actors::delivery::outbox::Outbox;
use crate::{
    actors::{delivery::encode::encode, room_id::RoomId, rooms::rooms::Rooms},
    domain::{GoodsId, TradeMessageId, UserId},
    protocol::{Code, Problem, RoomFrame},
    store::{
        Ledger, TradeInfo,
        writes::{ReadMessages, ReadTrade, SendTradeMessage},
    },
};

/// How long a message, or that it was read, may take to be stored.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what has been read waits when it could not be stored.
const RETRY: Duration = Duration::from_millis(500);

/// What a socket of a trade chat needs to open.
pub struct TradeContext {
    /// About which goods.
    pub goods: GoodsId,
    /// What the client is shown first.
    pub info: TradeInfo,
    /// The rooms.
    pub rooms: Addr<Rooms>,
    /// Where messages are stored.
    pub ledger: Ledger,
}

/// What a socket of a trade chat knows.
struct TradeRole {
    goods: GoodsId,
    ledger: Ledger,
}

/// Opens a socket of a trade chat.
pub async fn trade_socket(
    opening: SessionContext,
    trade: TradeContext,
    handshake: HttpResponseBuilder,
) -> HttpResponse {
    let TradeContext { goods, info, rooms, ledger } = trade;
    let first = encode(&RoomFrame::GoodsInfo {
        image: info.image.as_deref(),
        high_price: info.high_price,
        title: &info.title,
        goods_id: goods,
    });
    let place = Registration::in_room(&opening, &rooms, (RoomId::Trade(goods), true), Some(first)).await;
    upgrade(opening, place, TradeRole { goods, ledger }, None, handshake)
}

impl Role for TradeRole {
    fn started(session: &mut Session<Self>, ctx: &mut Ctx<Self>) {
        if let Some(Signed { user, .. }) = session.opening.signed {
            let TradeRole { goods, ledger, .. } = &session.role;
            let (outbox, ledger) = (Rc::clone(&session.outbox), ledger.clone());
            let taken = Taken { outbox, ledger, goods: *goods, reader: user };
            ctx.spawn(taken.write_on().into_actor(session));
        }
    }

    fn text(session: &mut Session<Self>, text: &str, ctx: &mut Ctx<Self>) {
        let Some((spoken, user)) = session.listen(text, Heard::Elsewhere) else { return };
        let goods = session.role.goods;
        match spoken.in_trade(goods, user.id) {
            Ok(text) => {
                let message = SendTradeMessage { goods, author: user, text };
                let stored = session.role.ledger.write(message, PATIENCE);
                ctx.spawn(stored.into_actor(session).map(|stored, session, _| {
                    let refused = match stored {
                        Ok(true) => return,
                        Ok(false) => Problem::new(Code::Forbidden, "not your trade"),
                        Err(_) => Problem::unavailable("the message could not be stored"),
                    };
                    session.alert(&refused, Heard::Elsewhere);
                }));
            }
            Err(problem) => session.alert(&problem, Heard::Elsewhere),
        }
    }
}

/// What the socket has taken and its user has therefore read.
struct Taken {
    outbox: Rc<RefCell<Outbox>>,
    ledger: Ledger,
    goods: GoodsId,
    reader: UserId,
}

impl Taken {
    /// What is to be marked, if anything is.
    fn unmarked(&self) -> Option<Vec<i64>> {
        Some(self.outbox.borrow_mut().take_messages()).filter(|messages| !messages.is_empty())
    }

    fn read(&self, messages: &[i64]) -> ReadTrade {
        let messages = messages.iter().copied().map(TradeMessageId::from_stored).collect();
        ReadTrade { goods: self.goods, reader: self.reader, which: ReadMessages::These(messages) }
    }

    /// Marks it for as long as the session lives, one write after the other: there are no more of them than messages.
    async fn write_on(self) {
        loop {
            let messages = poll_fn(|cx| match self.unmarked() {
                Some(messages) => Poll::Ready(messages),
                None => {
                    self.outbox.borrow_mut().set_catch_up(cx.waker());
                    Poll::Pending
                }
            })
            .await;
            if let Err(error) = self.ledger.write(self.read(&messages), PATIENCE).await {
                log::debug!("messages could not be marked as read: {error}");
                self.outbox.borrow_mut().not_after_all(messages);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

impl Drop for Taken {
    /// What was taken last is marked although the session is over.
    fn drop(&mut self) {
        if let Some(messages) = self.unmarked() {
            self.ledger.submit(self.read(&messages), Instant::now() + PATIENCE, |_| {});
        }
    }
}
