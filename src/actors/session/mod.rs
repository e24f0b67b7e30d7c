//! Sessions. A WebSocket's is an actor: the shell that all of them share is here (frames in, life, expiry, closes), and
//! what its socket is for is its role: `alarm`, `auction`, `trade`. Over server-sent events it is a stream (`sse`).
//! `delivery::outbox` decides what waits for the client, `backlog` feeds an alarm session from the store, `connection` moves
//! its bytes and hears what its pongs prove.
//!
//! actix-web-actors polls a session only while its client takes bytes, so nothing that must happen in any case
//! (dropping what overflows, ending a dead socket) may depend on this actor alone.

mod alarm;
mod auction;
mod backlog;
mod context;
mod room_input;
mod sse;
mod trade;

use std::{cell::RefCell, rc::Rc, time::Duration};

use actix::prelude::*;
use actix_http::ws::{Codec, OpCode, Parser, ProtocolError};
use actix_web::{HttpResponse, HttpResponseBuilder};
use actix_web_actors::ws::{Message, WebsocketContext};
use bytes::BytesMut;
use serde::Serialize;

use self::context::Registration;
pub use self::{
    alarm::alarm_socket,
    auction::{AuctionContext, auction_socket},
    backlog::AlarmContext,
    context::{AuthFuture, AuthOutcome, RateVerdict, SessionContext, SessionLimits, Signed, SocketAuth},
    sse::alarm_events,
    trade::{TradeContext, trade_socket},
};
pub use super::connection::socket::SocketSession;
use super::delivery::{encode::encode, received::Receipts};
use super::{
    connection::{
        fragments::{Fragments, Joined},
        liveness::Liveness,
        reader::FrameReader,
    },
    delivery::outbox::Outbox,
};
use crate::{domain::UserId, protocol::Close};

/// Messages that may wait for a session: only its own timers and answers come this way.
const MAILBOX: usize = 16;

/// What a socket is for.
trait Role: Sized + Unpin + 'static {
    /// The session has begun.
    fn started(_: &mut Session<Self>, _: &mut Ctx<Self>) {}

    /// A whole text frame has come in.
    fn text(session: &mut Session<Self>, text: &str, ctx: &mut Ctx<Self>);
}

/// One WebSocket.
struct Session<R: Role> {
    opening: SessionContext,
    role: R,
    /// Held until the session is gone.
    place: Rc<Registration>,
    outbox: Rc<RefCell<Outbox>>,
    fragments: Fragments,
    proof: Rc<Liveness>,
    expiry: Option<SpawnHandle>,
}

type Ctx<R> = WebsocketContext<Session<R>>;

/// Answers an accepted handshake, with the session as the answer's extension: whoever has the connection carries it.
fn upgrade<R: Role>(
    opening: SessionContext,
    place: Rc<Registration>,
    role: R,
    receipts: Option<(UserId, Receipts)>,
    mut handshake: HttpResponseBuilder,
) -> HttpResponse {
    let frame_bytes = opening.limits.frame_bytes;
    let outbox = Rc::clone(&place.outbox);
    let proof = Liveness::new(Rc::clone(&outbox), receipts);
    let session = Session {
        opening,
        role,
        place,
        outbox: Rc::clone(&outbox),
        fragments: Fragments::new(frame_bytes),
        proof: Rc::clone(&proof),
        expiry: None,
    };
    let codec = Codec::new().max_size(frame_bytes);
    let (ear, inbound) = FrameReader::new(frame_bytes, proof, Rc::clone(&outbox));
    let actor = WebsocketContext::with_codec(session, inbound, codec);
    let mut response = handshake.finish();
    response.extensions_mut().insert(SocketSession::new(outbox, Box::pin(actor), ear));
    response
}

impl<R: Role> Session<R> {
    fn close(&self, close: Close) {
        self.outbox.borrow_mut().close(close);
    }

    fn send(&self, frame: &impl Serialize) {
        self.outbox.borrow_mut().control(encode(frame));
    }

    fn control(&self, payload: &[u8], op: OpCode) {
        let mut frame = BytesMut::with_capacity(payload.len() + 4);
        Parser::write_message(&mut frame, payload, op, true, false);
        self.outbox.borrow_mut().control(frame.freeze());
    }

    /// Pings while the client is there, closes when it has been silent for too long.
    fn watch_life(&self, ctx: &mut Ctx<R>) {
        let SessionLimits { heartbeat, timeout, .. } = self.opening.limits;
        ctx.run_interval(heartbeat, |session, _| {
            // A wait for a time does not notice that the clock is set.
            session.close_if_expired();
            let taken = session.outbox.borrow().taken();
            session.control(taken.to_string().as_bytes(), OpCode::Ping);
        });
        self.watch_silence(timeout, ctx);
    }

    fn watch_silence(&self, wait: Duration, ctx: &mut Ctx<R>) {
        ctx.run_later(wait, |session, ctx| {
            let silent = session.proof.silent_for();
            match session.opening.limits.timeout.checked_sub(silent) {
                Some(left) if !left.is_zero() => session.watch_silence(left, ctx),
                _ => session.close(Close::Silent),
            }
        });
    }

    /// Closes if the token has expired by the clock as it is now; true if it has.
    fn close_if_expired(&self) -> bool {
        let has = self.opening.signed.is_some_and(|signed| self.opening.time.now() >= signed.expires_at);
        if has {
            self.close(Close::TokenRefused);
        }
        has
    }

    /// Closes when the token expires; looked at again when the wait is over, for it may have been renewed.
    fn watch_expiry(&mut self, ctx: &mut Ctx<R>) {
        if let Some(handle) = self.expiry.take() {
            ctx.cancel_future(handle);
        }
        if self.close_if_expired() {
            return;
        }
        let Some(Signed { expires_at, .. }) = self.opening.signed else { return };
        let wait = self.opening.time.wait_until(expires_at);
        self.expiry = Some(ctx.spawn(wait.into_actor(self).map(|(), session, ctx| {
            session.expiry = None;
            session.watch_expiry(ctx);
        })));
    }
}

impl<R: Role> Actor for Session<R> {
    type Context = Ctx<R>;

    fn started(&mut self, ctx: &mut Ctx<R>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.watch_life(ctx);
        self.watch_expiry(ctx);
        R::started(self, ctx);
    }
}

impl<R: Role> StreamHandler<Result<Message, ProtocolError>> for Session<R> {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Ctx<R>) {
        self.proof.lives();
        if self.outbox.borrow().is_closed() {
            return;
        }
        match item {
            Ok(Message::Text(text)) => R::text(self, &text, ctx),
            Ok(Message::Binary(_)) => self.close(Close::Binary),
            Ok(Message::Continuation(item)) => match self.fragments.add(item) {
                Ok(Joined::More) => {}
                Ok(Joined::Text(text)) => R::text(self, &text, ctx),
                Err(close) => self.close(close),
            },
            Ok(Message::Ping(payload)) => self.control(&payload, OpCode::Pong),
            Ok(Message::Pong(payload)) => self.proof.pong(&payload),
            // Answered with the same code; then the session ends.
            Ok(Message::Close(reason)) => {
                self.outbox.borrow_mut().finish();
                ctx.close(reason.map(|reason| reason.code.into()));
                ctx.stop();
            }
            Ok(Message::Nop) => {}
            Err(ProtocolError::Overflow) => self.close(Close::TooLarge),
            // actix reports text that is not UTF-8 this way; a broken connection too, where no close arrives anyway.
            Err(ProtocolError::Io(_)) => self.close(Close::NotJson),
            Err(_) => self.close(Close::ProtocolError),
        }
    }
}
