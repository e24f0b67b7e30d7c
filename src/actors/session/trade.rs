//! The socket of a trade chat, for the seller and the buyer of ended goods. A message goes to both after it is
//! committed. Once a message is written to a user's socket, it counts as read by that user.

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
    context::{Authenticated, Registration},
    room_input::AlertTo,
    upgrade,
};
use crate::{
    actors::{
        delivery::{encode::encode, outbox::Outbox},
        room_id::RoomId,
        rooms::rooms::Rooms,
    },
    domain::{GoodsId, TradeMessageId, UserId},
    protocol::{Code, Problem, RoomFrame},
    store::{
        Ledger, TradeInfo,
        writes::{MarkMessagesRead, MessageSent, ReadMessages, SendTradeMessage},
    },
};

/// How long it may take to store a message, or to store that messages were read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after messages could not be marked as read, before the next try.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// What a socket of a trade chat needs to open.
pub(crate) struct TradeContext {
    pub goods: GoodsId,
    /// The goods' title, image and price, which the first frame shows.
    pub info: TradeInfo,
    /// The actor that the session joins the room through.
    pub rooms: Addr<Rooms>,
    /// Where messages are stored and marked as read.
    pub ledger: Ledger,
}

/// The state of a socket in a trade chat.
struct TradeRole {
    goods: GoodsId,
    ledger: Ledger,
}

/// Opens a socket of a trade chat.
pub(crate) async fn trade_socket(
    context: SessionContext,
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
    let registration = Registration::in_room(&context, &rooms, (RoomId::Trade(goods), true), Some(first)).await;
    upgrade(context, registration, TradeRole { goods, ledger }, None, handshake)
}

impl Role for TradeRole {
    fn started(session: &mut Session<Self>, ctx: &mut Ctx<Self>) {
        if let Some(Authenticated { user, .. }) = session.context.authenticated {
            let TradeRole { goods, ledger, .. } = &session.role;
            let (outbox, ledger) = (Rc::clone(&session.outbox), ledger.clone());
            let marker = ReadMarker { outbox, ledger, goods: *goods, reader: user };
            ctx.spawn(marker.run().into_actor(session));
        }
    }

    fn text(session: &mut Session<Self>, text: &str, ctx: &mut Ctx<Self>) {
        let Some((frame, user)) = session.accept_frame(text, AlertTo::AlarmSocketsOnly) else { return };
        let goods = session.role.goods;
        match frame.into_trade_text(goods, user.id) {
            Ok(text) => {
                let message = SendTradeMessage { goods, author: user, text };
                let stored = session.role.ledger.write(message, WRITE_TIMEOUT);
                ctx.spawn(stored.into_actor(session).map(|stored, session, _| {
                    let refused = match stored {
                        Ok(MessageSent::Yes) => return,
                        Ok(MessageSent::NotTheirTrade) => {
                            Problem::new(Code::Forbidden, "only the seller and the buyer take part in this trade")
                        }
                        Err(_) => Problem::unavailable("the message could not be stored"),
                    };
                    session.alert(&refused, AlertTo::AlarmSocketsOnly);
                }));
            }
            Err(problem) => session.alert(&problem, AlertTo::AlarmSocketsOnly),
        }
    }
}

/// Marks messages as read once they are written to their reader's socket.
struct ReadMarker {
    outbox: Rc<RefCell<Outbox>>,
    ledger: Ledger,
    goods: GoodsId,
    reader: UserId,
}

impl ReadMarker {
    /// Takes the messages that are written to the socket and not marked yet; `None` if there are none.
    fn take_unmarked(&self) -> Option<Vec<TradeMessageId>> {
        Some(self.outbox.borrow_mut().take_messages_to_mark()).filter(|messages| !messages.is_empty())
    }

    fn mark_read(&self, messages: Vec<TradeMessageId>) -> MarkMessagesRead {
        MarkMessagesRead { goods: self.goods, reader: self.reader, which: ReadMessages::These(messages) }
    }

    /// Marks messages as read until the session ends. Each write covers all messages since the last one, so there are
    /// never more writes than messages.
    async fn run(self) {
        loop {
            let messages = poll_fn(|cx| match self.take_unmarked() {
                Some(messages) => Poll::Ready(messages),
                None => {
                    self.outbox.borrow_mut().set_catch_up_waker(cx.waker());
                    Poll::Pending
                }
            })
            .await;
            if let Err(error) = self.ledger.write(self.mark_read(messages.clone()), WRITE_TIMEOUT).await {
                let Self { goods, reader, .. } = &self;
                log::debug!(goods = goods.get(), user = reader.get(), error:%; "trade messages could not be marked as read");
                self.outbox.borrow_mut().requeue_unmarked(messages);
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

impl Drop for ReadMarker {
    /// Marks the last messages when the session ends.
    fn drop(&mut self) {
        if let Some(messages) = self.take_unmarked() {
            self.ledger.submit(self.mark_read(messages), Instant::now() + WRITE_TIMEOUT, |_| {});
        }
    }
}
