//! One alarm WebSocket: the session actor. Deciding what waits for the client is the `outbox`'s, moving bytes the
//! `body`'s; here stands what a session does with its time and with what its client sends.
//!
//! actix-web-actors polls a session only while its client takes bytes, so nothing that must happen in any case
//! (dropping what overflows, ending a dead socket) may depend on this actor alone.

mod body;
mod fragments;
mod frame_gate;
pub(super) mod outbox;

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_http::ws::{Codec, OpCode, Parser, ProtocolError};
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use actix_web_actors::ws::{Message, WebsocketContext};
use bytes::BytesMut;

use self::{
    body::{Inbound, SocketBody},
    fragments::{Fragments, Joined},
    outbox::{Outbox, OutboxLimits},
};
use super::{
    hub::{AlarmHub, Leave, Received, Register, encode, encode_alarm},
    read_state::mark_read,
    registry::Seat,
    shard::ShardHandle,
};
use crate::{
    domain::{AlarmId, Locale, Timestamp, UserId},
    protocol::{AlarmSocketFrame, Close, ServerFrame},
    store::{Ledger, Store, writes::ReadAlarms},
    time_source::TimeSource,
};

/// Alarms of one page of the backlog.
const PAGE: i64 = 200;
/// Waits between tries to read the store.
const RETRY: Duration = Duration::from_millis(500);
/// Messages that may wait for a session: only its own timers and answers come this way.
const MAILBOX: usize = 16;

/// Settings of sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// `session.heartbeat_s`
    pub heartbeat: Duration,
    /// `session.timeout_s`
    pub timeout: Duration,
    /// `session.max_pending`
    pub max_pending: usize,
    /// `session.max_pending_bytes`
    pub max_pending_bytes: usize,
    /// `limits.frame_bytes`
    pub frame_bytes: usize,
}

/// Whose token it is and until when; `None` if it is refused.
pub type Judged = Pin<Box<dyn Future<Output = Option<(UserId, Timestamp)>>>>;

/// Judges a token that a client sends on a live socket.
pub trait Authenticate {
    /// Looks at the token.
    fn authenticate(&self, token: String) -> Judged;
}

/// What a session needs to open.
pub struct SessionOpening {
    /// The token's user.
    pub user: UserId,
    /// When the token expires.
    pub expires_at: Timestamp,
    /// `?since=`: send what comes after this alarm; without it, what was never received.
    pub since: Option<i64>,
    /// Whether the client wants the `hello` frame.
    pub modern: bool,
    /// This worker's shard.
    pub shard: ShardHandle,
    /// Where the session registers.
    pub hub: Addr<AlarmHub>,
    /// Where the backlog is.
    pub store: Store,
    /// Where what is read is written down.
    pub ledger: Ledger,
    /// The clock.
    pub time: Arc<dyn TimeSource>,
    /// Language of texts.
    pub locale: Locale,
    /// Settings.
    pub limits: SessionLimits,
    /// Judges fresh tokens.
    pub authenticate: Rc<dyn Authenticate>,
}

/// Turns an accepted handshake into a running session.
pub fn alarm_socket(
    opening: SessionOpening,
    mut handshake: HttpResponseBuilder,
    payload: web::Payload,
) -> HttpResponse {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let limits = opening.limits;
    let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let outbox = Rc::new(RefCell::new(Outbox::new(
        OutboxLimits { frames: limits.max_pending, bytes: limits.max_pending_bytes },
        opening.shard.waiting(),
    )));
    let slot = opening.shard.seat(connection, Rc::clone(&outbox));
    let place = Place {
        user: opening.user,
        seat: Seat { shard: opening.shard.index(), slot, connection },
        shard: opening.shard.clone(),
        hub: opening.hub.clone(),
        outbox: Rc::clone(&outbox),
    };
    let payload = Rc::new(RefCell::new(payload));
    let session = AlarmSession {
        opening,
        place: Rc::new(place),
        outbox: Rc::clone(&outbox),
        fragments: Fragments::new(limits.frame_bytes),
        heard_at: Instant::now(),
        received: 0,
        expiry: None,
    };
    let codec = Codec::new().max_size(limits.frame_bytes);
    let inbound = Inbound::new(Rc::clone(&payload), limits.frame_bytes, Rc::clone(&outbox));
    let actor = WebsocketContext::with_codec(session, inbound, codec);
    handshake.streaming(SocketBody::new(outbox, Box::pin(actor), payload))
}

