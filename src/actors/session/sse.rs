//! A session over server-sent events. It uses the same outbox and `Backlog` as an alarm socket. The client sends
//! nothing back, so this session never proves that alarms were received.

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
    context::{Authenticated, REGISTRATION_TIMEOUT, Registration, SessionContext},
};
use crate::{
    actors::delivery::{
        encode::payload,
        frame::{CHUNK_BYTES, FrameKind},
        outbox::Outbox,
    },
    bus::IfFull,
    domain::Timestamp,
    protocol::Close,
    time_source::TimeSource,
};

/// Opens a session over server-sent events. It ends when the token expires, or when `disconnected` is ready.
///
/// # Errors
/// 4409 if the user already has as many sockets as they may have: a stream never evicts a socket. 1013 if no session
/// can be opened now.
pub(crate) async fn alarm_events(
    context: &SessionContext,
    alarms: &AlarmContext,
    authenticated: Authenticated,
    disconnected: BoxedWait,
) -> Result<HttpResponse, Close> {
    let registration = Registration::for_alarms(context, authenticated.user);
    let backlog = Backlog::new(context, alarms, Rc::clone(&registration));
    let registered = timeout(REGISTRATION_TIMEOUT, backlog.register(IfFull::RefuseNewest)).await;
    let admitted = registered
        .unwrap_or(Err(Close::TryAgainLater))
        .inspect_err(|close| registration.outbox.borrow_mut().close(*close))?;
    let mut heartbeat = tokio::time::interval(context.limits.heartbeat);
    heartbeat.reset();
    let body = EventBody {
        outbox: Rc::clone(&registration.outbox),
        running: Some((Box::pin(backlog.run_admitted(admitted).fuse()), registration)),
        disconnected,
        heartbeat,
        time: Arc::clone(&context.time),
        expires_at: authenticated.expires_at,
        expiry: context.time.wait_until(authenticated.expires_at),
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // A proxy that buffers would delay every alarm.
        .insert_header((header::HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(body))
}

/// A future to wait for, without a result.
pub(super) type BoxedWait = Pin<Box<dyn Future<Output = ()>>>;

/// The response body: a stream of events.
struct EventBody {
    outbox: Rc<RefCell<Outbox>>,
    /// The running `Backlog`, and the registration; `None` when the session has ended.
    running: Option<(BoxedWait, Rc<Registration>)>,
    /// Is ready when the client has ended the connection. actix-http does not notify a body of that.
    disconnected: BoxedWait,
    heartbeat: Interval,
    time: Arc<dyn TimeSource>,
    expires_at: Timestamp,
    expiry: BoxedWait,
}

/// The last event of a stream, with the code and reason of a close frame.
#[derive(Serialize)]
struct CloseEvent {
    code: u16,
    reason: String,
}

impl EventBody {
    /// Takes waiting frames from the outbox and formats them as events.
    fn take_events(&self) -> Option<Bytes> {
        let mut outbox = self.outbox.borrow_mut();
        let mut events = BytesMut::new();
        while events.len() < CHUNK_BYTES {
            let Some(frame) = outbox.take_one() else { break };
            if let FrameKind::Alarm(id) = frame.kind {
                events.extend_from_slice(format!("id: {id}\n").as_bytes());
            }
            events.extend_from_slice(b"data: ");
            // The payload is compact JSON, which has no line break.
            events.extend_from_slice(&payload(&frame.bytes));
            events.extend_from_slice(b"\n\n");
        }
        (!events.is_empty()).then(|| events.freeze())
    }

    fn close_event(close: Close) -> Bytes {
        let retry = match close {
            Close::Restarting { retry_ms } => format!("retry: {retry_ms}\n"),
            _ => String::new(),
        };
        let event = CloseEvent { code: close.code(), reason: close.reason() };
        // serde_json can't fail on plain data with fixed keys.
        let event = serde_json::to_string(&event).unwrap_or_default();
        Bytes::from(format!("{retry}event: close\ndata: {event}\n\n"))
    }

    fn has_expired(&self) -> bool {
        self.time.now() >= self.expires_at
    }

    /// Whether the token has expired; if not, the task is woken then. If the clock was set back, the wait begins again.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        while self.expiry.as_mut().poll(cx).is_ready() {
            if self.has_expired() {
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
        let Some((backlog, _)) = &mut this.running else { return Poll::Ready(None) };
        if this.disconnected.as_mut().poll(cx).is_ready() {
            // Removes the registration.
            this.running = None;
            return Poll::Ready(None);
        }
        // The backlog ends when the outbox is closed, which is checked below.
        let _ = backlog.as_mut().poll(cx);
        if this.poll_expired(cx) {
            this.outbox.borrow_mut().close(Close::TokenRefused);
        }
        if let Some(events) = this.take_events() {
            // The backlog may have waited for the outbox to empty, so it is polled again.
            cx.waker().wake_by_ref();
            return Poll::Ready(Some(Ok(events)));
        }
        let due_close = this.outbox.borrow().due_close();
        if let Some(close) = due_close {
            // Removes the registration.
            this.running = None;
            return Poll::Ready(Some(Ok(Self::close_event(close))));
        }
        this.outbox.borrow_mut().set_socket_waker(cx.waker());
        if this.heartbeat.poll_tick(cx).is_ready() {
            // The wait for the expiry does not notice when the clock is set forward.
            if this.has_expired() {
                this.outbox.borrow_mut().close(Close::TokenRefused);
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Some(Ok(Bytes::from_static(b": \n\n"))));
        }
        Poll::Pending
    }
}
