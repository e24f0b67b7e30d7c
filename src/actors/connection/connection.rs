//! The task of one client connection, from the upgrade to the last byte. It moves bytes between a [`ByteSource`] and
//! the socket and closes the socket in order, as `closing` says. It does not look into the bytes.
//!
//! actix's own HTTP/1 dispatcher would keep two buffers of 8 KiB and all its state for as long as the socket lives, and
//! would go through all of it for every frame (`docs/performance.md`).

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_codec::{AsyncRead, AsyncWrite, ReadBuf};
use bytes::{Buf, Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep_until};

use super::closing::{Event, State};

/// The most bytes of one read from the kernel.
const READ_BYTES: usize = 4 * 1024;
/// The most bytes that a connection reads in one poll, before other tasks of the worker get their turn.
const POLL_BYTES_LIMIT: usize = 32 * 1024;

/// The source of the bytes that go to the client, and the receiver of those that the client sends.
pub(crate) trait ByteSource: Unpin + 'static {
    /// The next bytes for the client.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Output>;

    /// Whether input from the client can be taken now. When this becomes false, `poll_output` must be called.
    fn wants_input(&self) -> bool;

    /// Takes input from the client: bytes, no bytes when the client has closed its side, or an error.
    fn receive(&mut self, read: io::Result<&[u8]>);
}

/// Bytes for the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// There may be more.
    More(Bytes),
    /// The last bytes: a close frame, which the client is to answer.
    CloseFrame(Bytes),
    /// The last bytes.
    Last(Bytes),
}

/// One connection and the source of its bytes.
pub(crate) struct Connection<IO, S, P> {
    socket: IO,
    /// Dropped with the connection.
    _permit: P,
    /// `None` after its last bytes.
    source: Option<S>,
    state: State,
    /// Bytes that the kernel has not taken yet.
    out: Bytes,
    /// Whether the source has been polled. Its first bytes leave in one write with the response head, which was in
    /// `out` before, and a session is registering when the client sees the head.
    is_started: bool,
    /// When the last byte was written, and the timer of the closing states.
    written: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<IO, S, P> Connection<IO, S, P>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: ByteSource,
    P: Unpin + 'static,
{
    /// `head` is written before the bytes of the source.
    pub(crate) fn new(socket: IO, source: S, head: Bytes, _permit: P) -> Self {
        let (source, state) = (Some(source), State::Open);
        Self { socket, _permit, source, state, out: head, is_started: false, written: None }
    }

    /// Takes bytes from the source, to be written behind those of `out`.
    fn take(&mut self, output: Output) -> Event {
        let (bytes, event) = match output {
            Output::More(bytes) => (bytes, Event::Moved),
            Output::CloseFrame(bytes) => (bytes, Event::CloseFrame),
            Output::Last(bytes) => (bytes, Event::LastBytes),
        };
        if event != Event::Moved {
            self.source = None;
        }
        if self.out.is_empty() {
            self.out = bytes;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.out));
            joined.extend_from_slice(&bytes);
            self.out = joined.freeze();
        }
        event
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

    /// Waits for the client to answer or to close its side, after the last byte is written.
    fn poll_close(&mut self, cx: &mut Context<'_>, read_bytes: &mut usize) -> Poll<Event> {
        let (written_at, timer) = self.written.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + self.state.timeout())))
        });
        let deadline = *written_at + self.state.timeout();
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::TimedOut);
        }
        poll_read(&mut self.socket, cx, read_bytes, Event::of_read)
    }

    /// Waits until something happens. `read_bytes` counts what this poll has read.
    fn poll_event(&mut self, cx: &mut Context<'_>, read_bytes: &mut usize) -> Poll<Event> {
        if std::mem::replace(&mut self.is_started, true) && ready!(self.poll_write_out(cx)).is_err() {
            return Poll::Ready(Event::Failed);
        }
        let Some(source) = &mut self.source else {
            if self.state == State::ShuttingDown {
                let done = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
                return Poll::Ready(done.map_or(Event::Failed, |()| Event::ShutDown));
            }
            return self.poll_close(cx, read_bytes);
        };
        match source.poll_output(cx) {
            Poll::Ready(output) => return Poll::Ready(self.take(output)),
            // The head goes alone.
            Poll::Pending if !self.out.is_empty() => return Poll::Ready(Event::Moved),
            Poll::Pending if !source.wants_input() => return Poll::Pending,
            Poll::Pending => {}
        }
        while source.wants_input() {
            ready!(poll_read(&mut self.socket, cx, read_bytes, |read| source.receive(read)));
        }
        Poll::Ready(Event::Moved)
    }
}

