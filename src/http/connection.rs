//! A client's connection that says when it has ended. An answer that goes on for long (server-sent events) would otherwise
//! notice only when something can't be written to it: actix-http reads the end of the connection and keeps it to itself.

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
    time::Instant,
};

use actix_codec::{AsyncRead, AsyncWrite, ReadBuf};
use actix_web::rt::net::TcpStream;

use crate::outage::Outage;

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

/// A connection. Whoever reads it to its end, or fails to, tells its [`ConnectionEnd`].
pub struct Connection {
    tcp: TcpStream,
    end: ConnectionEnd,
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

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(tcp: TcpStream, place: ConnectionPlace) -> Self {
        Self { tcp, end: ConnectionEnd::default(), _place: place }
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Its end.
    pub fn end(&self) -> ConnectionEnd {
        self.end.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, asked) = (buf.filled().len(), buf.remaining());
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let is_end = match &read {
            Poll::Ready(Ok(())) => asked > 0 && buf.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if is_end {
            self.end.come();
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
