//! A client's connection while it speaks HTTP, between actix-http and the kernel. It changes three things in what
//! actix-http does:
//!
//! - It reports its end ([`ConnectionEnd`]). actix-http keeps the end to itself, so a long response (server-sent
//!   events) would notice it only at the next failed write.
//! - It answers malformed requests with a problem body, as all other errors are. actix-http writes only a head.
//! - It closes an idle connection: silently if no request has begun, with 408 if a request head is incomplete.
//!   actix-http sends 408 in both cases, and waits forever for the rest of any head but the first.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_codec::{AsyncRead, AsyncWrite, ReadBuf};
use actix_http::body::BoxBody;
use actix_web::{dev::Extensions, rt::net::TcpStream};
use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    connection_end::ConnectionEnd,
    open_connections::ConnectionPermit,
    plain_response::PlainResponse,
    refusal::{bare_refusal, head_too_slow, refusal, too_many_connections},
    request_log::{RequestId, log_unrouted},
    responding::{HttpState, SharedHttpState},
};
use crate::{
    actors::{ByteSource, Connection},
    protocol::Problem,
};

/// How long a request head may take, from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A client's connection that speaks HTTP.
pub(crate) struct HttpConnection {
    /// `None` once the connection has ended or left HTTP.
    socket: Option<(TcpStream, ConnectionPermit)>,
    end: ConnectionEnd,
    state: SharedHttpState,
    /// The state that the timer was set for.
    timed: HttpState,
    timer: Pin<Box<Sleep>>,
    keep_alive: Duration,
    /// Whether the kernel has yet to take the rest of a response.
    is_unsent: bool,
}

impl HttpConnection {
    /// A connection that was just accepted. It is closed after `keep_alive` without a request.
    pub(crate) fn new(tcp: TcpStream, permit: ConnectionPermit, keep_alive: Duration) -> Self {
        Self {
            socket: Some((tcp, permit)),
            end: ConnectionEnd::default(),
            state: SharedHttpState(Rc::new(Cell::new(HttpState::Idle))),
            timed: HttpState::Idle,
            timer: Box::pin(sleep(keep_alive)),
            keep_alive,
            is_unsent: false,
        }
    }

    /// Tells the client of a connection that its address has too many, and closes it.
    pub(crate) fn refuse(tcp: TcpStream, permit: ConnectionPermit, keep_alive: Duration) {
        Self::new(tcp, permit, keep_alive).abort(Some(&too_many_connections()));
    }

    /// Puts the connection's end and its HTTP state into the data that its requests can read.
    pub(crate) fn add_request_data(&self, data: &mut Extensions) {
        data.insert(self.end.clone());
        data.insert(self.state.clone());
    }

    /// Serves the connection from another source from here on, in a task of its own.
    pub(super) fn leave_http(&mut self, source: impl ByteSource, head: Bytes) {
        if let Some((tcp, mut permit)) = self.socket.take() {
            permit.leave_http();
            actix_web::rt::spawn(Connection::new(tcp, source, head, permit));
        }
    }

    /// Writes the head and the body, and then closes the connection in order.
    pub(super) fn end_with(&mut self, body: BoxBody, head: Bytes) {
        self.leave_http(PlainResponse::new(body, self.end.clone()), head);
    }

    /// Ends the connection for actix-http. If there is a reason, the client is sent it and gets time to read it.
    fn abort(&mut self, reason: Option<&Problem>) {
        self.end.resolve();
        match reason {
            Some(problem) => {
                let id = RequestId::random();
                if let Some((tcp, permit)) = &self.socket {
                    permit.count_bare_refusal(problem.status());
                    log_unrouted(&id, problem.status(), tcp.peer_addr().ok());
                }
                self.end_with(BoxBody::new(()), refusal(problem, &id));
            }
            None => self.socket = None,
        }
    }

    fn state(&self) -> HttpState {
        if self.is_unsent { HttpState::Responding } else { self.state.0.get() }
    }

    /// Is ready when the client has taken too long, with the state in which it did.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<HttpState> {
        let state = self.state();
        let limit = match state {
            HttpState::Idle => self.keep_alive,
            HttpState::ReadingHead => HEAD_TIMEOUT,
            HttpState::Responding => {
                self.timed = state;
                return Poll::Pending;
            }
        };
        if self.timed != state {
            self.timed = state;
            self.timer.as_mut().reset(Instant::now() + limit);
        }
        self.timer.as_mut().poll(cx).map(|()| state)
    }
}

impl AsyncRead for HttpConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some((tcp, _)) = &mut self.socket else { return Poll::Ready(Ok(())) };
        let (before, asked) = (buf.filled().len(), buf.remaining());
        let read = Pin::new(tcp).poll_read(cx, buf);
        match &read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                if self.state() == HttpState::Idle {
                    self.state.0.set(HttpState::ReadingHead);
                }
            }
            Poll::Ready(Ok(())) if asked == 0 => {}
            Poll::Ready(_) => self.end.resolve(),
            // Checked only now, so that bytes that have arrived in time still count.
            Poll::Pending => {
                if let Poll::Ready(state) = self.poll_timeout(cx) {
                    self.abort((state == HttpState::ReadingHead).then(|| head_too_slow(HEAD_TIMEOUT)).as_ref());
                    return Poll::Ready(Ok(()));
                }
            }
        }
        read
    }
}

impl AsyncWrite for HttpConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = match bare_refusal(bytes) {
            Some((0, problem)) => {
                self.abort(Some(&problem));
                return Poll::Ready(Ok(bytes.len()));
            }
            // The responses before the refusal go first.
            Some((at, _)) => &bytes[..at],
            None => bytes,
        };
        let Some((tcp, _)) = &mut self.socket else { return Poll::Ready(Ok(bytes.len())) };
        let written = Pin::new(tcp).poll_write(cx, bytes);
        self.is_unsent = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // actix-http flushes at the end of each poll, so this sets the timer for the state that now begins.
        if self.poll_timeout(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.socket.as_mut().map_or(Poll::Ready(Ok(())), |(tcp, _)| Pin::new(tcp).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.as_mut().map_or(Poll::Ready(Ok(())), |(tcp, _)| Pin::new(tcp).poll_shutdown(cx))
    }
}
