//! A client's TCP connection, between actix-http and the kernel. While the connection speaks HTTP, it changes three
//! things in what actix-http does:
//!
//! - It reports its end ([`ConnectionEnd`]). actix-http keeps the end to itself, so a long response (server-sent
//!   events) would notice it only at the next failed write.
//! - It answers malformed requests with a problem body, as all other errors are. actix-http writes only a head.
//! - It closes an idle connection: silently if no request has begun, with 408 if a request head is incomplete.
//!   actix-http sends 408 in both cases, and waits forever for the rest of any head but the first.
//!
//! [`ConnectionLimit`] bounds how many connections are open. The middleware [`track_responses`] keeps a connection from
//! timing out while a response is under way.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

use actix_codec::{AsyncRead, AsyncWrite, ReadBuf};
use actix_http::{
    ConnectionType, StatusCode,
    body::{BodySize, BoxBody, MessageBody},
};
use actix_web::{
    Error,
    dev::{Extensions, ServiceRequest, ServiceResponse},
    http::{Version, header::HttpDate},
    middleware::Next,
    rt::net::TcpStream,
};
use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use super::open_sockets::OpenSockets;
use crate::{
    outage::Outage,
    protocol::{Code, Problem, to_json},
};

/// How long a request head may take, from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head, in bytes, that actix-http writes when it refuses a malformed request.
const BARE_HEAD_LIMIT: usize = 200;

/// Limits how many connections are open at once.
#[derive(Clone)]
pub struct ConnectionLimit(Arc<LimitState>);

struct LimitState {
    limit: usize,
    open: AtomicUsize,
    /// Limits how often a refusal is logged.
    full: Outage,
}

/// Permission for one connection. Dropping it frees the place for another.
pub struct ConnectionPermit(ConnectionLimit);

impl ConnectionLimit {
    /// Allows at most `limit` open connections.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(LimitState { limit, open: AtomicUsize::new(0), full: Outage::default() }))
    }

    /// Takes a permit for one more connection; `None` if the limit is reached.
    pub fn try_acquire(&self) -> Option<ConnectionPermit> {
        let LimitState { limit, open, full } = &*self.0;
        if open.fetch_add(1, Ordering::Relaxed) < *limit {
            if let Some(over) = full.record_success(Instant::now) {
                log::info!("connections are accepted again; {} were refused", over.failures);
            }
            return Some(ConnectionPermit(self.clone()));
        }
        open.fetch_sub(1, Ordering::Relaxed);
        if let Some(failing) = full.record_failure(Instant::now()) {
            log::warn!(
                "a connection is refused{failing}: {limit} are open, and the limit on open files allows no more"
            );
        }
        None
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's connection. Reading its end, or a read error, resolves its `ConnectionEnd`.
pub struct Connection {
    /// `None` once the connection has ended as far as actix-http is concerned.
    socket: Option<Socket>,
    end: ConnectionEnd,
    /// `None` once the connection has left HTTP.
    http: Option<Box<Http>>,
}

struct Socket {
    tcp: TcpStream,
    _permit: ConnectionPermit,
}

/// Resolves when a connection ends. It can be awaited only on the connection's thread.
#[derive(Clone, Default)]
pub struct ConnectionEnd(Rc<End>);

#[derive(Default)]
struct End {
    has_ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl ConnectionEnd {
    /// Is ready when the client has ended the connection or reading from it has failed. Only one task can wait.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0.has_ended.get() {
            return Poll::Ready(());
        }
        self.0.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn resolve(&self) {
        self.0.has_ended.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

/// What an HTTP connection is waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HttpState {
    /// The first byte of a request.
    Idle,
    /// The rest of a request head.
    ReadingHead,
    /// The end of a response.
    Responding,
}

/// The state of a connection, shared with the middleware that answers its requests.
#[derive(Clone)]
struct SharedHttpState(Rc<Cell<HttpState>>);

/// Writes the last bytes to a connection that has left HTTP, and closes it in order.
pub type SendAndClose = fn(Connection, Bytes, &OpenSockets);

/// The part of a connection that exists only while it speaks HTTP.
struct Http {
    state: SharedHttpState,
    /// The state that the timer was set for.
    timed: HttpState,
    timer: Pin<Box<Sleep>>,
    keep_alive: Duration,
    /// Whether the kernel has yet to take the rest of a response.
    is_unsent: bool,
    sockets: OpenSockets,
    send_and_close: SendAndClose,
}

impl Http {
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
            self.timer.as_mut().reset(tokio::time::Instant::now() + limit);
        }
        self.timer.as_mut().poll(cx).map(|()| state)
    }

    /// Notes that the client has sent bytes.
    fn received(&self) {
        if self.state() == HttpState::Idle {
            self.state.0.set(HttpState::ReadingHead);
        }
    }
}