/// Reads once and passes on the result.
fn poll_read<T>(
    socket: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    read_bytes: &mut usize,
    receive: impl FnOnce(io::Result<&[u8]>) -> T,
) -> Poll<T> {
    if *read_bytes >= POLL_BYTES_LIMIT {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    let mut space = [MaybeUninit::uninit(); READ_BYTES];
    let mut read = ReadBuf::uninit(&mut space);
    let result = ready!(Pin::new(socket).poll_read(cx, &mut read));
    *read_bytes += read.filled().len();
    Poll::Ready(receive(result.map(|()| read.filled())))
}

impl<IO, S, P> Future for Connection<IO, S, P>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: ByteSource,
    P: Unpin + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut read_bytes = 0;
        while self.state != State::Done {
            let event = ready!(self.poll_event(cx, &mut read_bytes));
            self.state = self.state.after(event);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque, rc::Rc, task::Waker, time::Duration};

    use super::{super::reader::CLOSE, *};

    /// Both ends of a connection: what the client sends and takes, and what the source gives and receives.
    #[derive(Default)]
    struct Ends {
        input: VecDeque<io::Result<&'static [u8]>>,
        /// How many bytes the client still takes.
        writable: usize,
        /// What each write has sent; nothing for the end of this side.
        writes: Vec<Bytes>,
        output: VecDeque<Output>,
        received: usize,
    }

    #[derive(Clone)]
    struct Fake(Rc<RefCell<Ends>>);

    impl AsyncRead for Fake {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let read = self.0.borrow_mut().input.pop_front();
            read.map_or(Poll::Pending, |read| Poll::Ready(read.map(|bytes| buf.put_slice(bytes))))
        }
    }

    impl AsyncWrite for Fake {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut ends = self.0.borrow_mut();
            let written = bytes.len().min(ends.writable);
            if written == 0 {
                return Poll::Pending;
            }
            ends.writable -= written;
            ends.writes.push(Bytes::copy_from_slice(&bytes[..written]));
            Poll::Ready(Ok(written))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.borrow_mut().writes.push(Bytes::new());
            Poll::Ready(Ok(()))
        }
    }

    impl ByteSource for Fake {
        fn poll_output(&mut self, _: &mut Context<'_>) -> Poll<Output> {
            self.0.borrow_mut().output.pop_front().map_or(Poll::Pending, Poll::Ready)
        }

        fn wants_input(&self) -> bool {
            true
        }

        fn receive(&mut self, read: io::Result<&[u8]>) {
            self.0.borrow_mut().received += read.unwrap().len();
        }
    }

    /// A connection with this response head, whose source has this output, and both its ends.
    fn connection(head: &'static str, output: Vec<Output>) -> (Connection<Fake, Fake, ()>, Rc<RefCell<Ends>>) {
        let ends = Ends { writable: 1000, output: output.into(), ..Ends::default() };
        let fake = Fake(Rc::new(RefCell::new(ends)));
        (Connection::new(fake.clone(), fake.clone(), head.into(), ()), fake.0)
    }

    fn poll(connection: &mut Connection<Fake, Fake, ()>) -> Poll<()> {
        Pin::new(connection).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_head_leaves_in_one_write_with_the_first_bytes_of_the_source() {
        let output = vec![Output::More("first ".into()), Output::More("second".into())];
        let (mut joined, ends) = connection("head ", output);
        assert!(poll(&mut joined).is_pending());
        assert_eq!(ends.borrow().writes, ["head first ", "second"]);
        let (mut alone, ends) = connection("head ", Vec::new());
        assert!(poll(&mut alone).is_pending());
        assert_eq!(ends.borrow().writes, ["head "]);
    }

    #[test]
    fn one_poll_reads_a_bounded_number_of_bytes() {
        let (mut connection, ends) = connection("", Vec::new());
        ends.borrow_mut().input = (0..100).map(|_| Ok(&[0; READ_BYTES][..])).collect();
        for polls in 1..=3 {
            assert!(poll(&mut connection).is_pending());
            assert_eq!(ends.borrow().received, polls * POLL_BYTES_LIMIT);
        }
    }

    #[test]
    fn nothing_is_read_from_a_client_that_does_not_read() {
        let (mut connection, ends) = connection("", vec![Output::More(vec![0; 1001].into())]);
        ends.borrow_mut().input.push_back(Ok(b"a word"));
        assert!(poll(&mut connection).is_pending());
        assert_eq!(ends.borrow().received, 0);
        ends.borrow_mut().writable = 1;
        assert!(poll(&mut connection).is_pending());
        assert_eq!(ends.borrow().received, 6);
    }

    #[actix_web::test]
    async fn input_behind_the_last_bytes_is_dropped_until_the_client_answers_and_ends() {
        let close = || Output::CloseFrame("bytes".into());
        let garbage = || (Ok(&b"garbage"[..]), State::Closing);
        let reset = || (Err(io::ErrorKind::ConnectionReset.into()), State::Done);
        let late = || (Ok(&b"garbage"[..]), State::Lingering);
        let end = |state| (Ok(&b""[..]), state);
        let answer = (Ok(&[CLOSE, 0x80][..]), State::Lingering);
        let connections = [
            (close(), vec![garbage(), answer, late(), end(State::Done)]),
            (close(), vec![garbage(), end(State::Lingering), end(State::Done)]),
            (close(), vec![garbage(), reset()]),
            (Output::Last("bytes".into()), vec![late(), end(State::Done)]),
            (Output::Last("bytes".into()), vec![late(), reset()]),
        ];
        for (output, reads) in connections {
            let (mut connection, ends) = connection("", vec![output]);
            assert!(poll(&mut connection).is_pending());
            assert!(connection.source.is_none(), "the source is dropped");
            for (read, state) in reads {
                ends.borrow_mut().input.push_back(read);
                assert_eq!(poll(&mut connection).is_ready(), state == State::Done);
                assert_eq!(connection.state, state);
                let has_shut_down = ends.borrow().writes.len() == 2;
                assert!(has_shut_down == (state == State::Lingering) || state == State::Done);
            }
        }
    }

    #[actix_web::test]
    async fn a_silent_client_is_dropped_in_time() {
        for (output, shut_down_after) in [(Output::CloseFrame("close".into()), 500), (Output::Last("bye".into()), 0)] {
            let (mut connection, ends) = connection("", vec![output]);
            let begun = Instant::now();
            let mut shut_down = None;
            std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                shut_down = shut_down.or((ends.borrow().writes.len() == 2).then(|| begun.elapsed()));
                polled
            })
            .await;
            let (shut_down, ended) = (shut_down.unwrap(), begun.elapsed());
            assert!(shut_down >= Duration::from_millis(shut_down_after) && shut_down < Duration::from_millis(1500));
            assert!((Duration::from_millis(1500)..Duration::from_secs(2)).contains(&ended), "{ended:?}");
        }
    }
}
