//! Connections whose request asks for an upgrade, taken out of HTTP: the request is answered by the app like any other. If
//! the answer brings a session, that and the socket belong to a [`Carrier`] from then on, a small task that moves bytes and
//! ends the connection in order; what is in the bytes is nothing to it.
//!
//! The server's own HTTP/1 dispatcher would keep two buffers of 8 KiB and its whole state for as long as the socket
//! lives, and go through all of it for every frame (`docs/performance.md`).

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

/// Read from the kernel at once.
const READ_BYTES: usize = 4 * 1024;
/// Most that a session gets to hear before others have their turn.
const TURN_BYTES: usize = 32 * 1024;
/// How long the client may take to end the connection when everything is said: one that is closed with unread input is
/// reset, and the client might not see the last of it.
const PARTING: Duration = Duration::from_secs(1);

/// Of a request whose answer may bring a session: of others nobody would carry it.
pub(super) struct MayUpgrade;

/// Has the app answer a request to upgrade, and hands the connection to a task of its own.
///
/// # Errors
/// None: what fails here is the client's connection, which is gone then.
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
    // Such a request has no body: what comes behind it is of the protocol that it asks for.
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
        // Its end is the connection's.
        let head = response.head_mut();
        head.set_connection_type(ConnectionType::Close);
        head.no_chunking(true);
    }
    let (head, body) = response.into_parts();
    let size = if session.is_some() { BodySize::None } else { body.size() };
    if let Err(error) = codec.encode(Message::Item((head, size)), &mut out) {
        log::debug!("an answer could not be written: {error}");
        return Ok(());
    }
    let out = out.freeze();
    let seat = sockets.enter();
    match session {
        Some(mut session) => {
            if !parts.read_buf.is_empty() {
                session.hear(&parts.read_buf);
            }
            actix_web::rt::spawn(Carrier::new(socket, session, out, seat));
        }
        None => {
            let body = if is_head { BoxBody::new(()) } else { body };
            actix_web::rt::spawn(Carrier::new(socket, Answer { body, is_heard: false }, out, seat));
        }
    }
    Ok(())
}

/// Says this and nothing else on a connection, which then ends in order.
pub fn part(socket: Connection, last: Bytes, sockets: &OpenSockets) {
    let nothing = Answer { body: BoxBody::new(()), is_heard: true };
    actix_web::rt::spawn(Carrier::new(socket, nothing, last, sockets.enter()));
}

/// What is said over a connection.
trait Said: Unpin {
    /// Whether it is asked for its first bytes before the client hears that it has begun.
    const BEGINS_AT_ONCE: bool;

    /// The next bytes for the client; `None` when all is said.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;

    /// Whether it takes what the client sends.
    fn listens(&self) -> bool;

    /// What the client sends, nothing at its end. True if it has to be polled for it.
    fn hear(&mut self, read: io::Result<&[u8]>) -> bool;
}

impl Said for SocketSession {
    /// So that who has been answered is registered.
    const BEGINS_AT_ONCE: bool = true;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        Self::poll_next(self, cx).map(|bytes| bytes.map(Ok))
    }

    fn listens(&self) -> bool {
        Self::listens(self)
    }

    fn hear(&mut self, read: io::Result<&[u8]>) -> bool {
        match read {
            Ok(bytes) => Self::hear(self, bytes),
            Err(error) => {
                self.fail(error);
                true
            }
        }
    }
}

/// An answer like any other.
struct Answer {
    body: BoxBody,
    /// The client has said its last.
    is_heard: bool,
}

impl Said for Answer {
    const BEGINS_AT_ONCE: bool = false;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let polled = MessageBody::poll_next(Pin::new(&mut self.body), cx);
        polled.map(|bytes| bytes.map(|bytes| bytes.map_err(|error| io::Error::other(error.to_string()))))
    }

    /// Only for the end, which the body may be waiting for.
    fn listens(&self) -> bool {
        !self.is_heard
    }

    fn hear(&mut self, read: io::Result<&[u8]>) -> bool {
        self.is_heard = read.map_or(true, <[u8]>::is_empty);
        self.is_heard
    }
}

enum Phase {
    /// What is said goes to the client, and what the client sends comes in.
    Carrying,
    /// All is said; the client ends the connection, or the time is over.
    Parting(Pin<Box<Sleep>>),
}

/// One connection and what is said over it.
struct Carrier<S> {
    socket: Connection,
    said: S,
    /// Not yet taken by the kernel.
    out: Bytes,
    begun: bool,
    phase: Phase,
    _seat: OpenSocket,
}

