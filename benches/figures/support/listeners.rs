//! Connected users and visitors: WebSockets under one poll on one thread, as cheap as possible. They answer pings and
//! note when the frames arrive that they wait for.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::frames::{self, CLOSE, PING, TEXT};

/// Concurrent handshakes.
const CONCURRENT_HANDSHAKES: usize = 128;

/// How a listener opens its socket.
#[derive(Clone)]
pub struct Opening {
    pub path: String,
    pub token: Option<String>,
    /// A part of its first text, if that must be awaited.
    pub greeting: Option<&'static str>,
}

impl Opening {
    /// The new alarms of a user.
    pub fn of_alarms(user: i64) -> Self {
        // Above the newest id: no backlog.
        let path = format!("/ws/alarms/?since={}", i64::MAX / 2048);
        Self { path, token: Some(super::token(user)), greeting: Some("\"hello\"") }
    }
}

/// What the thread shares.
#[derive(Default)]
struct Shared {
    arrivals: Mutex<Vec<Instant>>,
    /// The first matching frame, as bytes.
    frame: Mutex<Vec<u8>>,
    closed: Mutex<BTreeMap<u16, usize>>,
    reads: AtomicUsize,
    stop: AtomicBool,
}

pub struct Listeners {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Listeners {
    /// Connects them; returns when all are open and have their greeting. They wait for frames that contain `needle`.
    pub fn connect(server: SocketAddr, openings: Vec<Opening>, needle: &'static str) -> Self {
        let shared = Arc::<Shared>::default();
        let (sender, receiver) = channel();
        let of_thread = Arc::clone(&shared);
        let listen = move || ListenerThread::new(server, openings, needle, &of_thread).listen(&sender);
        let thread = std::thread::Builder::new().name("listeners".to_owned()).spawn(listen).unwrap();
        receiver.recv().expect("all are connected");
        Self { shared, thread }
    }

    /// Closes all sockets.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sockets were open until now");
    }

    /// Waits for this many matching frames; returns their times in order. The next call waits for further ones.
    pub fn wait_for(&self, frames: usize, timeout: Duration) -> Vec<Instant> {
        let give_up = Instant::now() + timeout;
        loop {
            let mut arrivals = self.shared.arrivals.lock().unwrap();
            assert!(arrivals.len() <= frames, "a frame arrived twice");
            if arrivals.len() == frames {
                return std::mem::take(&mut *arrivals);
            }
            assert!(Instant::now() < give_up, "only {} of {frames} frames came", arrivals.len());
            drop(arrivals);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns when nothing has arrived for so long, neither frames nor pings.
    pub fn wait_for_quiet(&self, quiet: Duration) {
        let mut reads = self.shared.reads.load(Ordering::Relaxed);
        loop {
            std::thread::sleep(quiet);
            let now = self.shared.reads.load(Ordering::Relaxed);
            if now == reads {
                return;
            }
            reads = now;
        }
    }

    /// A matching frame, as bytes.
    pub fn frame(&self) -> Vec<u8> {
        self.shared.frame.lock().unwrap().clone()
    }

    /// How many sockets the server has ended, by close code (0: without one).
    pub fn closed(&self) -> BTreeMap<u16, usize> {
        self.shared.closed.lock().unwrap().clone()
    }
}

struct Socket {
    tcp: TcpStream,
    is_open: bool,
    greeted: bool,
    /// The beginning of an incomplete frame.
    part: Vec<u8>,
}

struct ListenerThread<'a> {
    poll: Poll,
    server: SocketAddr,
    openings: Vec<Opening>,
    sockets: Vec<Option<Socket>>,
    connected: usize,
    needle: &'static [u8],
    shared: &'a Shared,
    arrivals: Vec<Instant>,
}

impl<'a> ListenerThread<'a> {
    fn new(server: SocketAddr, openings: Vec<Opening>, needle: &'static str, shared: &'a Shared) -> Self {
        let poll = Poll::new().unwrap();
        let sockets = Vec::with_capacity(openings.len());
        Self { poll, server, openings, sockets, connected: 0, needle: needle.as_bytes(), shared, arrivals: Vec::new() }
    }

