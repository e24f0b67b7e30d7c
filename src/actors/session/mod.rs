//! A session serves one client. Over a WebSocket it is an actor: this file holds what all of them share (incoming
//! frames, token expiry, closes), and a [`Role`] holds what differs.
//!
//! - `heartbeat`: pings, and when a silent client is closed.
//! - `alarm`, `auction`, `trade`: the roles. `room_input` is shared by the two kinds of room.
//! - `sse`: a session over server-sent events, which is a stream, not an actor.
//! - `backlog`: reads the alarms of a session from the store.
//! - `context`: what a session needs to open.
//!
//! Outside this module, `delivery::outbox` holds the frames that wait for the client, and `connection` moves the bytes
//! and handles pongs.
//!
//! A session's actor is polled only while its client takes bytes. So what must happen in any case (dropping frames that
//! overflow, ending a dead socket) never depends on this actor alone.

mod alarm;
mod auction;
mod backlog;
mod context;
mod heartbeat;
mod room_input;
mod sse;
mod trade;

use std::{cell::RefCell, rc::Rc};

use actix::prelude::*;
use actix_http::ws::{Codec, OpCode, Parser, ProtocolError};
use actix_web::{HttpResponse, HttpResponseBuilder};
use actix_web_actors::ws::{Message, WebsocketContext};
use bytes::BytesMut;
use serde::Serialize;

use self::context::Registration;
pub(crate) use self::{
    alarm::alarm_socket,
    auction::{AuctionContext, auction_socket},
    backlog::AlarmContext,
    context::{AuthFuture, AuthOutcome, Authenticated, RateVerdict, SessionContext, SessionLimits, SocketAuth},
    sse::alarm_events,
    trade::{TradeContext, trade_socket},
};
pub(crate) use super::connection::socket_session::SocketSession;
use super::{
    connection::{
        fragments::{Fragments, Joined},
        liveness::Liveness,
        reader::FrameReader,
    },
    delivery::{encode::encode, outbox::Outbox, receipts::Receipts},
};
use crate::{domain::UserId, protocol::Close};

/// The capacity of a session's mailbox. Only its own timers and answers use it.
const MAILBOX_LIMIT: usize = 16;

/// What a kind of socket does on its own.
trait Role: Sized + Unpin + 'static {
    /// Called when the session starts.
    fn started(_: &mut Session<Self>, _: &mut Ctx<Self>) {}

    /// Handles a complete text message.
    fn text(session: &mut Session<Self>, text: &str, ctx: &mut Ctx<Self>);
}

/// The actor of one WebSocket.
struct Session<R: Role> {
    context: SessionContext,
    role: R,
    /// Keeps the session registered until the actor is dropped.
    registration: Rc<Registration>,
    outbox: Rc<RefCell<Outbox>>,
    fragments: Fragments,
    liveness: Rc<Liveness>,
    /// The wait for the token's expiry.
    expiry: Option<SpawnHandle>,
}

type Ctx<R> = WebsocketContext<Session<R>>;

/// Answers an accepted handshake. The session is in the response's extensions, where `http::take_over` finds it.
fn upgrade<R: Role>(
    context: SessionContext,
    registration: Rc<Registration>,
    role: R,
    receipts: Option<(UserId, Receipts)>,
    mut handshake: HttpResponseBuilder,
) -> HttpResponse {
    let frame_bytes = context.limits.frame_bytes;
    let outbox = Rc::clone(&registration.outbox);
    let liveness = Liveness::new(Rc::clone(&outbox), receipts);
    let session = Session {
        context,
        role,
        registration,
        outbox: Rc::clone(&outbox),
        fragments: Fragments::new(frame_bytes),
        liveness: Rc::clone(&liveness),
        expiry: None,
    };
    let codec = Codec::new().max_size(frame_bytes);
    let (reader, inbound) = FrameReader::new(frame_bytes, liveness, Rc::clone(&outbox));
    let actor = WebsocketContext::with_codec(session, inbound, codec);
    let mut response = handshake.finish();
    response.extensions_mut().insert(SocketSession::new(outbox, Box::pin(actor), reader));
    response
}

impl<R: Role> Session<R> {
    /// Closes after the frames that wait.
    fn close(&self, close: Close) {
        self.outbox.borrow_mut().close(close);
    }

    fn send(&self, frame: &impl Serialize) {
        self.outbox.borrow_mut().control(encode(frame));
    }

    fn send_control(&self, payload: &[u8], op: OpCode) {
        let mut frame = BytesMut::with_capacity(payload.len() + 4);
        Parser::write_message(&mut frame, payload, op, true, false);
        self.outbox.borrow_mut().control(frame.freeze());
    }

    /// Closes if the token has expired; true if it has.
    fn close_if_expired(&self) -> bool {
        let has_expired = self.context.has_expired();
        if has_expired {
            self.close(Close::TokenRefused);
        }
        has_expired
    }

    /// Closes when the token expires. Checks again after the wait, because the clock may have been set back.
    fn watch_expiry(&mut self, ctx: &mut Ctx<R>) {
        if let Some(handle) = self.expiry.take() {
            ctx.cancel_future(handle);
        }
        if self.close_if_expired() {
            return;
        }
        let Some(Authenticated { expires_at, .. }) = self.context.authenticated else { return };
        let wait = self.context.time.wait_until(expires_at);
        self.expiry = Some(ctx.spawn(wait.into_actor(self).map(|(), session, ctx| {
            session.expiry = None;
            session.watch_expiry(ctx);
        })));
    }
}

impl<R: Role> Actor for Session<R> {
    type Context = Ctx<R>;

    fn started(&mut self, ctx: &mut Ctx<R>) {
        ctx.set_mailbox_capacity(MAILBOX_LIMIT);
        self.watch_liveness(ctx);
        self.watch_expiry(ctx);
        R::started(self, ctx);
    }
}

impl<R: Role> StreamHandler<Result<Message, ProtocolError>> for Session<R> {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Ctx<R>) {
        self.liveness.touch();
        if self.outbox.borrow().is_closed() {
            return;
        }
        match item {
            Ok(Message::Text(text)) => R::text(self, &text, ctx),
            Ok(Message::Binary(_)) => self.close(Close::Binary),
            Ok(Message::Continuation(item)) => match self.fragments.add(item) {
                Ok(Joined::Incomplete) => {}
                Ok(Joined::Text(text)) => R::text(self, &text, ctx),
                Err(close) => self.close(close),
            },
            Ok(Message::Ping(payload)) => self.send_control(&payload, OpCode::Pong),
            Ok(Message::Pong(payload)) => self.liveness.pong(&payload),
            // The answer repeats the client's code; then the session ends.
            Ok(Message::Close(reason)) => {
                self.outbox.borrow_mut().finish_for_client(reason.as_ref().map(|reason| reason.code.into()));
                ctx.close(reason.map(|reason| reason.code.into()));
                ctx.stop();
            }
            Ok(Message::Nop) => {}
            Err(ProtocolError::Overflow) => self.close(Close::TooLarge),
            // actix reports text that is not UTF-8 this way, and a broken connection too, which can't receive a close
            // anyway.
            Err(ProtocolError::Io(_)) => self.close(Close::NotJson),
            Err(_) => self.close(Close::ProtocolError),
        }
    }
}
