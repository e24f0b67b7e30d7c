//! Connections that leave HTTP. When a request asks for an upgrade, the app answers it like any other request. If the
//! response holds a session, a [`Carrier`] takes over the connection: a small task that moves bytes between session and
//! socket and closes the socket in order. It does not look into the bytes.
//!
//! actix's own HTTP/1 dispatcher would keep two buffers of 8 KiB and all its state for as long as the socket lives, and
//! would go through all of it for every frame (`docs/performance.md`).

use std::{
    convert::Infallible,
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_codec::{AsyncRead, AsyncWrite, Encoder, Framed, ReadBuf};
use actix_http::{
    ConnectionType, HttpMessage, Method, Payload, Request, Response,
    body::{BodySize, BoxBody, MessageBody},
    h1::{Codec, Message},
};
use actix_web::{
    Error,
    dev::{Service, ServiceResponse},
};
use bytes::{Buf, Bytes, BytesMut};
use tokio::time::Sleep;

use super::{
    connection::Connection,
    open_sockets::{OpenSocket, OpenSockets},
};
use crate::actors::SocketSession;

/// The most bytes of one read from the kernel.
const READ_BYTES: usize = 4 * 1024;
/// The most bytes that a connection reads in one poll, before other tasks of the worker get their turn.
const POLL_BYTES_LIMIT: usize = 32 * 1024;
/// How long the client may take to end the connection after the last byte is written. A socket that is closed with
/// unread input is reset, and the client might not see the last bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Marks requests that came through the upgrade service. Only their responses may hold a session: for other requests
/// there is no [`Carrier`].
pub(super) struct MayUpgrade;

/// Lets the app answer an upgrade request, and spawns a task that serves the connection from then on.
///
/// # Errors
/// None. If the response cannot be encoded, the connection is dropped.
pub async fn take_over<A, B>(
    app: Rc<A>,
    (request, framed): (Request, Framed<Connection, Codec>),
    sockets: OpenSockets,
) -> Result<(), Infallible>
where
    A: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let parts = framed.into_parts();
    let (mut socket, mut codec, mut out) = (parts.io, parts.codec, parts.write_buf);
    socket.leave_http();
    // An upgrade request has no body: the bytes behind it belong to the new protocol.
    let (request, _) = request.replace_payload(Payload::None);
    request.extensions_mut().insert(MayUpgrade);
    let is_head = request.method() == Method::HEAD;
    let mut response: Response<BoxBody> = match app.call(request).await {
        Ok(response) => Response::from(response.map_into_boxed_body()),
        Err(error) => Response::from(error),
    };
    drop(app);
    let session = response.extensions_mut().remove::<SocketSession>();
    if session.is_none() {
        // The response ends with the connection.
        let head = response.head_mut();
        head.set_connection_type(ConnectionType::Close);
        head.no_chunking(true);
    }
    let (head, body) = response.into_parts();
    let size = if session.is_some() { BodySize::None } else { body.size() };
    if let Err(error) = codec.encode(Message::Item((head, size)), &mut out) {
        log::debug!("a response to an upgrade request could not be encoded: {error}");
        return Ok(());
    }
    let out = out.freeze();
    let open_socket = sockets.add();
    match session {
        Some(mut session) => {
            if !parts.read_buf.is_empty() {
                session.receive(&parts.read_buf);
            }
            actix_web::rt::spawn(Carrier::new(socket, session, out, open_socket));
        }
        None => {
            let body = if is_head { BoxBody::new(()) } else { body };
            let response = PlainResponse { body, has_input_ended: false };
            actix_web::rt::spawn(Carrier::new(socket, response, out, open_socket));
        }
    }
    Ok(())
}

/// Writes these last bytes to a connection and closes it in order.
pub fn send_and_close(socket: Connection, last: Bytes, sockets: &OpenSockets) {
    let nothing = PlainResponse { body: BoxBody::new(()), has_input_ended: true };
    actix_web::rt::spawn(Carrier::new(socket, nothing, last, sockets.add()));
}