/// A session's seat, given back when the session goes, however it goes.
struct Place {
    user: UserId,
    seat: Seat,
    shard: ShardHandle,
    hub: Addr<AlarmHub>,
    outbox: Rc<RefCell<Outbox>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.outbox.borrow_mut().finish();
        self.shard.unseat(self.seat.slot, self.seat.connection);
        self.hub.do_send(Leave { user: self.user, connection: self.seat.connection });
    }
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

    /// The session's own course: register, greet, and from then on read the store whenever it has to.
    fn feed(&self) -> impl Future<Output = ()> + use<> {
        let feed = Feed {
            outbox: Rc::clone(&self.outbox),
            place: Rc::clone(&self.place),
            store: self.opening.store.clone(),
            time: Arc::clone(&self.opening.time),
            locale: self.opening.locale,
            since: self.opening.since,
            hello: self.opening.modern.then_some(self.opening.limits.heartbeat.as_secs()),
            page: PAGE.min(i64::try_from(self.opening.limits.max_pending).unwrap_or(PAGE)).max(1),
        };
        feed.run()
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
            Ok(AlarmSocketFrame::Read(up_to)) => self.read(up_to, ctx),
            Ok(AlarmSocketFrame::Ping) => self.send(&ServerFrame::Pong { server_time: self.opening.time.now() }),
            Ok(AlarmSocketFrame::Auth(token)) => self.renew(token, ctx),
            Ok(AlarmSocketFrame::Unknown) => {}
            Err(_) => self.close(Close::NotJson),
        }
    }

    fn read(&self, up_to: i64, ctx: &mut Ctx) {
        let SessionOpening { ledger, store, hub, user, .. } = &self.opening;
        let marking = mark_read(ledger.clone(), store.clone(), hub.clone(), *user, ReadAlarms::UpTo(up_to));
        // One at a time: a client that sends many waits for each.
        ctx.wait(marking.into_actor(self).map(|marked, _, _| {
            if let Err(error) = marked {
                log::warn!("alarms could not be marked as read: {error}");
            }
        }));
    }

    fn renew(&mut self, token: String, ctx: &mut Ctx) {
        let judged = self.opening.authenticate.authenticate(token);
        ctx.wait(judged.into_actor(self).map(|judged, session, ctx| match judged {
            Some((user, expires_at)) if user == session.opening.user => {
                session.opening.expires_at = expires_at;
                session.send(&ServerFrame::Auth { exp: expires_at.secs() });
                session.watch_expiry(ctx);
            }
            _ => session.close(Close::TokenRefused),
        }));
    }
}

impl Actor for AlarmSession {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.watch_life(ctx);
        self.watch_expiry(ctx);
        ctx.spawn(self.feed().into_actor(self));
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

/// Registers a session and keeps its outbox fed from the store.
struct Feed {
    outbox: Rc<RefCell<Outbox>>,
    place: Rc<Place>,
    store: Store,
    time: Arc<dyn TimeSource>,
    locale: Locale,
    since: Option<i64>,
    /// The heartbeat in seconds, if the client wants a `hello`.
    hello: Option<u64>,
    page: i64,
}

impl Feed {
    async fn run(self) {
        // First register, then read: what is committed from here on is at least noted.
        let register = Register { user: self.place.user, seat: self.place.seat };
        let received = match self.place.hub.send(register).await {
            Ok(Ok(admitted)) => admitted.received,
            Ok(Err(_)) => return self.outbox.borrow_mut().close(Close::TooManySockets),
            Err(_) => return self.outbox.borrow_mut().close(Close::TryAgainLater),
        };
        let start = loop {
            match self.store.session_start(self.place.user, self.since, received).await {
                Ok(start) if start.is_active => break start,
                // He was made inactive between the handshake and here.
                Ok(_) => return self.outbox.borrow_mut().close(Close::TokenRefused),
                Err(error) => log::warn!("a session can't read its inbox yet: {error}"),
            }
            tokio::time::sleep(RETRY).await;
        };
        self.outbox.borrow_mut().begin_after(start.cursor);
        // What no longer holds is left out of the never-received replay, but not of `since`.
        let superseded_after = if self.since.is_some() { 0 } else { start.last_id };
        if let Some(heartbeat_s) = self.hello {
            let hello = ServerFrame::Hello {
                user_id: self.place.user,
                last_id: start.last_id,
                unread: start.unread,
                server_time: self.time.now(),
                heartbeat_s,
            };
            self.outbox.borrow_mut().control(encode(&hello));
        }
        while self.needed().await {
            self.read_on(superseded_after).await;
        }
    }

    /// Waits until the store has to be read; false when the session is over.
    async fn needed(&self) -> bool {
        poll_fn(|cx| {
            let mut outbox = self.outbox.borrow_mut();
            outbox.set_catch_up(cx.waker());
            match (outbox.is_closed(), outbox.wants_catch_up()) {
                (true, _) => Poll::Ready(false),
                // The next page is read when this one has left: a slow client holds one page, not its whole backlog.
                (false, true) if outbox.is_empty() => Poll::Ready(true),
                _ => Poll::Pending,
            }
        })
        .await
    }

    async fn read_on(&self, superseded_after: i64) {
        let cursor = self.outbox.borrow_mut().begin_reading();
        match self.store.backlog(self.place.user, cursor, superseded_after, self.page).await {
            Ok(alarms) => {
                let is_last = (alarms.len() as i64) < self.page;
                let encode = |(alarm, superseded): &(_, bool)| encode_alarm(alarm, *superseded, self.locale);
                let page = alarms.iter().map(|one| (one.0.id.get(), encode(one))).collect();
                let mut outbox = self.outbox.borrow_mut();
                outbox.put_page(page);
                if is_last {
                    outbox.end_of_list();
                }
            }
            Err(error) => {
                log::warn!("a session can't read its backlog yet: {error}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
