//! A session as its connection sees it: bytes to write come out, bytes that were read go in. What waits in the outbox comes
//! first, then what the actor writes; at the end a close frame that the client can still read.
//!
//! Frames don't pass through the actor's mailbox, which has no bound: see "Why so" in `ARCHITECTURE.md`.

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
use crate::actors::delivery::{frame, outbox::Outbox};
use crate::protocol::Close;

/// Receipt is asked for at most this often; one ping proves all frames before it.
const PROVE_EVERY: Duration = Duration::from_millis(90);
/// How long the client's answer to a close frame is waited for. The server then reads on for up to a second more until
/// the client ends the connection; both together must stay below the 2 s of the contract.
const LINGER: Duration = Duration::from_millis(500);

type Actor = Pin<Box<dyn Stream<Item = Result<Bytes, Error>>>>;

enum State {
    Open(Actor),
    /// The close frame is out. What the client still sends is read and thrown away until it answers or goes: closing
    /// a socket with unread input would reset it, and the client would never see the code.
    Lingering(Pin<Box<Sleep>>),
    Over,
}

/// Tells what the actor was woken for from what only the outbox was: most frames are none of the actor's business, and
/// polling it costs as much as writing one.
struct ActorWake {
    woken: AtomicBool,
    task: Waker,
}

impl Wake for ActorWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// One WebSocket's session.
pub struct SocketSession {
    outbox: Rc<RefCell<Outbox>>,
    state: State,
    /// Who polls this.
    task: Waker,
    /// Wakes that task for the actor.
    wake: Arc<ActorWake>,
    ear: FrameReader,
    /// The last alarm whose receipt was asked for, and when.
    asked: i64,
    asked_at: Option<Instant>,
    ask_later: Option<Pin<Box<Sleep>>>,
}

impl SocketSession {
    pub(crate) fn new(outbox: Rc<RefCell<Outbox>>, actor: Actor, ear: FrameReader) -> Self {
        let task = Waker::noop().clone();
        Self {
            outbox,
            state: State::Open(actor),
            wake: Arc::new(ActorWake { woken: AtomicBool::new(true), task: task.clone() }),
            task,
            ear,
            asked: 0,
            asked_at: None,
            ask_later: None,
        }
    }

    /// The alarm whose receipt a ping behind the frames is to prove, if the last ping is old enough; otherwise it is due
    /// later.
    fn proof(&mut self) -> Option<i64> {
        let outbox = self.outbox.borrow();
        let taken = outbox.taken();
        if taken <= self.asked || !outbox.is_empty() || !outbox.proves_receipt() {
            return None;
        }
        let now = Instant::now();
        let due = self.asked_at.map_or(now, |at| at + PROVE_EVERY);
        if now < due {
            if self.ask_later.is_none() {
                self.ask_later = Some(Box::pin(tokio::time::sleep_until(due.into())));
            }
            return None;
        }
        self.asked = taken;
        self.asked_at = Some(now);
        self.ask_later = None;
        Some(taken)
    }

    /// What waits, with the ping that proves its receipt in the same write.
    fn waiting(&mut self) -> Option<Bytes> {
        let frames = self.outbox.borrow_mut().take();
        match (frames, self.proof()) {
            (Some(frames), Some(up_to)) => Some(frames.with_ping(up_to)),
            (Some(frames), None) => Some(frames.bytes()),
            (None, up_to) => up_to.map(frame::ping),
        }
    }

    /// What the actor itself writes, if it has been woken or there is something for it.
    fn poll_actor(&mut self) -> Poll<Option<Bytes>> {
        let State::Open(actor) = &mut self.state else { return Poll::Ready(None) };
        if !self.wake.woken.swap(false, Ordering::AcqRel) && self.ear.is_free() {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.wake));
        let polled = self.ear.handing_on(|| actor.as_mut().poll_next(&mut Context::from_waker(&waker)));
        match polled {
            Poll::Ready(Some(Ok(bytes))) => {
                // It has not said yet what it waits for.
                self.wake.woken.store(true, Ordering::Release);
                Poll::Ready(Some(bytes))
            }
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.task.will_wake(cx.waker()) {
            // Polled by another task than before: the actor has to tell all that it waits for whom to wake.
            self.task = cx.waker().clone();
            self.wake = Arc::new(ActorWake { woken: AtomicBool::new(true), task: self.task.clone() });
        }
        loop {
            if let Some(bytes) = self.waiting() {
                return Poll::Ready(Some(bytes));
            }
            let due_close = self.outbox.borrow().due_close();
            if let Some(close) = due_close {
                // Dropping the actor gives its seat back, which needs the outbox.
                self.state = if self.ear.holds_the_last() {
                    State::Over
                } else {
                    State::Lingering(Box::pin(tokio::time::sleep(LINGER)))
                };
                return Poll::Ready(Some(close_frame(close)));
            }
            match self.poll_actor() {
                Poll::Ready(Some(bytes)) => return Poll::Ready(Some(bytes)),
                Poll::Ready(None) => {
                    self.state = State::Over;
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            let mut outbox = self.outbox.borrow_mut();
            if outbox.is_empty() && outbox.due_close().is_none() {
                outbox.set_reader(cx.waker());
                drop(outbox);
                let due = self.ask_later.as_mut().is_some_and(|later| later.as_mut().poll(cx).is_ready());
                if !due {
                    return Poll::Pending;
                }
                self.ask_later = None;
            }
        }
    }

    /// The next bytes for the client; `None` when the connection is to end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.state {
            State::Open(_) => self.poll_open(cx),
            State::Lingering(deadline) => {
                ready!(deadline.as_mut().poll(cx));
                self.state = State::Over;
                Poll::Ready(None)
            }
            State::Over => Poll::Ready(None),
        }
    }