impl<S: Said> Carrier<S> {
    fn new(socket: Connection, said: S, out: Bytes, seat: OpenSocket) -> Self {
        Self { socket, said, out, begun: !S::BEGINS_AT_ONCE, phase: Phase::Carrying, _seat: seat }
    }

    /// Asks it for its first bytes, which then leave with the answer.
    fn begin(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Some(Ok(bytes))) = self.said.poll_next(cx) {
            let mut both = BytesMut::from(std::mem::take(&mut self.out));
            both.extend_from_slice(&bytes);
            self.out = both.freeze();
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
        // The next one is another buffer, and this one may be large.
        self.out = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Reads until there is something that it has to be polled for, or no more.
    fn poll_hear(&mut self, cx: &mut Context<'_>, in_turn: &mut usize) -> Poll<()> {
        while self.said.listens() {
            if *in_turn >= TURN_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            let result = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read));
            *in_turn += read.filled().len();
            if self.said.hear(result.map(|()| read.filled())) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Until everything is said and written; an error is the end of the connection.
    fn poll_carry(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(cx);
        }
        let mut in_turn = 0;
        loop {
            ready!(self.poll_write_out(cx))?;
            match self.said.poll_next(cx)? {
                Poll::Ready(Some(bytes)) => self.out = bytes,
                Poll::Ready(None) => return Pin::new(&mut self.socket).poll_shutdown(cx),
                Poll::Pending => ready!(self.poll_hear(cx, &mut in_turn)),
            }
        }
    }

    /// Until the client has ended the connection.
    fn poll_read_off(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
                Phase::Carrying => {
                    if ready!(self.poll_carry(cx)).is_err() {
                        return Poll::Ready(());
                    }
                    self.phase = Phase::Parting(Box::pin(tokio::time::sleep(PARTING)));
                }
                Phase::Parting(over) => {
                    if over.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    return self.poll_read_off(cx);
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

    /// Says this, and hears everything.
    #[derive(Clone, Default)]
    struct Talker {
        says: Rc<RefCell<VecDeque<Bytes>>>,
        heard: Rc<Cell<usize>>,
    }

    impl Said for Talker {
        const BEGINS_AT_ONCE: bool = false;

        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
            self.says.borrow_mut().pop_front().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(bytes))))
        }

        fn listens(&self) -> bool {
            true
        }

        fn hear(&mut self, read: io::Result<&[u8]>) -> bool {
            self.heard.set(self.heard.get() + read.unwrap().len());
            false
        }
    }

    /// A talker on a connection, and its client.
    fn carried(talker: &Talker) -> (Carrier<Talker>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let place = ConnectionLimit::new(1).enter().unwrap();
        let tcp = TcpStream::from_std(socket).unwrap();
        let mut socket = Connection::http(tcp, place, Duration::MAX, (OpenSockets::default(), part));
        socket.leave_http();
        (Carrier::new(socket, talker.clone(), Bytes::new(), OpenSockets::default().enter()), client)
    }

    /// Polls it whenever it is woken, until so.
    async fn until(carrier: &mut Carrier<Talker>, mut so: impl FnMut() -> bool) {
        let polled = std::future::poll_fn(|cx| {
            assert!(Pin::new(&mut *carrier).poll(cx).is_pending());
            if so() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout(Duration::from_secs(10), polled).await.expect("it goes on by itself");
    }

    #[actix_web::test]
    async fn who_sends_much_at_once_is_heard_in_turns() {
        const SENT: usize = 3 * TURN_BYTES;
        let talker = Talker::default();
        let (mut carrier, mut client) = carried(&talker);
        client.write_all(&vec![0; SENT]).unwrap();
        let mut most = 0;
        let mut before = 0;
        until(&mut carrier, || {
            let heard = talker.heard.get();
            most = most.max(heard - std::mem::replace(&mut before, heard));
            heard == SENT
        })
        .await;
        assert!((1..=TURN_BYTES).contains(&most), "{most} bytes in one turn");
    }

    #[actix_web::test]
    async fn who_does_not_read_is_not_heard_until_he_does() {
        // More than the kernel holds.
        const SAID: usize = 32 * 1024 * 1024;
        let talker = Talker::default();
        let (mut carrier, mut client) = carried(&talker);
        talker.says.borrow_mut().push_back(vec![0; SAID].into());
        client.write_all(b"a word").unwrap();
        carrier.socket.tcp().unwrap().readable().await.unwrap();
        until(&mut carrier, || true).await;
        assert!(!carrier.out.is_empty(), "he has not read");
        assert_eq!(talker.heard.get(), 0);
        let reading = std::thread::spawn(move || client.read_exact(&mut vec![0; SAID]).map(|()| client));
        until(&mut carrier, || talker.heard.get() == 6).await;
        reading.join().unwrap().unwrap();
    }
}