    fn listen(mut self, all_there: &Sender<()>) {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        let mut reported = false;
        while !self.shared.stop.load(Ordering::Relaxed) {
            while self.sockets.len() < self.openings.len().min(self.connected + CONCURRENT_HANDSHAKES) {
                self.sockets.push(None);
                self.open(self.sockets.len() - 1);
            }
            if self.connected == self.openings.len() && !reported {
                reported = true;
                all_there.send(()).unwrap();
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
            for event in &events {
                self.read(event.token().0, &mut buffer);
            }
            if !self.arrivals.is_empty() {
                self.shared.arrivals.lock().unwrap().append(&mut self.arrivals);
            }
        }
    }

    fn open(&mut self, nth: usize) {
        let mut tcp = std::net::TcpStream::connect(self.server).expect("a connection");
        let Opening { path, token, .. } = &self.openings[nth];
        tcp.write_all(frames::handshake(path, token.as_deref()).as_bytes()).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let mut tcp = TcpStream::from_std(tcp);
        self.poll.registry().register(&mut tcp, Token(nth), Interest::READABLE).unwrap();
        self.sockets[nth] = Some(Socket { tcp, is_open: false, greeted: false, part: Vec::new() });
    }

    fn read(&mut self, nth: usize, buffer: &mut [u8]) {
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        loop {
            let Some(socket) = &mut self.sockets[nth] else { return };
            let read = match socket.tcp.read(buffer) {
                Ok(0) => return self.ended(nth, 0),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.ended(nth, 0),
            };
            if socket.part.is_empty() {
                let used = self.take(nth, &buffer[..read]);
                if let Some(socket) = &mut self.sockets[nth] {
                    socket.part.extend_from_slice(&buffer[used..read]);
                }
            } else {
                let mut all = std::mem::take(&mut socket.part);
                all.extend_from_slice(&buffer[..read]);
                let used = self.take(nth, &all);
                if let Some(socket) = &mut self.sockets[nth] {
                    socket.part.extend_from_slice(&all[used..]);
                }
            }
            if read < buffer.len() {
                // Everything was read; later bytes raise another event.
                return;
            }
        }
    }

    /// Processes what is complete; returns how many bytes that were.
    fn take(&mut self, nth: usize, bytes: &[u8]) -> usize {
        let mut used = 0;
        if !self.sockets[nth].as_ref().is_some_and(|socket| socket.is_open) {
            let Some(head) = frames::head_ends(bytes) else { return 0 };
            if bytes.starts_with(b"HTTP/1.1 503") {
                // Too many at once: tries again, as clients do.
                self.open(nth);
                return bytes.len();
            }
            assert!(bytes.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(bytes));
            used = head;
            let greeted = self.openings[nth].greeting.is_none();
            if let Some(socket) = &mut self.sockets[nth] {
                socket.is_open = true;
                socket.greeted = greeted;
            }
            self.connected += usize::from(greeted);
        }
        while let Some((kind, payload, length)) = frames::first(&bytes[used..]) {
            match kind {
                TEXT => self.text(nth, payload, &bytes[used..used + length]),
                PING => self.answer(nth, payload),
                CLOSE => {
                    let code = payload.get(..2).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]));
                    self.ended(nth, code);
                    return bytes.len();
                }
                _ => panic!("no frame that a server sends: {kind:x}"),
            }
            used += length;
        }
        used
    }

    fn text(&mut self, nth: usize, payload: &[u8], frame: &[u8]) {
        let Some(socket) = &mut self.sockets[nth] else { return };
        if !socket.greeted {
            socket.greeted = true;
            self.connected += 1;
            let greeting = self.openings[nth].greeting.unwrap_or_default().as_bytes();
            assert!(holds(payload, greeting), "{}", String::from_utf8_lossy(payload));
        } else if holds(payload, self.needle) {
            if self.arrivals.is_empty() {
                let mut first = self.shared.frame.lock().unwrap();
                if first.is_empty() {
                    first.extend_from_slice(frame);
                }
            }
            self.arrivals.push(Instant::now());
        }
    }

    fn answer(&mut self, nth: usize, ping: &[u8]) {
        if let Some(socket) = &mut self.sockets[nth] {
            // A socket that the server has ended is noticed when it is read.
            let _ = socket.tcp.write_all(&frames::pong(ping));
        }
    }

    fn ended(&mut self, nth: usize, code: u16) {
        if self.sockets[nth].take().is_some() {
            *self.shared.closed.lock().unwrap().entry(code).or_default() += 1;
        }
    }
}

fn holds(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|part| part == needle)
}
