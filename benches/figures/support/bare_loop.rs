//! The reference of the fan-outs: a loop that only writes the same frame to as many sockets, while one thread reads
//! them as the listeners do. Two more loops also ask for receipts and read them; in one of them each socket is a task
//! of its own that is woken for it, as a session is.

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
const SOCKETS_LIMIT: usize = 8000;

/// A receipt as long as the service's: a ping with a number, and its masked pong.
const PING: [u8; 6] = *b"\x89\x041234";
const PONG_BYTES: usize = 10;

/// How long a frame may take to arrive.
const FRAMES_TIMEOUT: Duration = Duration::from_secs(10);

/// The ledger's pace.
const CHUNK: usize = 1000;
const CHUNK_INTERVAL: Duration = Duration::from_millis(8);

/// The writing thread's CPU for each frame.
pub fn cpu_a_frame(sockets: usize, frame: &[u8], rounds: usize) -> Duration {
    cpu(sockets, frame, 1, rounds, false)
}

/// The same with `at_once` frames in each write, a ping behind them, and the pong read.
pub fn cpu_a_proved_frame(sockets: usize, frame: &[u8], at_once: usize, rounds: usize) -> Duration {
    let frames = [frame.repeat(at_once), PING.to_vec()].concat();
    cpu(sockets, &frames, at_once, rounds, true) / u32::try_from(at_once).unwrap()
}

/// The same with a task for each socket on the server's kind of runtime, woken to write and to read the pong. Not all
/// at once but at the ledger's pace: one chunk every few ms, with bids in between.
pub fn cpu_a_proved_frame_of_tasks(sockets: usize, frame: &[u8], at_once: usize, rounds: usize) -> Duration {
    let sockets = sockets.min(SOCKETS_LIMIT);
    let frames: Rc<[u8]> = [frame.repeat(at_once), PING.to_vec()].concat().into();
    let mut audience = Audience::of(sockets);
    // Moved, not copied, because files are limited.
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
            let mut pace = tokio::time::interval(CHUNK_INTERVAL);
            for wake in &wakes {
                pace.tick().await;
                wake.notify_waiters();
            }
            done.notified().await;
            spent += cpu::of_this_thread() - before;
            audience.wait_for_frames(sockets * at_once);
        }
        spent
    });
    audience.listeners.stop();
    spent / u32::try_from(rounds * sockets * at_once).unwrap()
}

/// Both ends of many sockets: this loop writes to one, the listeners of the server's benches read the other.
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

    /// Waits until this many frames have arrived.
    fn wait_for_frames(&self, frames: usize) {
        self.listeners.wait_for(frames, FRAMES_TIMEOUT);
    }
}

/// Accepts the next connection and answers its handshake.
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
    let sockets = sockets.min(SOCKETS_LIMIT);
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
        audience.wait_for_frames(sockets * at_once);
    }
    audience.listeners.stop();
    spent / u32::try_from(rounds * sockets).unwrap()
}