/// The source of the bytes that go to the client, and the receiver of those that the client sends.
trait Said: Unpin {
    /// Whether to poll for the first bytes before the response head is written, so that both leave in one write.
    const POLL_BEFORE_HEAD: bool;

    /// The next bytes for the client; `None` after the last.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;

    /// Whether input from the client can be taken now.
    fn wants_input(&self) -> bool;

    /// Takes input from the client: bytes, no bytes when the client has closed its side, or an error. True if
    /// `poll_next` must be called now.
    fn receive(&mut self, read: io::Result<&[u8]>) -> bool;
}

impl Said for SocketSession {
    /// The first poll starts the session's actor, so the session is registering when the client sees the answer.
    const POLL_BEFORE_HEAD: bool = true;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        Self::poll_next(self, cx).map(|bytes| bytes.map(Ok))
    }

    fn wants_input(&self) -> bool {
        Self::wants_input(self)
    }

    fn receive(&mut self, read: io::Result<&[u8]>) -> bool {
        match read {
            Ok(bytes) => Self::receive(self, bytes),
            Err(error) => {
                self.fail(error);
                true
            }
        }
    }
}

/// A response without a session.
struct PlainResponse {
    body: BoxBody,
    /// Whether the client has closed its side of the connection, or reading from it has failed.
    has_input_ended: bool,
}

impl Said for PlainResponse {
    const POLL_BEFORE_HEAD: bool = false;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let polled = MessageBody::poll_next(Pin::new(&mut self.body), cx);
        polled.map(|bytes| bytes.map(|bytes| bytes.map_err(|error| io::Error::other(error.to_string()))))
    }

    /// Input is read only to notice its end, which the body may be waiting for.
    fn wants_input(&self) -> bool {
        !self.has_input_ended
    }

    fn receive(&mut self, read: io::Result<&[u8]>) -> bool {
        self.has_input_ended = read.map_or(true, <[u8]>::is_empty);
        self.has_input_ended
    }
}

enum Phase {
    /// Bytes move in both directions.
    Open,
    /// The last byte is written. Waits until the client ends the connection or the time is over.
    Closing(Pin<Box<Sleep>>),
}

/// One connection that has left HTTP, and the source of its bytes.
struct Carrier<S> {
    socket: Connection,
    said: S,
    /// Bytes that the kernel has not taken yet.
    out: Bytes,
    /// Whether the poll of `POLL_BEFORE_HEAD` is done, or not needed.
    is_started: bool,
    phase: Phase,
    _open_socket: OpenSocket,
}

impl<S: Said> Carrier<S> {
    fn new(socket: Connection, said: S, out: Bytes, open_socket: OpenSocket) -> Self {
        Self { socket, said, out, is_started: !S::POLL_BEFORE_HEAD, phase: Phase::Open, _open_socket: open_socket }
    }

