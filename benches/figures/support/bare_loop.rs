//! The reference of the fan-outs: a loop that does nothing but write the same frame to as many sockets, while one thread
//! reads them as the listeners do. And what a loop costs that also asks for receipt and reads the answer, and what it
//! costs when each socket is a task of its own that is woken for it, as a session is.

use std::{
    cell::Cell,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    rc::Rc,
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use super::{
    cpu, frames,
    listeners::{Listeners, Opening},
};

/// Both ends of each socket are in this process, which may have 20,000 files open.
const MOST: usize = 8000;

/// What proves receipt, as long as ours: a ping with a number, and its pong with a mask.
const PING: [u8; 6] = *b"\x89\x041234";
const PONG_BYTES: usize = 10;

/// For a frame to be heard.
const PATIENCE: Duration = Duration::from_secs(10);

/// The ledger's pace.
const CHUNK: usize = 1000;
const CHUNK_EVERY: Duration = Duration::from_millis(8);

/// CPU of the writing thread for each frame.
pub fn cpu_a_frame(sockets: usize, frame: &[u8], rounds: usize) -> Duration {
    cpu(sockets, frame, 1, rounds, false)
}

/// The same with so many frames in each write, a ping behind them, and the pong read.
pub fn cpu_a_proved_frame(sockets: usize, frame: &[u8], at_once: usize, rounds: usize) -> Duration {
    let frames = [frame.repeat(at_once), PING.to_vec()].concat();
    cpu(sockets, &frames, at_once, rounds, true) / u32::try_from(at_once).unwrap()
}

/// The same where each socket is a task on the runtime that the server has, woken to write and woken to read the pong,
/// and not all at once but in the ledger's pace: so many have to be served every few ms, between which bids are.
pub fn cpu_a_proved_frame_of_tasks(sockets: usize, frame: &[u8], at_once: usize, rounds: usize) -> Duration {
    let sockets = sockets.min(MOST);
    let frames: Rc<[u8]> = [frame.repeat(at_once), PING.to_vec()].concat().into();
    let mut audience = Audience::of(sockets);
    // Moved, not copied: there are only so many files.
    let writers = std::mem::take(&mut audience.writers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let spent = tokio::task::LocalSet::new().block_on(&runtime, async {
        let wakes: Vec<_> = (0..sockets.div_ceil(CHUNK)).map(|_| Rc::new(Notify::new())).collect();
        let done = Rc::new(Notify::new());
        let (pongs, waiting) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        for (nth, writer) in writers.into_iter().enumerate() {
            writer.set_nonblocking(true).unwrap();
            let mut socket = tokio::net::TcpStream::from_std(writer).unwrap();
            let (wake, done, pongs) = (Rc::clone(&wakes[nth / CHUNK]), Rc::clone(&done), Rc::clone(&pongs));
            let frames = Rc::clone(&frames);
            let waiting = Rc::clone(&waiting);
            tokio::task::spawn_local(async move {
                waiting.set(waiting.get() + 1);
                loop {
                    wake.notified().await;
                    socket.write_all(&frames).await.unwrap();
                    assert_eq!(socket.read(&mut [0; 64]).await.unwrap(), PONG_BYTES);
                    pongs.set(pongs.get() + 1);
                    if pongs.get() == sockets {
                        done.notify_one();
                    }
                }
            });
        }
        while waiting.get() < sockets {
            tokio::task::yield_now().await;
        }
        let mut spent = Duration::ZERO;
        for _ in 0..rounds {
            pongs.set(0);
            let before = cpu::of_this_thread();
            let mut pace = tokio::time::interval(CHUNK_EVERY);
            for wake in &wakes {
                pace.tick().await;
                wake.notify_waiters();
            }
            done.notified().await;
            spent += cpu::of_this_thread() - before;
            audience.has_heard(sockets * at_once);
        }
        spent
    });
    audience.listeners.stop();
    spent / u32::try_from(rounds * sockets * at_once).unwrap()
}

/// Both ends of many sockets: one is written to, the other is the listeners' that the server has, too.
struct Audience {
    writers: Vec<TcpStream>,
    listeners: Listeners,
}

impl Audience {
    fn of(sockets: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = std::thread::spawn(move || (0..sockets).map(|_| opened(&listener)).collect());
        let opening = Opening { path: "/".to_owned(), token: None, greeting: None };
        let listeners = Listeners::connect(address, vec![opening; sockets], "\"response_type\"");
        Self { writers: accepting.join().unwrap(), listeners }
    }

    /// Returns when so many frames have been heard.
    fn has_heard(&self, frames: usize) {
        self.listeners.wait_for(frames, PATIENCE);
    }
}

/// The next one who comes, answered.
fn opened(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    while frames::head_ends(&head).is_none() {
        let read = socket.read(&mut part).unwrap();
        head.extend_from_slice(&part[..read]);
    }
    socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
    socket
}

fn cpu(sockets: usize, frame: &[u8], at_once: usize, rounds: usize, proved: bool) -> Duration {
    let sockets = sockets.min(MOST);
    let mut audience = Audience::of(sockets);
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(1024);
    if proved {
        for (nth, writer) in audience.writers.iter().enumerate() {
            let descriptor = writer.as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), Token(nth), Interest::READABLE).unwrap();
        }
    }
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let before = cpu::of_this_thread();
        for writer in &mut audience.writers {
            writer.write_all(frame).unwrap();
        }
        let mut pongs = 0;
        while proved && pongs < sockets {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                pongs += usize::from(audience.writers[event.token().0].read(&mut [0; 64]).unwrap() == PONG_BYTES);
            }
        }
        spent += cpu::of_this_thread() - before;
        audience.has_heard(sockets * at_once);
    }
    audience.listeners.stop();
    spent / u32::try_from(rounds * sockets).unwrap()
}
