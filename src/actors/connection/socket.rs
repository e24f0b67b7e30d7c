//! One session as its connection sees it: the connection takes the bytes to write from here and passes on the bytes it
//! has read. Frames from the outbox go first, then what the actor writes. A close frame goes last, and the client gets
//! time to read it.
//!
//! Frames don't pass through the actor's mailbox, because that has no bound: see "Why so" in `ARCHITECTURE.md`.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::{Duration, Instant},
};

use actix_http::ws::{CloseCode, CloseReason, Parser};
use actix_web::Error;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Sleep;

use super::reader::{CLOSE, FrameReader};
use crate::{
    actors::delivery::{frame, outbox::Outbox},
    domain::AlarmCursor,
    protocol::Close,
};

/// The least time between two pings that ask for receipt. One ping covers all frames before it.
const RECEIPT_PING_INTERVAL: Duration = Duration::from_millis(90);
/// How long the client may take to answer a close frame. The connection then waits up to a second more for the client
/// to end it. Together they must stay below the 2 s that `docs/protocol.md` promises.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);

type Actor = Pin<Box<dyn Stream<Item = Result<Bytes, Error>>>>;

enum State {
    /// The session runs.
    Open(Actor),
    /// The close frame is written. What the client still sends is read and dropped until it answers or disconnects:
    /// closing a socket with unread input resets it, and the client would never see the close code.
    Lingering(Pin<Box<Sleep>>),
    /// Nothing is left to write or read.
    Done,
}

/// Wakes the connection's task and notes that the actor asked for it. Most wakes come from the outbox, and polling the
/// actor for those would cost as much as writing a frame.
struct ActorWake {
    is_woken: AtomicBool,
    task: Waker,
}

impl Wake for ActorWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// The session of one WebSocket, up to and including its close.
pub struct SocketSession {
    outbox: Rc<RefCell<Outbox>>,
    state: State,
    /// The task that polls this session.
    task: Waker,
    /// Wakes that task on behalf of the actor.
    wake: Arc<ActorWake>,
    reader: FrameReader,
    /// The alarm of the last receipt ping; 0 before the first.
    pinged: AlarmCursor,
    /// When the last receipt ping was sent.
    pinged_at: Option<Instant>,
    /// Ends when the next receipt ping is due, if one is needed.
    ping_later: Option<Pin<Box<Sleep>>>,
}

impl SocketSession {
    pub(crate) fn new(outbox: Rc<RefCell<Outbox>>, actor: Actor, reader: FrameReader) -> Self {
        let task = Waker::noop().clone();
        Self {
            outbox,
            state: State::Open(actor),
            wake: Arc::new(ActorWake { is_woken: AtomicBool::new(true), task: task.clone() }),
            task,
            reader,
            pinged: AlarmCursor::START,
            pinged_at: None,
            ping_later: None,
        }
    }

    /// The alarm for a receipt ping to send now. If the last ping was sent too recently, sets `ping_later` instead.
    fn due_receipt_ping(&mut self) -> Option<AlarmCursor> {
        let outbox = self.outbox.borrow();
        let taken = outbox.taken();
        if taken <= self.pinged || !outbox.is_empty() {
            return None;
        }
        let now = Instant::now();
        let due = self.pinged_at.map_or(now, |at| at + RECEIPT_PING_INTERVAL);
        if now < due {
            if self.ping_later.is_none() {
                self.ping_later = Some(Box::pin(tokio::time::sleep_until(due.into())));
            }
            return None;
        }
        self.pinged = taken;
        self.pinged_at = Some(now);
        self.ping_later = None;
        Some(taken)
    }

    /// The waiting frames, and behind them in the same write a receipt ping if one is due.
    fn take_frames(&mut self) -> Option<Bytes> {
        let frames = self.outbox.borrow_mut().take();
        match (frames, self.due_receipt_ping()) {
            (Some(frames), Some(up_to)) => Some(frames.with_ping(up_to)),
            (Some(frames), None) => Some(frames.bytes()),
            (None, up_to) => up_to.map(frame::ping),
        }
    }

