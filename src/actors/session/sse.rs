//! A session over server-sent events: the same outbox and the same course as a socket's, on another wire. It proves
//! no receipt: nothing comes back over it.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{Error, HttpResponse, http::header};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream};
use serde::Serialize;
use tokio::time::{Interval, timeout};

use super::{
    backlog::{AlarmContext, Backlog},
    context::{PATIENCE, Registration, SessionContext, Signed},
};
use crate::actors::delivery::outbox::Outbox;
use crate::{
    actors::delivery::encode::payload, bus::IfFull, domain::Timestamp, protocol::Close, time_source::TimeSource,
};

/// Most bytes handed to the connection at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Opens a session over server-sent events, for as long as the token holds and the client is not `gone`.
///
/// # Errors
/// The user has as many sockets as he may have, to which a stream gives way (4409), or none can be opened now (1013).
pub async fn alarm_events(
    opening: &SessionContext,
    alarms: &AlarmContext,
    signed: Signed,
    gone: Waiting,
) -> Result<HttpResponse, Close> {
    let place = Registration::for_alarms(opening, signed.user);
    let feed = Backlog::new(opening, alarms, Rc::clone(&place));
    let registered = timeout(PATIENCE, feed.register(IfFull::NewestGoes)).await;
    let admitted = registered.unwrap_or(Err(Close::TryAgainLater))?;
    let mut heartbeat = tokio::time::interval(opening.limits.heartbeat);
    heartbeat.reset();
    let body = EventBody {
        outbox: Rc::clone(&place.outbox),
        running: Some((Box::pin(feed.run_admitted(admitted).fuse()), place)),
        gone,
        heartbeat,
        time: Arc::clone(&opening.time),
        expires_at: signed.expires_at,
        expiry: opening.time.wait_until(signed.expires_at),
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // A proxy that gathers would make every alarm late.
        .insert_header((header::HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(body))
}

/// Something that is waited for.
pub type Waiting = Pin<Box<dyn Future<Output = ()>>>;

struct EventBody {
    outbox: Rc<RefCell<Outbox>>,
    /// The course and the seat; none when it is over.
    running: Option<(Waiting, Rc<Registration>)>,
    /// Resolves when the client has ended the connection, which a body is not told of otherwise.
    gone: Waiting,
    heartbeat: Interval,
    time: Arc<dyn TimeSource>,
    expires_at: Timestamp,
    expiry: Waiting,
}

/// What a client is told before the stream ends: the same as a close frame says.
#[derive(Serialize)]
struct Goodbye {
    code: u16,
    reason: String,
}

impl EventBody {
    /// What waits, as events.
    fn waiting(&self) -> Option<Bytes> {
        let mut outbox = self.outbox.borrow_mut();
        let mut events = BytesMut::new();
        while events.len() < CHUNK_BYTES {
            let Some(frame) = outbox.take_one() else { break };
            if frame.id > 0 {
                events.extend_from_slice(format!("id: {}\n", frame.id).as_bytes());
            }
            events.extend_from_slice(b"data: ");
            // Compact JSON has no line break.
            events.extend_from_slice(&payload(&frame.bytes));
            events.extend_from_slice(b"\n\n");
        }
        (!events.is_empty()).then(|| events.freeze())
    }

    fn goodbye(close: Close) -> Bytes {
        let retry = match close {
            Close::Restarting { retry_ms } => format!("retry: {retry_ms}\n"),
            _ => String::new(),
        };
        let goodbye = Goodbye { code: close.code(), reason: close.reason() };
        // Plain data whose keys are fixed: serde_json can't fail on it.
        let goodbye = serde_json::to_string(&goodbye).unwrap_or_default();
        Bytes::from(format!("{retry}event: close\ndata: {goodbye}\n\n"))
    }

    fn is_expired(&self) -> bool {
        self.time.now() >= self.expires_at
    }

    /// Expired by the clock as it is now; a clock that was set back is waited for again.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        while self.expiry.as_mut().poll(cx).is_ready() {
            if self.is_expired() {
                return true;
            }
            self.expiry = self.time.wait_until(self.expires_at);
        }
        false
    }
}

impl Stream for EventBody {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some((course, _)) = &mut this.running else { return Poll::Ready(None) };
        if this.gone.as_mut().poll(cx).is_ready() {
            // Gives the seat back.
            this.running = None;
            return Poll::Ready(None);
        }
        // It ends when the outbox is closed, which is seen below.
        let _ = course.as_mut().poll(cx);
        if this.poll_expired(cx) {
            this.outbox.borrow_mut().close(Close::TokenRefused);
        }
        if let Some(events) = this.waiting() {
            // What the course was waiting for may have left: it is polled again before the next wait.
            cx.waker().wake_by_ref();
            return Poll::Ready(Some(Ok(events)));
        }
        let due_close = this.outbox.borrow().due_close();
        if let Some(close) = due_close {
            // Gives the seat back.
            this.running = None;
            return Poll::Ready(Some(Ok(Self::goodbye(close))));
        }
        this.outbox.borrow_mut().set_reader(cx.waker());
        if this.heartbeat.poll_tick(cx).is_ready() {
            // A wait for a time does not notice that the clock is set.
            if this.is_expired() {
                this.outbox.borrow_mut().close(Close::TokenRefused);
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Some(Ok(Bytes::from_static(b": \n\n"))));
        }
        Poll::Pending
    }
}
