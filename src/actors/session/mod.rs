//! One session of one user: over a WebSocket an actor (here), over server-sent events a stream (`events`). Deciding what
//! waits for the client is the `outbox`'s, the session's course the `feed`'s, moving bytes the `body`'s.
//!
//! actix-web-actors polls a session only while its client takes bytes, so nothing that must happen in any case
//! (dropping what overflows, ending a dead socket) may depend on this actor alone.

mod body;
mod events;
mod feed;
mod fragments;
mod frame_gate;
mod opening;
pub(super) mod outbox;

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_http::ws::{Codec, OpCode, Parser, ProtocolError};
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use actix_web_actors::ws::{Message, WebsocketContext};
use bytes::BytesMut;

use self::{
    body::{Inbound, SocketBody},
    feed::Feed,
    fragments::{Fragments, Joined},
    opening::Place,
    outbox::Outbox,
};
pub use self::{
    events::alarm_events,
    opening::{Authenticate, Judged, Judgement, SessionLimits, SessionOpening},
};
use super::{
    hub::{Received, encode},
    read_state::mark_read,
};
use crate::{
    domain::AlarmId,
    protocol::{AlarmSocketFrame, Close, ServerFrame},
    store::writes::ReadAlarms,
};

/// Messages that may wait for a session: only its own timers and answers come this way.
const MAILBOX: usize = 16;
/// Between two writes of what a client has read.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// Turns an accepted handshake into a running session.
pub fn alarm_socket(
    opening: SessionOpening,
    mut handshake: HttpResponseBuilder,
    payload: web::Payload,
) -> HttpResponse {
    let frame_bytes = opening.limits.frame_bytes;
    let place = Place::take(&opening);
    let outbox = Rc::clone(&place.outbox);
    let payload = Rc::new(RefCell::new(payload));
    let session = AlarmSession {
        opening,
        place,
        outbox: Rc::clone(&outbox),
        fragments: Fragments::new(frame_bytes),
        heard_at: Instant::now(),
        received: 0,
        expiry: None,
        read_up_to: 0,
        reading: false,
    };
    let codec = Codec::new().max_size(frame_bytes);
    let inbound = Inbound::new(Rc::clone(&payload), frame_bytes, Rc::clone(&outbox));
    let actor = WebsocketContext::with_codec(session, inbound, codec);
    handshake.streaming(SocketBody::new(outbox, Box::pin(actor), payload))
}

/// One WebSocket of one user.
pub struct AlarmSession {
    opening: SessionOpening,
    place: Rc<Place>,
    outbox: Rc<RefCell<Outbox>>,
    fragments: Fragments,
    /// The last sign of life.
    heard_at: Instant,
    /// The last alarm whose receipt has been reported.
    received: i64,
    expiry: Option<SpawnHandle>,
    /// Read up to here, not yet written; and whether that is under way or soon will be.
    read_up_to: i64,
    reading: bool,
}

type Ctx = WebsocketContext<AlarmSession>;

impl AlarmSession {
    fn close(&self, close: Close) {
        self.outbox.borrow_mut().close(close);
    }

    fn send(&self, frame: &ServerFrame) {
        self.outbox.borrow_mut().control(encode(frame));
    }

    fn control(&self, payload: &[u8], op: OpCode) {
        let mut frame = BytesMut::with_capacity(payload.len() + 4);
        Parser::write_message(&mut frame, payload, op, true, false);
        self.outbox.borrow_mut().control(frame.freeze());
    }

    /// Pings while the client is there, closes when it has been silent for too long.
    fn watch_life(&self, ctx: &mut Ctx) {
        let SessionLimits { heartbeat, timeout, .. } = self.opening.limits;
        ctx.run_interval(heartbeat, |session, _| {
            let taken = session.outbox.borrow().taken();
            session.control(taken.to_string().as_bytes(), OpCode::Ping);
        });
        self.watch_silence(timeout, ctx);
    }

    fn watch_silence(&self, wait: Duration, ctx: &mut Ctx) {
        ctx.run_later(wait, |session, ctx| {
            let silent = session.heard_at.elapsed();
            match session.opening.limits.timeout.checked_sub(silent) {
                Some(left) if !left.is_zero() => session.watch_silence(left, ctx),
                _ => session.close(Close::Silent),
            }
        });
    }

