//! The course of a session, over whatever wire: register, greet, and from then on read the store whenever it has to.

use std::{cell::RefCell, future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use actix::Addr;

use super::context::{Registration, SessionContext, SocketAuth};
use crate::actors::delivery::{frame::Frame, outbox::Outbox};
use crate::{
    actors::delivery::{
        alarm_hub::{Admitted, AlarmHub, Register, TooManySockets},
        encode::{encode, encode_alarm},
        registry::Seat,
    },
    bus::IfFull,
    domain::UserId,
    protocol::{Close, ServerFrame},
    store::{Ledger, Store},
    time_source::TimeSource,
};

/// Alarms of one page of the backlog.
const PAGE: i64 = 200;
/// Waits between tries to read the store.
const RETRY: Duration = Duration::from_millis(500);

/// What a session that hears alarms needs to open, over a WebSocket or as server-sent events.
pub struct AlarmContext {
    /// The token's user.
    pub user: UserId,
    /// `?since=`: send what comes after this alarm; without it, what was never received.
    pub since: Option<i64>,
    /// Whether the client wants the `hello` frame.
    pub modern: bool,
    /// Where the backlog is.
    pub store: Store,
    /// Where what is read is written down.
    pub ledger: Ledger,
}

/// Registers a session and keeps its outbox fed from the store.
pub(crate) struct Backlog {
    outbox: Rc<RefCell<Outbox>>,
    /// The seat is held for as long as there is a course.
    _place: Rc<Registration>,
    seat: Seat,
    user: UserId,
    hub: Addr<AlarmHub>,
    store: Store,
    time: Arc<dyn TimeSource>,
    doorkeeper: Rc<dyn SocketAuth>,
    since: Option<i64>,
    /// The heartbeat in seconds, if the client wants a `hello`.
    hello: Option<u64>,
    page: i64,
}

impl Backlog {
    /// What the session does with its place.
    pub(crate) fn new(opening: &SessionContext, alarms: &AlarmContext, place: Rc<Registration>) -> Self {
        Self {
            outbox: Rc::clone(&place.outbox),
            seat: place.seat,
            _place: place,
            user: alarms.user,
            hub: opening.hub.clone(),
            store: alarms.store.clone(),
            time: Arc::clone(&opening.time),
            doorkeeper: Rc::clone(&opening.doorkeeper),
            since: alarms.since,
            hello: alarms.modern.then_some(opening.limits.heartbeat.as_secs()),
            page: PAGE.min(i64::try_from(opening.limits.max_pending).unwrap_or(PAGE)).max(1),
        }
    }

    /// Registers the session, before anything is read: what is committed from then on is at least noted.
    ///
    /// # Errors
    /// How it has to close.
    pub(crate) async fn register(&self, if_full: IfFull) -> Result<Admitted, Close> {
        let (user, seat, at) = (self.user, self.seat, self.time.now());
        match self.hub.send(Register { user, seat, hears_alarms: true, if_full, at }).await {
            Ok(Ok(admitted)) => Ok(admitted),
            Ok(Err(TooManySockets)) => Err(Close::TooManySockets),
            Err(_) => Err(Close::TryAgainLater),
        }
    }

    /// Registers the session and runs until it is over.
    pub(crate) async fn run(self) {
        match self.register(IfFull::OldestGoes).await {
            Ok(admitted) => self.run_admitted(admitted).await,
            Err(close) => self.outbox.borrow_mut().close(close),
        }
    }

    /// Runs until the session, which is registered, is over.
    pub(crate) async fn run_admitted(self, Admitted { received }: Admitted) {
        let start = loop {
            match self.store.session_start(self.user, self.since, received).await {
                Ok(start) if start.is_active => break start,
                // He was made inactive between the handshake and here.
                Ok(_) => return self.outbox.borrow_mut().close(Close::TokenRefused),
                Err(error) => log::debug!("a session can't read its inbox yet: {error}"),
            }
            tokio::time::sleep(RETRY).await;
        };
        self.outbox.borrow_mut().begin_after(start.cursor);
        // What no longer holds is left out of the never-received replay, but not of `since`.
        let superseded_after = if self.since.is_some() { 0 } else { start.last_id };
        if let Some(heartbeat_s) = self.hello {
            let hello = ServerFrame::Hello {
                user_id: self.user,
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
        match self.store.backlog(self.user, cursor, superseded_after, self.page).await {
            Ok(alarms) => {
                let is_last = (alarms.len() as i64) < self.page;
                let locale = self.doorkeeper.locale();
                let encode = |(alarm, superseded): &(_, bool)| encode_alarm(alarm, *superseded, locale);
                let page = alarms.iter().map(|one| Frame::new(one.0.id.get(), encode(one))).collect();
                let mut outbox = self.outbox.borrow_mut();
                outbox.put_page(page);
                if is_last {
                    outbox.end_of_list();
                }
            }
            Err(error) => {
                log::debug!("a session can't read its backlog yet: {error}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
