//! The session of one WebSocket as its connection sees it: the [`ByteSource`] that says what to write next and when to
//! close. Frames from the outbox go first, then what the actor writes. A close frame goes last.
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
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use actix_http::ws::{CloseCode, CloseReason, Parser};
use actix_web::Error;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Sleep;

use super::{
    connection::{ByteSource, Output},
    reader::FrameReader,
};
use crate::{
    actors::delivery::{frame, outbox::Outbox},
    domain::AlarmCursor,
    protocol::Close,
};

/// The least time between two pings that ask for receipt. One ping covers all frames before it.
const RECEIPT_PING_INTERVAL: Duration = Duration::from_millis(90);

type Actor = Pin<Box<dyn Stream<Item = Result<Bytes, Error>>>>;

/// Wakes the connection's task and notes that the actor asked for it. Most wakes come from the outbox, and polling the
/// actor for those would cost as much as writing a frame.
struct ActorWake {
    is_woken: AtomicBool,
    task: Waker,
}

impl ActorWake {
    /// The actor must be polled by the task, to register this waker everywhere.
    fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Self { is_woken: AtomicBool::new(true), task: task.clone() })
    }
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

/// The session of one WebSocket, up to and including its close frame.
pub(crate) struct SocketSession {
    outbox: Rc<RefCell<Outbox>>,
    actor: Actor,
    /// Wakes the task that polls this session on behalf of the actor.
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
        let wake = ActorWake::new(Waker::noop());
        Self { outbox, actor, wake, reader, pinged: AlarmCursor::START, pinged_at: None, ping_later: None }
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
    fn poll_actor(&mut self) -> Poll<Output> {
        if !self.wake.is_woken.swap(false, Ordering::AcqRel) && self.reader.is_free() {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.wake));
        let actor = self.actor.as_mut();
        self.reader.with_input(|| actor.poll_next(&mut Context::from_waker(&waker))).map(|next| match next {
            Some(Ok(bytes)) => {
                // The actor has returned bytes and so registered no waker: it must be polled again.
                self.wake.is_woken.store(true, Ordering::Release);
                Output::More(bytes)
            }
            Some(Err(_)) | None => Output::Last(Bytes::new()),
        })
    }
}

impl ByteSource for SocketSession {
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Output> {
        if !self.wake.task.will_wake(cx.waker()) {
            self.wake = ActorWake::new(cx.waker());
        }
        loop {
            if let Some(bytes) = self.take_frames() {
                return Poll::Ready(Output::More(bytes));
            }
            let due_close = self.outbox.borrow().due_close();
            if let Some(close) = due_close {
                let is_answered = self.reader.holds_last_input();
                let output = if is_answered { Output::Last } else { Output::CloseFrame };
                return Poll::Ready(output(close_frame(close)));
            }
            if let Poll::Ready(output) = self.poll_actor() {
                return Poll::Ready(output);
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

    fn wants_input(&self) -> bool {
        self.reader.is_free()
    }

    fn receive(&mut self, read: io::Result<&[u8]>) {
        self.reader.receive(read);
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
    use std::{cell::Cell, sync::atomic::AtomicUsize, task::ready};

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
                    std::future::poll_fn(|cx| match session.poll_output(cx) {
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

    async fn polled(session: &mut SocketSession) -> Poll<Output> {
        std::future::poll_fn(|cx| Poll::Ready(session.poll_output(cx))).await
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
        assert_eq!(polled(&mut session).await, Poll::Ready(Output::More("a frame".into())));
        assert!(polled(&mut session).await.is_pending());
        assert_eq!(polls.get(), 1, "once, at the start");
    }

    /// The client's close frame waits for the actor when the server closes. There is no need to wait for another one.
    #[actix_web::test]
    async fn a_client_that_has_already_closed_is_not_waited_for() {
        let inputs: [(io::Result<&[u8]>, bool); 4] = [
            (Ok(b"\x88\x80\0\0\0\0"), true),
            (Ok(b""), true),
            (Err(io::ErrorKind::ConnectionReset.into()), true),
            (Ok(b"\x81\x80\0\0\0\0"), false),
        ];
        for (read, is_last) in inputs {
            let (mut session, outbox) = session(stream::pending());
            assert!(polled(&mut session).await.is_pending());
            let what = format!("{read:?}");
            session.receive(read);
            assert!(!session.wants_input(), "the input waits for the actor");
            outbox.borrow_mut().close(Close::TooSlow);
            let frame = close_frame(Close::TooSlow);
            let expected = if is_last { Output::Last(frame) } else { Output::CloseFrame(frame) };
            assert_eq!(polled(&mut session).await, Poll::Ready(expected), "{what}");
        }
    }

    #[actix_web::test]
    async fn the_session_ends_with_its_actor() {
        let (mut session, _) = session(stream::iter([Ok(Bytes::from_static(b"an answer"))]));
        assert_eq!(polled(&mut session).await, Poll::Ready(Output::More("an answer".into())));
        assert_eq!(polled(&mut session).await, Poll::Ready(Output::Last(Bytes::new())));
    }
}