    /// Closes when the token expires; looked at again when the wait is over, for it may have been renewed.
    fn watch_expiry(&mut self, ctx: &mut Ctx) {
        if let Some(handle) = self.expiry.take() {
            ctx.cancel_future(handle);
        }
        let now = self.opening.time.now();
        if now >= self.opening.expires_at {
            self.close(Close::TokenRefused);
            return;
        }
        // Not longer at once, so that a clock that is set is noticed.
        let wait = self.opening.time.wait_until(self.opening.expires_at.min(now.plus_ms(60_000)));
        self.expiry = Some(ctx.spawn(wait.into_actor(self).map(|(), session, ctx| {
            session.expiry = None;
            session.watch_expiry(ctx);
        })));
    }

    /// The client has said or proved that it has everything up to this alarm. Nobody can have what was not sent.
    fn received(&mut self, up_to: i64) {
        if up_to > self.received
            && let Some(id) = AlarmId::new(up_to)
        {
            self.received = up_to;
            self.place.hub.do_send(Received { user: self.opening.user, up_to: id });
        }
    }

    fn text(&mut self, text: &str, ctx: &mut Ctx) {
        match AlarmSocketFrame::parse(text) {
            Ok(AlarmSocketFrame::Ack(up_to)) => {
                let last = self.outbox.borrow().acknowledgeable();
                self.received(up_to.min(last));
            }
            Ok(AlarmSocketFrame::Read(up_to)) => {
                self.read_up_to = self.read_up_to.max(up_to);
                self.write_read(ctx);
            }
            Ok(AlarmSocketFrame::Ping) => self.send(&ServerFrame::Pong { server_time: self.opening.time.now() }),
            Ok(AlarmSocketFrame::Auth(token)) => self.renew(token, ctx),
            Ok(AlarmSocketFrame::Unknown) => {}
            Err(_) => self.close(Close::NotJson),
        }
    }

    /// Writes what was read, and what is read meanwhile in one go after a pause: however many frames a client sends,
    /// they cost the ledger a few entries a second.
    fn write_read(&mut self, ctx: &mut Ctx) {
        if self.reading || self.read_up_to == 0 {
            return;
        }
        self.reading = true;
        let up_to = std::mem::take(&mut self.read_up_to);
        let SessionOpening { ledger, store, hub, user, .. } = &self.opening;
        let marking = mark_read(ledger.clone(), store.clone(), hub.clone(), *user, ReadAlarms::UpTo(up_to));
        ctx.spawn(marking.into_actor(self).map(|marked, _, ctx| {
            if let Err(error) = marked {
                log::warn!("alarms could not be marked as read: {error}");
            }
            ctx.run_later(READ_PAUSE, |session, ctx| {
                session.reading = false;
                session.write_read(ctx);
            });
        }));
    }

    fn renew(&mut self, token: String, ctx: &mut Ctx) {
        let judged = self.opening.authenticate.authenticate(token);
        ctx.wait(judged.into_actor(self).map(|judged, session, ctx| match judged {
            Judgement::Good(user, expires_at) if user == session.opening.user => {
                session.opening.expires_at = expires_at;
                session.send(&ServerFrame::Auth { exp: expires_at.secs() });
                session.watch_expiry(ctx);
            }
            Judgement::Good(..) | Judgement::Refused => session.close(Close::TokenRefused),
            // The token may be good: the socket stays for as long as the old one holds, and the client asks again.
            Judgement::Unknown => {}
        }));
    }
}

impl Actor for AlarmSession {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.watch_life(ctx);
        self.watch_expiry(ctx);
        ctx.spawn(Feed::new(&self.opening, &self.place).run().into_actor(self));
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for AlarmSession {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Ctx) {
        self.heard_at = Instant::now();
        if self.outbox.borrow().is_closed() {
            return;
        }
        match item {
            Ok(Message::Text(text)) => self.text(&text, ctx),
            Ok(Message::Binary(_)) => self.close(Close::Binary),
            Ok(Message::Continuation(item)) => match self.fragments.add(item) {
                Ok(Joined::More) => {}
                Ok(Joined::Text(text)) => self.text(&text, ctx),
                Err(close) => self.close(close),
            },
            Ok(Message::Ping(payload)) => self.control(&payload, OpCode::Pong),
            Ok(Message::Pong(payload)) => {
                let asked: Option<i64> = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
                let last = self.outbox.borrow().taken();
                self.received(asked.unwrap_or(0).min(last));
            }
            // Answered with the same code; then the body ends.
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
