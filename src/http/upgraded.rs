//! Connections that have become WebSockets, taken out of HTTP: the request is answered by the app like any other, then its
//! body and the socket belong to a [`Carrier`], a small task that writes what the body yields and ends the connection in
//! order. What is in the bytes is nothing to it.
//!
//! The server's own HTTP/1 dispatcher would keep two buffers of 8 KiB and its whole state for as long as the socket
//! lives, and go through all of it for every frame (`docs/performance.md`).

use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_codec::{AsyncRead, AsyncWrite, Encoder, Framed, ReadBuf};
use actix_http::{
    ConnectionType, Method, Payload, Request, Response, StatusCode,
    body::{BoxBody, MessageBody},
    error::PayloadError,
    h1::{Codec, Message},
};
use actix_web::{
    Error,
    dev::{Service, ServiceResponse},
    rt::net::TcpStream,
};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Sleep;

/// Read from the kernel at once.
const READ_BYTES: usize = 4 * 1024;
/// Most that a session gets to read before others have their turn.
const TURN_BYTES: usize = 32 * 1024;
/// How long the client may take to end the connection when everything is said: one that is closed with unread input is
/// reset, and the client might not see the last of it.
const PARTING: Duration = Duration::from_secs(1);

/// How many sockets are carried, for whoever ends the node.
#[derive(Debug, Clone, Default)]
pub struct OpenSockets(Arc<AtomicUsize>);

impl OpenSockets {
    /// So many now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Seat {
        self.0.fetch_add(1, Ordering::Relaxed);
        Seat(self.clone())
    }
}

struct Seat(OpenSockets);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Has the app answer a request to upgrade, and hands the connection to a task of its own.
///
/// # Errors
/// None: what fails here is the client's connection, which is gone then.
pub async fn take_over<A, B>(
    app: Rc<A>,
    (request, framed): (Request, Framed<TcpStream, Codec>),
    sockets: OpenSockets,
) -> Result<(), Infallible>
where
    A: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let parts = framed.into_parts();
    let (mut codec, mut out) = (parts.codec, parts.write_buf);
    let socket = Rc::new(RefCell::new(parts.io));
    let first = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf.freeze() };
    let incoming = Incoming { socket: Rc::clone(&socket), first, in_turn: 0 };
    let (request, _) = request.replace_payload(Payload::Stream { payload: Box::pin(incoming) as _ });
    let is_head = request.method() == Method::HEAD;
    let mut response: Response<BoxBody> = match app.call(request).await {
        Ok(response) => Response::from(response.map_into_boxed_body()),
        Err(error) => Response::from(error),
    };
    drop(app);
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !is_upgraded {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    let (head, body) = response.into_parts();
    let size = body.size();
    let body = if is_head { BoxBody::new(()) } else { body };
    match codec.encode(Message::Item((head, size)), &mut out) {
        Ok(()) => {
            let carrier = Carrier {
                socket,
                body,
                out: out.freeze(),
                begun: !is_upgraded,
                phase: Phase::Carrying,
                _seat: sockets.enter(),
            };
            actix_web::rt::spawn(carrier);
        }
        Err(error) => log::debug!("an answer could not be written: {error}"),
    }
    Ok(())
}

type Socket = Rc<RefCell<TcpStream>>;

/// What the client sends. Holds no buffer while nothing comes.
struct Incoming {
    socket: Socket,
    /// What came behind the request.
    first: Bytes,
    in_turn: usize,
}

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        if self.in_turn >= TURN_BYTES {
            self.in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        let polled = Pin::new(&mut *self.socket.borrow_mut()).poll_read(cx, &mut read);
        match polled {
            Poll::Pending => {
                self.in_turn = 0;
                Poll::Pending
            }
            Poll::Ready(Ok(())) if read.filled().is_empty() => Poll::Ready(None),
            Poll::Ready(Ok(())) => {
                self.in_turn += read.filled().len();
                Poll::Ready(Some(Ok(Bytes::copy_from_slice(read.filled()))))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(PayloadError::Io(error)))),
        }
    }
}

enum Phase {
    /// The body goes to the client.
    Carrying,
    /// All is said; the client ends the connection, or the time is over.
    Parting(Pin<Box<Sleep>>),
}

/// One connection and the body that is sent over it.
struct Carrier {
    socket: Socket,
    body: BoxBody,
    /// Taken from the body and not yet by the kernel.
    out: Bytes,
    begun: bool,
    phase: Phase,
    _seat: Seat,
}

impl Carrier {
    /// Lets a session begin before its client hears that it has: who has been answered is registered.
    fn begin(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Some(Ok(bytes))) = Pin::new(&mut self.body).poll_next(cx) {
            let mut both = BytesMut::from(std::mem::take(&mut self.out));
            both.extend_from_slice(&bytes);
            self.out = both.freeze();
        }
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut *self.socket.borrow_mut()).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        // The next one is another buffer, and this one may be large.
        self.out = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Until everything is written; an error is the end of the connection.
    fn poll_carry(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(cx);
        }
        loop {
            ready!(self.poll_write_out(cx))?;
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(bytes)) => self.out = bytes,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error.to_string()))),
                None => return Pin::new(&mut *self.socket.borrow_mut()).poll_shutdown(cx),
            }
        }
    }

    /// Until the client has ended the connection.
    fn poll_read_off(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut *self.socket.borrow_mut()).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl Future for Carrier {
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