    /// Polls for the first bytes and puts them behind the response head.
    fn start(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Some(Ok(bytes))) = self.said.poll_next(cx) {
            let mut joined = BytesMut::from(std::mem::take(&mut self.out));
            joined.extend_from_slice(&bytes);
            self.out = joined.freeze();
        }
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        // Frees the buffer, which may be large.
        self.out = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Reads from the client until `said` must be polled, or takes no more input. `read_bytes` counts this poll's.
    fn poll_receive(&mut self, cx: &mut Context<'_>, read_bytes: &mut usize) -> Poll<()> {
        while self.said.wants_input() {
            if *read_bytes >= POLL_BYTES_LIMIT {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            let result = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read));
            *read_bytes += read.filled().len();
            if self.said.receive(result.map(|()| read.filled())) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Moves bytes in both directions until the last one is written. An error means that the connection is gone.
    fn poll_transfer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_started, true) {
            self.start(cx);
        }
        let mut read_bytes = 0;
        loop {
            ready!(self.poll_write_out(cx))?;
            match self.said.poll_next(cx)? {
                Poll::Ready(Some(bytes)) => self.out = bytes,
                Poll::Ready(None) => return Pin::new(&mut self.socket).poll_shutdown(cx),
                Poll::Pending => ready!(self.poll_receive(cx, &mut read_bytes)),
            }
        }
    }

    /// Reads and drops input until the client has ended the connection.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: Said> Future for Carrier<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.phase {
                Phase::Open => {
                    if ready!(self.poll_transfer(cx)).is_err() {
                        return Poll::Ready(());
                    }
                    self.phase = Phase::Closing(Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
                }
                Phase::Closing(deadline) => {
                    if deadline.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    return self.poll_drain(cx);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::VecDeque,
        io::{Read, Write},
        net::TcpListener,
    };

    use actix_web::rt::net::TcpStream;

    use super::*;
    use crate::http::ConnectionLimit;

    /// Writes these bytes, and counts the bytes that it receives.
    #[derive(Clone, Default)]
    struct TestSource {
        to_write: Rc<RefCell<VecDeque<Bytes>>>,
        received: Rc<Cell<usize>>,
    }

    impl Said for TestSource {
        const POLL_BEFORE_HEAD: bool = false;

        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
            self.to_write.borrow_mut().pop_front().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(bytes))))
        }

        fn wants_input(&self) -> bool {
            true
        }

        fn receive(&mut self, read: io::Result<&[u8]>) -> bool {
            self.received.set(self.received.get() + read.unwrap().len());
            false
        }
    }

    /// The source on a connection, and the client's end of that.
    fn carried(source: &TestSource) -> (Carrier<TestSource>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let permit = ConnectionLimit::new(1).try_acquire().unwrap();
        let tcp = TcpStream::from_std(socket).unwrap();
        let mut socket = Connection::http(tcp, permit, Duration::MAX, (OpenSockets::default(), send_and_close));
        socket.leave_http();
        (Carrier::new(socket, source.clone(), Bytes::new(), OpenSockets::default().add()), client)
    }

    /// Polls the carrier whenever it is woken, until the condition holds.
    async fn poll_until(carrier: &mut Carrier<TestSource>, mut condition: impl FnMut() -> bool) {
        let polled = std::future::poll_fn(|cx| {
            assert!(Pin::new(&mut *carrier).poll(cx).is_pending());
            if condition() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout(Duration::from_secs(10), polled).await.expect("the carrier wakes itself");
    }

    #[actix_web::test]
    async fn one_poll_reads_a_bounded_number_of_bytes() {
        const SENT: usize = 3 * POLL_BYTES_LIMIT;
        let source = TestSource::default();
        let (mut carrier, mut client) = carried(&source);
        client.write_all(&vec![0; SENT]).unwrap();
        let mut most_per_poll = 0;
        let mut before = 0;
        poll_until(&mut carrier, || {
            let received = source.received.get();
            most_per_poll = most_per_poll.max(received - std::mem::replace(&mut before, received));
            received == SENT
        })
        .await;
        assert!((1..=POLL_BYTES_LIMIT).contains(&most_per_poll), "{most_per_poll} bytes in one poll");
    }

    #[actix_web::test]
    async fn nothing_is_read_from_a_client_that_does_not_read() {
        // More than the kernel buffers.
        const WRITTEN: usize = 32 * 1024 * 1024;
        let source = TestSource::default();
        let (mut carrier, mut client) = carried(&source);
        source.to_write.borrow_mut().push_back(vec![0; WRITTEN].into());
        client.write_all(b"a word").unwrap();
        carrier.socket.tcp().unwrap().readable().await.unwrap();
        poll_until(&mut carrier, || true).await;
        assert!(!carrier.out.is_empty(), "the client has not read");
        assert_eq!(source.received.get(), 0);
        let reading = std::thread::spawn(move || client.read_exact(&mut vec![0; WRITTEN]).map(|()| client));
        poll_until(&mut carrier, || source.received.get() == 6).await;
        reading.join().unwrap().unwrap();
    }
}