impl Connection {
    /// A connection that was just accepted and begins with HTTP. It is closed after `keep_alive` without a request.
    pub fn http(
        tcp: TcpStream,
        permit: ConnectionPermit,
        keep_alive: Duration,
        (sockets, send_and_close): (OpenSockets, SendAndClose),
    ) -> Self {
        let http = Http {
            state: SharedHttpState(Rc::new(Cell::new(HttpState::Idle))),
            timed: HttpState::Idle,
            timer: Box::pin(sleep(keep_alive)),
            keep_alive,
            is_unsent: false,
            sockets,
            send_and_close,
        };
        Self { http: Some(Box::new(http)), ..Self::plain(Socket { tcp, _permit: permit }) }
    }

    /// A connection that does not speak HTTP.
    fn plain(socket: Socket) -> Self {
        Self { socket: Some(socket), end: ConnectionEnd::default(), http: None }
    }

    /// Turns off everything that is done only for HTTP.
    pub(super) fn leave_http(&mut self) {
        self.http = None;
    }

    /// The TCP socket; `None` once the connection has ended.
    #[cfg(test)]
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        self.socket.as_ref().map(|socket| &socket.tcp)
    }

    fn tcp_mut(&mut self) -> Option<Pin<&mut TcpStream>> {
        self.socket.as_mut().map(|socket| Pin::new(&mut socket.tcp))
    }

    /// Puts the connection's end and its HTTP state into the data that its requests can read.
    pub fn add_request_data(&self, data: &mut Extensions) {
        data.insert(self.end.clone());
        if let Some(http) = &self.http {
            data.insert(http.state.clone());
        }
    }

    /// Ends the connection for actix-http. If there is a reason, the client is sent it and gets time to read it.
    fn abort(&mut self, reason: Option<&Problem>) {
        self.end.resolve();
        if let (Some(socket), Some(http), Some(problem)) = (self.socket.take(), self.http.take(), reason) {
            (http.send_and_close)(Self::plain(socket), refusal(problem), &http.sockets);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(tcp) = self.tcp_mut() else { return Poll::Ready(Ok(())) };
        let (before, asked) = (buf.filled().len(), buf.remaining());
        let read = tcp.poll_read(cx, buf);
        let Self { end, http, .. } = &mut *self;
        match (&read, http) {
            (Poll::Ready(Ok(())), http) if buf.filled().len() > before => {
                http.iter().for_each(|http| http.received());
            }
            (Poll::Ready(Ok(())), _) if asked == 0 => {}
            (Poll::Ready(_), _) => end.resolve(),
            // Checked only now, so that bytes that have arrived in time still count.
            (Poll::Pending, Some(http)) => {
                if let Poll::Ready(state) = http.poll_timeout(cx) {
                    self.abort((state == HttpState::ReadingHead).then(head_too_slow).as_ref());
                    return Poll::Ready(Ok(()));
                }
            }
            (Poll::Pending, None) => {}
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let refused = self.http.as_ref().and_then(|_| bare_refusal(bytes));
        let bytes = match refused {
            Some((0, problem)) => {
                self.abort(Some(&problem));
                return Poll::Ready(Ok(bytes.len()));
            }
            // The responses before the refusal go first.
            Some((at, _)) => &bytes[..at],
            None => bytes,
        };
        let Some(tcp) = self.tcp_mut() else { return Poll::Ready(Ok(bytes.len())) };
        let written = tcp.poll_write(cx, bytes);
        if let Some(http) = &mut self.http {
            http.is_unsent = written.is_pending();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // actix-http flushes at the end of each poll, so this sets the timer for the state that now begins.
        if self.http.as_mut().is_some_and(|http| http.poll_timeout(cx).is_ready()) {
            cx.waker().wake_by_ref();
        }
        self.tcp_mut().map_or(Poll::Ready(Ok(())), |tcp| tcp.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp_mut().map_or(Poll::Ready(Ok(())), |tcp| tcp.poll_shutdown(cx))
    }
}

fn head_too_slow() -> Problem {
    let detail = format!("a request head must arrive within {} s of its first byte", HEAD_TIMEOUT.as_secs());
    Problem::new(Code::RequestTimeout, detail)
}

/// Finds a refusal that actix-http has written by itself: where in these bytes it starts, and the problem to send
/// instead. actix-http refuses a malformed request with a head without a body, as the last bytes of a write. The app's
/// own refusals have a body.
fn bare_refusal(bytes: &[u8]) -> Option<(usize, Problem)> {
    const BEGIN: &[u8] = b"HTTP/1.";
    let heads = bytes.strip_suffix(b"\r\n\r\n")?;
    let last = heads.len().saturating_sub(BARE_HEAD_LIMIT);
    let at = last + heads[last..].windows(BEGIN.len()).rposition(|begin| begin == BEGIN)?;
    let mut lines = std::str::from_utf8(&heads[at..]).ok()?.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let is_bare =
        |line: &str| line == "content-length: 0" || line.starts_with("connection: ") || line.starts_with("date: ");
    if !lines.all(is_bare) {
        return None;
    }
    let problem = match status {
        400 => Problem::new(Code::InvalidBody, "not a valid HTTP/1.1 request, or its headers contradict each other"),
        431 => Problem::new(Code::HeadersTooLarge, "a request head may have at most 96 headers and 128 KiB"),
        _ => return None,
    };
    Some((at, problem))
}

/// A whole HTTP response with this problem. It announces that the connection closes.
fn refusal(problem: &Problem) -> Bytes {
    let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let (date, body) = (HttpDate::from(SystemTime::now()), to_json(problem));
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
         x-content-type-options: nosniff\r\ndate: {date}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_ref()].concat().into()
}

/// Keeps a connection in the state `Responding` until it is dropped.
struct Responding(SharedHttpState);

impl Drop for Responding {
    fn drop(&mut self) {
        self.0.0.set(HttpState::Idle);
    }
}

/// A response body. Its connection counts as responding until the body is dropped.
pub struct TrackedBody {
    body: BoxBody,
    _responding: Option<Responding>,
}

impl MessageBody for TrackedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// Middleware that keeps the connection from timing out while a response is under way. It also turns off chunked
/// encoding for HTTP/1.0 clients.
///
/// # Errors
/// The errors of the inner service.
pub async fn track_responses<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<TrackedBody>, Error> {
    let state = request.conn_data::<SharedHttpState>().cloned();
    if let Some(state) = &state {
        state.0.set(HttpState::Responding);
    }
    let responding = state.map(Responding);
    let supports_chunks = request.version() > Version::HTTP_10;
    let mut response = next.call(request).await?.map_into_boxed_body();
    if !supports_chunks && response.response().body().size() == BodySize::Stream {
        // The body ends with the connection.
        let head = response.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(response.map_body(|_, body| TrackedBody { body, _responding: responding }))
}
