//! A client's connection. While it speaks HTTP it does what actix-http leaves out or does otherwise:
//!
//! - It says when it has ended. actix-http reads the end and keeps it to itself, so that an answer that goes on for long
//!   (server-sent events) would notice only when something can't be written to it.
//! - What is no request is answered with a problem, as everything else is, where actix-http writes a bare head.
//! - It ends when nothing is asked for too long: without a word if nothing has begun, with 408 if a head has begun.
//!   actix-http answers 408 to who has asked nothing, and waits for ever for the rest of any head but the first.

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

/// How long the head of a request may take from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest of the heads that actix-http writes by itself.
const BARE_HEAD_LIMIT: usize = 200;

/// Connections that there are, of so many that may be.
#[derive(Clone)]
pub struct ConnectionLimit(Arc<Counted>);

struct Counted {
    most: usize,
    open: AtomicUsize,
    full: Outage,
}

/// One of them, given back when this is dropped.
pub struct ConnectionPlace(ConnectionLimit);

impl ConnectionLimit {
    /// For so many.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Counted { most, open: AtomicUsize::new(0), full: Outage::default() }))
    }

    /// A place for one more, if there is one.
    pub fn enter(&self) -> Option<ConnectionPlace> {
        let Counted { most, open, full } = &*self.0;
        if open.fetch_add(1, Ordering::Relaxed) < *most {
            if let Some(over) = full.worked(Instant::now) {
                log::info!("connections are taken again; {} were refused", over.failures);
            }
            return Some(ConnectionPlace(self.clone()));
        }
        open.fetch_sub(1, Ordering::Relaxed);
        if let Some(failing) = full.failed(Instant::now()) {
            log::warn!("a connection is refused{failing}: {most} are open, and no file is left for more");
        }
        None
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection. Whoever reads it to its end, or fails to, tells its `ConnectionEnd`.
pub struct Connection {
    /// None: it has ended for actix-http.
    socket: Option<Socket>,
    end: ConnectionEnd,
    /// None: it speaks something else.
    http: Option<Box<Http>>,
}

struct Socket {
    tcp: TcpStream,
    _place: ConnectionPlace,
}

/// The end of a connection, for whoever waits for it on its thread.
#[derive(Clone, Default)]
pub struct ConnectionEnd(Rc<End>);

#[derive(Default)]
struct End {
    has_come: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl ConnectionEnd {
    /// Resolves when the client has ended the connection, or it has failed. One task at a time can wait.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0.has_come.get() {
            return Poll::Ready(());
        }
        self.0.waiting.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn come(&self) {
        self.0.has_come.set(true);
        if let Some(waiting) = self.0.waiting.take() {
            waiting.wake();
        }
    }
}

/// What a connection is waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// For a request, of which nothing has come yet.
    Idle,
    /// For the rest of a request's head.
    Head,
    /// For the answer.
    Answer,
}

/// Whose turn it is on a connection, for whoever answers its requests.
#[derive(Clone)]
struct HttpTurn(Rc<Cell<Turn>>);

/// Says something last on a connection that has left HTTP, which then ends in order.
pub type Part = fn(Connection, Bytes, &OpenSockets);

/// What a connection has only while it speaks HTTP.
struct Http {
    turn: HttpTurn,
    /// What the timer is set for.
    timed: Turn,
    timer: Pin<Box<Sleep>>,
    keep_alive: Duration,
    /// The kernel has not taken all of an answer.
    is_unsent: bool,
    sockets: OpenSockets,
    part: Part,
}

impl Http {
    fn turn(&self) -> Turn {
        if self.is_unsent { Turn::Answer } else { self.turn.0.get() }
    }

    /// Resolves when nothing has been asked for too long, with what was waited for.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let turn = self.turn();
        let limit = match turn {
            Turn::Idle => self.keep_alive,
            Turn::Head => HEAD_TIMEOUT,
            Turn::Answer => {
                self.timed = turn;
                return Poll::Pending;
            }
        };
        if self.timed != turn {
            self.timed = turn;
            self.timer.as_mut().reset(tokio::time::Instant::now() + limit);
        }
        self.timer.as_mut().poll(cx).map(|()| turn)
    }

    /// Something has come.
    fn heard(&self) {
        if self.turn() == Turn::Idle {
            self.turn.0.set(Turn::Head);
        }
    }
}