    /// Polls the actor for bytes, but only if it was woken or input waits for it.
    fn poll_actor(&mut self) -> Poll<Option<Bytes>> {
        let State::Open(actor) = &mut self.state else { return Poll::Ready(None) };
        if !self.wake.is_woken.swap(false, Ordering::AcqRel) && self.reader.is_free() {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.wake));
        let polled = self.reader.with_input(|| actor.as_mut().poll_next(&mut Context::from_waker(&waker)));
        match polled {
            Poll::Ready(Some(Ok(bytes))) => {
                // The actor has returned bytes and so registered no waker: it must be polled again.
                self.wake.is_woken.store(true, Ordering::Release);
                Poll::Ready(Some(bytes))
            }
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.task.will_wake(cx.waker()) {
            // Another task polls now. The actor must be polled as well, to register the new waker everywhere.
            self.task = cx.waker().clone();
            self.wake = Arc::new(ActorWake { is_woken: AtomicBool::new(true), task: self.task.clone() });
        }
        loop {
            if let Some(bytes) = self.take_frames() {
                return Poll::Ready(Some(bytes));
            }
            let due_close = self.outbox.borrow().due_close();
            if let Some(close) = due_close {
                // This drops the actor, whose registration borrows the outbox when it is dropped.
                self.state = if self.reader.holds_last_input() {
                    State::Done
                } else {
                    State::Lingering(Box::pin(tokio::time::sleep(LINGER_TIMEOUT)))
                };
                return Poll::Ready(Some(close_frame(close)));
            }
            match self.poll_actor() {
                Poll::Ready(Some(bytes)) => return Poll::Ready(Some(bytes)),
                Poll::Ready(None) => {
                    self.state = State::Done;
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            let mut outbox = self.outbox.borrow_mut();
            if outbox.is_empty() && outbox.due_close().is_none() {
                outbox.set_socket_waker(cx.waker());
                drop(outbox);
                let is_ping_due = self.ping_later.as_mut().is_some_and(|later| later.as_mut().poll(cx).is_ready());
                if !is_ping_due {
                    return Poll::Pending;
                }
                self.ping_later = None;
            }
        }
    }

    /// The next bytes for the client; `None` when the connection should be closed.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.state {
            State::Open(_) => self.poll_open(cx),
            State::Lingering(deadline) => {
                ready!(deadline.as_mut().poll(cx));
                self.state = State::Done;
                Poll::Ready(None)
            }
            State::Done => Poll::Ready(None),
        }
    }

    /// Whether the session can take more input from the client.
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Open(_) => self.reader.is_free(),
            State::Lingering(_) => true,
            State::Done => false,
        }
    }

    /// Takes bytes from the client; no bytes mean that the client has closed its side. True if the session must
    /// be polled now.
    pub fn receive(&mut self, bytes: &[u8]) -> bool {
        match self.state {
            State::Open(_) => {
                self.reader.receive(bytes);
                !self.reader.is_free()
            }
            State::Lingering(_) => {
                // The client answers a close frame with its own, which is its last frame.
                let is_done = bytes.first().is_none_or(|first| *first == CLOSE);
                if is_done {
                    self.state = State::Done;
                }
                is_done
            }
            State::Done => true,
        }
    }

    /// Takes an error of reading from the client. The session must be polled now.
    pub fn fail(&mut self, error: io::Error) {
        match self.state {
            State::Open(_) => self.reader.fail(error),
            State::Lingering(_) | State::Done => self.state = State::Done,
        }
    }
}