    /// Whether it takes more of what the client sends.
    pub fn listens(&self) -> bool {
        match self.state {
            State::Open(_) => self.ear.is_free(),
            State::Lingering(_) => true,
            State::Over => false,
        }
    }

    /// Bytes have come from the client; none: nothing more will. True if it has to be polled for it.
    pub fn hear(&mut self, bytes: &[u8]) -> bool {
        match self.state {
            State::Open(_) => {
                self.ear.hear(bytes);
                !self.ear.is_free()
            }
            State::Lingering(_) => {
                // A client answers a close with a close, as its last frame.
                let is_over = bytes.first().is_none_or(|first| *first == CLOSE);
                if is_over {
                    self.state = State::Over;
                }
                is_over
            }
            State::Over => true,
        }
    }

    /// Reading from the client has failed. It has to be polled for it.
    pub fn fail(&mut self, error: io::Error) {
        match self.state {
            State::Open(_) => self.ear.fail(error),
            State::Lingering(_) | State::Over => self.state = State::Over,
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
        let (ear, _) = FrameReader::new(100, Liveness::new(Rc::clone(&outbox), None), Rc::clone(&outbox));
        (SocketSession::new(Rc::clone(&outbox), Box::pin(actor), ear), outbox)
    }

    /// The actor waits for what other threads tell it, and they do at the very moment at which it is polled for a frame.
    #[actix_web::test]
    async fn no_wake_of_the_actor_is_lost() {
        const TIMES: usize = 600_000;
        let (tell, mut told) = mpsc::unbounded_channel();
        let (heard, go) = (Rc::new(Cell::new(0)), Arc::new(AtomicUsize::new(0)));
        let gone = Arc::clone(&go);
        let teller = std::thread::spawn(move || {
            for time in 1..=TIMES {
                while gone.load(Ordering::Acquire) < time {
                    std::hint::spin_loop();
                }
                let _ = tell.send(());
            }
        });
        let counted = Rc::clone(&heard);
        let actor = stream::poll_fn(move |cx| {
            while ready!(told.poll_recv(cx)).is_some() {
                counted.set(counted.get() + 1);
            }
            Poll::Ready(None)
        });
        let (mut session, outbox) = session(actor);
        let all = async {
            // Fewer where others use the processor too.
            let enough = Instant::now() + Duration::from_secs(3);
            for time in (1..=TIMES).take_while(|_| Instant::now() < enough) {
                go.store(time, Ordering::Release);
                for _ in 0..time % 100 {
                    std::hint::spin_loop();
                }
                outbox.borrow_mut().control(Bytes::from_static(b"a frame"));
                while heard.get() < time {
                    std::future::poll_fn(|cx| match session.poll_next(cx) {
                        Poll::Pending if heard.get() < time => Poll::Pending,
                        _ => Poll::Ready(()),
                    })
                    .await;
                }
            }
        };
        // Looked at first: its own wake would make a lost one good.
        let in_time = tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_secs(60)) => false,
            () = all => true,
        };
        go.store(TIMES, Ordering::Release);
        assert!(in_time, "it waits after {heard:?}");
        teller.join().unwrap();
    }

    async fn polled(session: &mut SocketSession) -> Poll<Option<Bytes>> {
        std::future::poll_fn(|cx| Poll::Ready(session.poll_next(cx))).await
    }

    #[actix_web::test]
    async fn an_actor_that_nobody_has_woken_is_not_polled_for_a_frame() {
        let times = Rc::new(Cell::new(0));
        let count = Rc::clone(&times);
        let actor = stream::poll_fn(move |_| {
            count.set(count.get() + 1);
            Poll::Pending
        });
        let (mut session, outbox) = session(actor);
        assert!(polled(&mut session).await.is_pending());
        outbox.borrow_mut().control(Bytes::from_static(b"a frame"));
        assert!(matches!(polled(&mut session).await, Poll::Ready(Some(frame)) if frame == "a frame"));
        assert!(polled(&mut session).await.is_pending());
        assert_eq!(times.get(), 1, "at its beginning");
    }

    /// The client has said his last while the actor could not look at it, and is not waited for.
    #[actix_web::test]
    async fn who_has_said_his_last_is_not_waited_for() {
        let last: [(&[u8], bool); 3] = [(b"\x88\x80\0\0\0\0", true), (b"", true), (b"\x81\x80\0\0\0\0", false)];
        for (bytes, is_last) in last {
            let (mut session, outbox) = session(stream::pending());
            assert!(polled(&mut session).await.is_pending());
            assert!(session.hear(bytes) && !session.listens(), "it is the actor's");
            outbox.borrow_mut().close(Close::TooSlow);
            assert!(matches!(polled(&mut session).await, Poll::Ready(Some(frame)) if frame.first() == Some(&CLOSE)));
            assert_eq!(matches!(polled(&mut session).await, Poll::Ready(None)), is_last, "{bytes:?}");
        }
    }
}