impl Connection {
    /// A connection that has just been accepted, which begins with HTTP and is kept so long while nothing is asked.
    pub fn http(
        tcp: TcpStream,
        place: ConnectionPlace,
        keep_alive: Duration,
        (sockets, part): (OpenSockets, Part),
    ) -> Self {
        let http = Http {
            turn: HttpTurn(Rc::new(Cell::new(Turn::Idle))),
            timed: Turn::Idle,
            timer: Box::pin(sleep(keep_alive)),
            keep_alive,
            is_unsent: false,
            sockets,
            part,
        };
        Self { http: Some(Box::new(http)), ..Self::plain(Socket { tcp, _place: place }) }
    }

    /// A connection of which only the end is of interest.
    fn plain(socket: Socket) -> Self {
        Self { socket: Some(socket), end: ConnectionEnd::default(), http: None }
    }

    /// It speaks something else from now on.
    pub(super) fn leave_http(&mut self) {
        self.http = None;
    }

    /// The socket, until the connection has ended.
    #[cfg(test)]
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        self.socket.as_ref().map(|socket| &socket.tcp)
    }

    fn tcp_mut(&mut self) -> Option<Pin<&mut TcpStream>> {
        self.socket.as_mut().map(|socket| Pin::new(&mut socket.tcp))
    }

    /// What requests find in their connection's data: its end, and whose turn it is.
    pub fn hand_to_requests(&self, data: &mut Extensions) {
        data.insert(self.end.clone());
        if let Some(http) = &self.http {
            data.insert(http.turn.clone());
        }
    }

    /// Ends for actix-http; the client is told why, if there is a reason, and has a moment to read it.
    fn give_up(&mut self, reason: Option<&Problem>) {
        self.end.come();
        if let (Some(socket), Some(http), Some(problem)) = (self.socket.take(), self.http.take(), reason) {
            (http.part)(Self::plain(socket), refusal(problem), &http.sockets);
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
                http.iter().for_each(|http| http.heard());
            }
            (Poll::Ready(Ok(())), _) if asked == 0 => {}
            (Poll::Ready(_), _) => end.come(),
            // Only now: what has come by its time is taken.
            (Poll::Pending, Some(http)) => {
                if let Poll::Ready(turn) = http.poll_late(cx) {
                    self.give_up((turn == Turn::Head).then(head_too_slow).as_ref());
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
                self.give_up(Some(&problem));
                return Poll::Ready(Ok(bytes.len()));
            }
            // First the answers before it.
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
        // The last that is done in a turn: what is waited for from here on has its time.
        if self.http.as_mut().is_some_and(|http| http.poll_late(cx).is_ready()) {
            cx.waker().wake_by_ref();
        }
        self.tcp_mut().map_or(Poll::Ready(Ok(())), |tcp| tcp.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp_mut().map_or(Poll::Ready(Ok(())), |tcp| tcp.poll_shutdown(cx))
    }
}

fn head_too_slow() -> Problem {
    let detail = format!("the head of a request has to come within {} s", HEAD_TIMEOUT.as_secs());
    Problem::new(Code::RequestTimeout, detail)
}

/// Where among these bytes actix-http refuses by itself what is no request, and what it should say. It does so in a head
/// without a body at the end of what it writes; the app's own refusals have a body.
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
        400 => Problem::new(Code::InvalidBody, "this is no HTTP/1.1 request, or its head contradicts itself"),
        431 => Problem::new(Code::HeadersTooLarge, "the head of a request has at most 96 headers and 128 KiB"),
        _ => return None,
    };
    Some((at, problem))
}

/// A refusal after which the connection ends.
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

/// It is the server's turn until this is dropped.
struct Answering(HttpTurn);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.set(Turn::Idle);
    }
}

/// The body of an answer, until the end of which it is the server's turn.
pub struct Answer {
    body: BoxBody,
    _answering: Option<Answering>,
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// Has requests answered as their connection has to be: it knows that it is the server's turn, and who speaks HTTP/1.0
/// gets no chunks.
///
/// # Errors
/// Those of the service.
pub async fn in_turn<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Answer>, Error> {
    let turn = request.conn_data::<HttpTurn>().cloned();
    if let Some(turn) = &turn {
        turn.0.set(Turn::Answer);
    }
    let answering = turn.map(Answering);
    let knows_chunks = request.version() > Version::HTTP_10;
    let mut answered = next.call(request).await?.map_into_boxed_body();
    if !knows_chunks && answered.response().body().size() == BodySize::Stream {
        // Its end is the connection's.
        let head = answered.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(answered.map_body(|_, body| Answer { body, _answering: answering }))
}