fn close_frame(close: Close) -> Bytes {
    let mut frame = BytesMut::with_capacity(64);
    let reason = CloseReason { code: CloseCode::Other(close.code()), description: Some(close.reason()) };
    Parser::write_close(&mut frame, Some(reason), false);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::atomic::AtomicUsize};

    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::actors::{connection::liveness::Liveness, delivery::outbox::OutboxLimits};

    fn session(actor: impl Stream<Item = Result<Bytes, Error>> + 'static) -> (SocketSession, Rc<RefCell<Outbox>>) {
        let limits = OutboxLimits { frames: 10, bytes: 1000 };
        let outbox = Rc::new(RefCell::new(Outbox::of_room(limits, Arc::default())));
        let (reader, _) = FrameReader::new(100, Liveness::new(Rc::clone(&outbox), None), Rc::clone(&outbox));
        (SocketSession::new(Rc::clone(&outbox), Box::pin(actor), reader), outbox)
    }

    /// Another thread sends the actor a message at the very moment at which the session is polled for a frame.
    #[actix_web::test]
    async fn a_wake_of_the_actor_is_never_lost() {
        const TIMES: usize = 600_000;
        let (sender, mut messages) = mpsc::unbounded_channel();
        let (received, go) = (Rc::new(Cell::new(0)), Arc::new(AtomicUsize::new(0)));
        let send_up_to = Arc::clone(&go);
        let sending_thread = std::thread::spawn(move || {
            for time in 1..=TIMES {
                while send_up_to.load(Ordering::Acquire) < time {
                    std::hint::spin_loop();
                }
                let _ = sender.send(());
            }
        });
        let counted = Rc::clone(&received);
        let actor = stream::poll_fn(move |cx| {
            while ready!(messages.poll_recv(cx)).is_some() {
                counted.set(counted.get() + 1);
            }
            Poll::Ready(None)
        });
        let (mut session, outbox) = session(actor);
        let all = async {
            // A busy machine does fewer rounds.
            let enough = Instant::now() + Duration::from_secs(3);
            for time in (1..=TIMES).take_while(|_| Instant::now() < enough) {
                go.store(time, Ordering::Release);
                for _ in 0..time % 100 {
                    std::hint::spin_loop();
                }
                outbox.borrow_mut().control(Bytes::from_static(b"a frame"));
                while received.get() < time {
                    std::future::poll_fn(|cx| match session.poll_next(cx) {
                        Poll::Pending if received.get() < time => Poll::Pending,
                        _ => Poll::Ready(()),
                    })
                    .await;
                }
            }
        };
        // The timeout is polled first, so that its own wake cannot hide a lost one.
        let in_time = tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_secs(60)) => false,
            () = all => true,
        };
        go.store(TIMES, Ordering::Release);
        assert!(in_time, "stuck after {received:?} messages");
        sending_thread.join().unwrap();
    }

    async fn polled(session: &mut SocketSession) -> Poll<Option<Bytes>> {
        std::future::poll_fn(|cx| Poll::Ready(session.poll_next(cx))).await
    }

    #[actix_web::test]
    async fn a_frame_does_not_cause_a_poll_of_an_actor_that_was_not_woken() {
        let polls = Rc::new(Cell::new(0));
        let count = Rc::clone(&polls);
        let actor = stream::poll_fn(move |_| {
            count.set(count.get() + 1);
            Poll::Pending
        });
        let (mut session, outbox) = session(actor);
        assert!(polled(&mut session).await.is_pending());
        outbox.borrow_mut().control(Bytes::from_static(b"a frame"));
        assert!(matches!(polled(&mut session).await, Poll::Ready(Some(frame)) if frame == "a frame"));
        assert!(polled(&mut session).await.is_pending());
        assert_eq!(polls.get(), 1, "once, at the start");
    }

    /// The client's close frame waits for the actor when the server closes. There is no need to wait for another one.
    #[actix_web::test]
    async fn a_client_that_has_already_closed_is_not_waited_for() {
        let inputs: [(&[u8], bool); 3] = [(b"\x88\x80\0\0\0\0", true), (b"", true), (b"\x81\x80\0\0\0\0", false)];
        for (bytes, is_last) in inputs {
            let (mut session, outbox) = session(stream::pending());
            assert!(polled(&mut session).await.is_pending());
            assert!(session.receive(bytes) && !session.wants_input(), "the input waits for the actor");
            outbox.borrow_mut().close(Close::TooSlow);
            assert!(matches!(polled(&mut session).await, Poll::Ready(Some(frame)) if frame.first() == Some(&CLOSE)));
            assert_eq!(matches!(polled(&mut session).await, Poll::Ready(None)), is_last, "{bytes:?}");
        }
    }
}
