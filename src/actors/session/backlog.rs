//! Runs a session that receives alarms, over a WebSocket or as server-sent events. It registers the session with the
//! hub, sends the `hello` frame, and then reads alarms from the store whenever the session has to catch up.

use std::{cell::RefCell, future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use actix::Addr;

use super::context::{Registration, SessionContext, SocketAuth};
use crate::{
    actors::delivery::{
        alarm_hub::{Admitted, AlarmHub, Register, SetLocale, TooManySockets},
        encode::{encode, encode_alarm},
        outbox::Outbox,
        registry::SessionLocation,
    },
    bus::IfFull,
    domain::{Locale, UserId},
    protocol::{Close, ServerFrame},
    store::{BacklogPage, Ledger, Store},
    time_source::TimeSource,
};

/// The most alarms of one page of the backlog.
const PAGE_LIMIT: i64 = 200;
/// The pause before the store is read again after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// What a session that receives alarms needs to open.
pub(crate) struct AlarmContext {
    pub user: UserId,
    /// `?since=`: the session begins after this alarm. `None`: it begins after the last alarm received.
    pub since: Option<i64>,
    /// Whether the session begins with a `hello` frame.
    pub wants_hello: bool,
    pub store: Store,
    /// Where it is written what the user has read.
    pub ledger: Ledger,
}

/// Registers one session and fills its outbox from the store.
pub(crate) struct Backlog {
    outbox: Rc<RefCell<Outbox>>,
    /// Keeps the session registered for as long as this runs.
    _registration: Rc<Registration>,
    location: SessionLocation,
    user: UserId,
    hub: Addr<AlarmHub>,
    store: Store,
    time: Arc<dyn TimeSource>,
    auth: Rc<dyn SocketAuth>,
    since: Option<i64>,
    /// The heartbeat in seconds, for the `hello` frame; `None`: the client wants none.
    hello_heartbeat_s: Option<u64>,
    /// The most alarms of one page.
    page_limit: i64,
}

impl Backlog {
    pub(crate) fn new(context: &SessionContext, alarms: &AlarmContext, registration: Rc<Registration>) -> Self {
        Self {
            outbox: Rc::clone(&registration.outbox),
            location: registration.location,
            _registration: registration,
            user: alarms.user,
            hub: context.hub.clone(),
            store: alarms.store.clone(),
            time: Arc::clone(&context.time),
            auth: Rc::clone(&context.auth),
            since: alarms.since,
            hello_heartbeat_s: alarms.wants_hello.then_some(context.limits.heartbeat.as_secs()),
            page_limit: PAGE_LIMIT.min(i64::try_from(context.limits.max_pending).unwrap_or(PAGE_LIMIT)).max(1),
        }
    }

    /// Registers the session. This comes before the first read of the store, so no alarm is missed between the two.
    ///
    /// # Errors
    /// The close to send if the session cannot be registered.
    pub(crate) async fn register(&self, if_full: IfFull) -> Result<Admitted, Close> {
        let (user, location, at) = (self.user, self.location, self.time.now());
        let locale = self.chosen_locale();
        match self.hub.send(Register { user, location, receives_alarms: true, if_full, locale, at }).await {
            Ok(Ok(admitted)) => {
                // The user may have changed it since. From here on the hub knows the session and receives changes.
                let now = self.chosen_locale();
                if now != locale {
                    self.hub.do_send(SetLocale { user, locale: now });
                }
                Ok(admitted)
            }
            Ok(Err(TooManySockets)) => Err(Close::TooManySockets),
            Err(_) => Err(Close::TryAgainLater),
        }
    }

    /// The language that the user has chosen, as last known.
    fn chosen_locale(&self) -> Option<Locale> {
        self.auth.user().and_then(|user| user.locale)
    }

    /// Registers the session and runs until it ends.
    pub(crate) async fn run(self) {
        match self.register(IfFull::EvictOldest).await {
            Ok(admitted) => self.run_admitted(admitted).await,
            Err(close) => self.outbox.borrow_mut().close(close),
        }
    }

    /// Runs a registered session until it ends.
    pub(crate) async fn run_admitted(self, Admitted { received }: Admitted) {
        let start = loop {
            match self.store.session_start(self.user, self.since, received).await {
                Ok(start) if start.is_active => break start,
                // An admin has made the user inactive since the handshake.
                Ok(_) => return self.outbox.borrow_mut().close(Close::TokenRefused),
                Err(error) => log::debug!(user = self.user.get(), error:%; "an inbox can't be read yet, trying again"),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        };
        self.outbox.borrow_mut().begin_after(start.cursor);
        // Superseded alarms are left out of what the user has not received, but not of what `since` asks for.
        let superseded_after = if self.since.is_some() { 0 } else { start.last_id };
        if let Some(heartbeat_s) = self.hello_heartbeat_s {
            let hello = ServerFrame::Hello {
                user_id: self.user,
                last_id: start.last_id,
                unread: start.unread,
                server_time: self.time.now(),
                heartbeat_s,
            };
            self.outbox.borrow_mut().control(encode(&hello));
        }
        while self.wait_for_catch_up().await {
            self.read_page(superseded_after).await;
        }
    }

    /// Waits until the session has to read the store; false when the session has ended.
    async fn wait_for_catch_up(&self) -> bool {
        poll_fn(|cx| {
            let mut outbox = self.outbox.borrow_mut();
            outbox.set_catch_up_waker(cx.waker());
            match (outbox.is_closed(), outbox.wants_catch_up()) {
                (true, _) => Poll::Ready(false),
                // The next page is read when this one is sent, so a slow client holds one page, not its backlog.
                (false, true) if outbox.is_empty() => Poll::Ready(true),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Reads the next page after the cursor into the outbox.
    async fn read_page(&self, superseded_after: i64) {
        let cursor = self.outbox.borrow_mut().begin_reading();
        match self.store.backlog(self.user, cursor, superseded_after, self.page_limit).await {
            Ok(BacklogPage { alarms, locale }) => {
                let is_last = (alarms.len() as i64) < self.page_limit;
                let locale = locale.unwrap_or_else(|| self.auth.default_locale());
                let encode = |(alarm, superseded): &(_, bool)| encode_alarm(alarm, *superseded, locale);
                let page = alarms.iter().map(|one| (one.0.id, encode(one)));
                let mut outbox = self.outbox.borrow_mut();
                outbox.put_page(page);
                if is_last {
                    outbox.reached_inbox_end();
                }
            }
            Err(error) => {
                log::debug!(user = self.user.get(), error:%; "a backlog can't be read yet, trying again");
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}
