//! The reference of the fan-outs: a loop that does nothing but write the same frame to as many sockets, while one thread
//! reads them as the listeners do. And what a loop costs that also asks for receipt and reads the answer, and what it
//! costs when each socket is a task of its own that is woken for it, as a session is.

use std::{
    cell::Cell,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use super::cpu;

/// Both ends of each socket are in this process, which may have 20,000 files open.
const MOST: usize = 8000;

/// What proves receipt, as long as ours: a ping with a number, and its pong with a mask.
const PING: [u8; 6] = [0; 6];
const PONG: [u8; 10] = [0; 10];

/// The ledger's pace.
const CHUNK: usize = 500;
const CHUNK_EVERY: Duration = Duration::from_millis(4);

/// CPU of the writing thread for each frame.
pub fn cpu_a_frame(sockets: usize, frame: &[u8], rounds: usize) -> Duration {
    cpu(sockets, frame, rounds, false)
}

/// The same with so many frames in each write, a ping behind them, and the pong read.
pub fn cpu_a_proved_frame(sockets: usize, frame: &[u8], at_once: usize, rounds: usize) -> Duration {
    let frames = [frame.repeat(at_once), PING.to_vec()].concat();
    cpu(sockets, &frames, rounds, true) / u32::try_from(at_once).unwrap()
}

/// The same where each socket is a task on the runtime that the server has, woken to write and woken to read the pong,
/// and not all at once but in the ledger's pace: so many have to be served every few ms, between which bids are.
pub fn cpu_a_proved_frame_of_tasks(sockets: usize, frame: &[u8], at_once: usize, rounds: usize) -> Duration {
    let sockets = sockets.min(MOST);
    let frames: Rc<[u8]> = [frame.repeat(at_once), PING.to_vec()].concat().into();
    let mut audience = Audience::of(sockets, true);
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
                    assert_eq!(socket.read(&mut [0; 64]).await.unwrap(), PONG.len());
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
        for round in 1..=rounds {
            pongs.set(0);
            let before = cpu::of_this_thread();
            let mut pace = tokio::time::interval(CHUNK_EVERY);
            for wake in &wakes {
                pace.tick().await;
                wake.notify_waiters();
            }
            done.notified().await;
            spent += cpu::of_this_thread() - before;
            audience.has_read(round * sockets * frames.len());
        }
        spent
    });
    audience.leave();
    spent / u32::try_from(rounds * sockets * at_once).unwrap()
}

/// Both ends of many sockets: one is written to, the other is read by a thread.
struct Audience {
    writers: Vec<TcpStream>,
    bytes: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    reading: JoinHandle<()>,
}

impl Audience {
    fn of(sockets: usize, answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pairs = (0..sockets).map(|_| {
            let reader = TcpStream::connect(address).unwrap();
            let (writer, _) = listener.accept().unwrap();
            writer.set_nodelay(true).unwrap();
            (writer, reader)
        });
        let (writers, readers): (Vec<_>, Vec<_>) = pairs.unzip();
        let (bytes, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (seen, stopped) = (Arc::clone(&bytes), Arc::clone(&stop));
        let reading = std::thread::spawn(move || read_all(readers, answers, &seen, &stopped));
        Self { writers, bytes, stop, reading }
    }

    /// Returns when so many bytes have been read.
    fn has_read(&self, bytes: usize) {
        while self.bytes.load(Ordering::Relaxed) < bytes {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn leave(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.reading.join().unwrap();
    }
}

fn cpu(sockets: usize, frame: &[u8], rounds: usize, proved: bool) -> Duration {
    let sockets = sockets.min(MOST);
    let mut audience = Audience::of(sockets, proved);
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(1024);
    if proved {
        for (nth, writer) in audience.writers.iter().enumerate() {
            let descriptor = writer.as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), Token(nth), Interest::READABLE).unwrap();
        }
    }
    let mut spent = Duration::ZERO;
    for round in 1..=rounds {
        let before = cpu::of_this_thread();
        for writer in &mut audience.writers {
            writer.write_all(frame).unwrap();
        }
        let mut pongs = 0;
        while proved && pongs < sockets {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                pongs += usize::from(audience.writers[event.token().0].read(&mut [0; 64]).unwrap() == PONG.len());
            }
        }
        spent += cpu::of_this_thread() - before;
        audience.has_read(round * sockets * frame.len());
    }
    audience.leave();
    spent / u32::try_from(rounds * sockets).unwrap()
}

fn read_all(readers: Vec<TcpStream>, answers: bool, seen: &AtomicUsize, stop: &AtomicBool) {
    let mut poll = Poll::new().unwrap();
    let registered = readers.into_iter().enumerate().map(|(nth, reader)| {
        reader.set_nonblocking(true).unwrap();
        let mut reader = mio::net::TcpStream::from_std(reader);
        poll.registry().register(&mut reader, Token(nth), Interest::READABLE).unwrap();
        reader
    });
    let mut readers: Vec<_> = registered.collect();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
        for event in &events {
            let reader = &mut readers[event.token().0];
            if let Ok(read @ 1..) = reader.read(&mut buffer) {
                if answers {
                    reader.write_all(&PONG).unwrap();
                }
                seen.fetch_add(read, Ordering::Relaxed);
            }
        }
    }
}
