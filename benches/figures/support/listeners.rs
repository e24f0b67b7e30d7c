//! Connected users and visitors: WebSockets by hand under one poll on one thread, as light as can be. They answer pings
//! and note when the frames come that they listen for.

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

/// Handshakes under way at once.
const AT_ONCE: usize = 128;

/// How one of them opens his socket.
#[derive(Clone)]
pub struct Opening {
    pub path: String,
    pub token: Option<String>,
    /// What its first text holds, if it is to be waited for.
    pub greeting: Option<&'static str>,
}

impl Opening {
    /// The alarms of a user, from now on.
    pub fn of_alarms(user: i64) -> Self {
        // Above the newest there is: no backlog.
        let path = format!("/ws/alarms/?since={}", i64::MAX / 2048);
        Self { path, token: Some(super::token(user)), greeting: Some("\"hello\"") }
    }
}

/// What the thread tells.
#[derive(Default)]
struct Notes {
    heard: Mutex<Vec<Instant>>,
    /// The first frame that they listened for, as it came.
    frame: Mutex<Vec<u8>>,
    closed: Mutex<BTreeMap<u16, usize>>,
    reads: AtomicUsize,
    stop: AtomicBool,
}

pub struct Listeners {
    notes: Arc<Notes>,
    thread: JoinHandle<()>,
}

impl Listeners {
    /// Connects them; returns when all are there and have been greeted. They listen for frames that hold `needle`.
    pub fn connect(server: SocketAddr, openings: Vec<Opening>, needle: &'static str) -> Self {
        let notes = Arc::<Notes>::default();
        let (tell, told) = channel();
        let of_thread = Arc::clone(&notes);
        let listen = move || Audience::new(server, openings, needle, &of_thread).listen(&tell);
        let thread = std::thread::Builder::new().name("listeners".to_owned()).spawn(listen).unwrap();
        told.recv().expect("all are connected");
        Self { notes, thread }
    }

    /// Ends all sockets.
    pub fn stop(self) {
        self.notes.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sockets were open until now");
    }

    /// When so many frames that they listen for had come, in order; from then on they listen for the next.
    pub fn wait_for(&self, frames: usize, patience: Duration) -> Vec<Instant> {
        let give_up = Instant::now() + patience;
        loop {
            let mut heard = self.notes.heard.lock().unwrap();
            assert!(heard.len() <= frames, "somebody heard it twice");
            if heard.len() == frames {
                return std::mem::take(&mut *heard);
            }
            assert!(Instant::now() < give_up, "only {} of {frames} frames came", heard.len());
            drop(heard);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns when nothing has come for so long, neither frames nor pings.
    pub fn wait_for_quiet(&self, quiet: Duration) {
        let mut reads = self.notes.reads.load(Ordering::Relaxed);
        loop {
            std::thread::sleep(quiet);
            let now = self.notes.reads.load(Ordering::Relaxed);
            if now == reads {
                return;
            }
            reads = now;
        }
    }

    /// A frame that they listened for, as it came.
    pub fn frame(&self) -> Vec<u8> {
        self.notes.frame.lock().unwrap().clone()
    }

    /// How many sockets the server has ended, by close code (0: without one).
    pub fn closed(&self) -> BTreeMap<u16, usize> {
        self.notes.closed.lock().unwrap().clone()
    }
}

struct Socket {
    tcp: TcpStream,
    is_open: bool,
    greeted: bool,
    /// What has come of a frame that is not all here.
    part: Vec<u8>,
}

struct Audience<'a> {
    poll: Poll,
    server: SocketAddr,
    openings: Vec<Opening>,
    sockets: Vec<Option<Socket>>,
    there: usize,
    needle: &'static [u8],
    notes: &'a Notes,
    heard: Vec<Instant>,
}

impl<'a> Audience<'a> {
    fn new(server: SocketAddr, openings: Vec<Opening>, needle: &'static str, notes: &'a Notes) -> Self {
        let poll = Poll::new().unwrap();
        let sockets = Vec::with_capacity(openings.len());
        Self { poll, server, openings, sockets, there: 0, needle: needle.as_bytes(), notes, heard: Vec::new() }
    }

    fn listen(mut self, all_there: &Sender<()>) {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        let mut said = false;
        while !self.notes.stop.load(Ordering::Relaxed) {
            while self.sockets.len() < self.openings.len().min(self.there + AT_ONCE) {
                self.sockets.push(None);
                self.open(self.sockets.len() - 1);
            }
            if self.there == self.openings.len() && !said {
                said = true;
                all_there.send(()).unwrap();
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
            for event in &events {
                self.read(event.token().0, &mut buffer);
            }
            if !self.heard.is_empty() {
                self.notes.heard.lock().unwrap().append(&mut self.heard);
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
        self.notes.reads.fetch_add(1, Ordering::Relaxed);
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
                // There was no more; what comes later is an event of its own.
                return;
            }
        }
    }

    /// Takes what is there as a whole; returns how many bytes that were.
    fn take(&mut self, nth: usize, bytes: &[u8]) -> usize {
        let mut used = 0;
        if !self.sockets[nth].as_ref().is_some_and(|socket| socket.is_open) {
            let Some(head) = frames::head_ends(bytes) else { return 0 };
            if bytes.starts_with(b"HTTP/1.1 503") {
                // Too many at once: he tries again, as clients do.
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
            self.there += usize::from(greeted);
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
            self.there += 1;
            let greeting = self.openings[nth].greeting.unwrap_or_default().as_bytes();
            assert!(holds(payload, greeting), "{}", String::from_utf8_lossy(payload));
        } else if holds(payload, self.needle) {
            if self.heard.is_empty() {
                let mut first = self.notes.frame.lock().unwrap();
                if first.is_empty() {
                    first.extend_from_slice(frame);
                }
            }
            self.heard.push(Instant::now());
        }
    }

    fn answer(&mut self, nth: usize, ping: &[u8]) {
        if let Some(socket) = &mut self.sockets[nth] {
            // A server that has ended the socket meanwhile is seen when it is read.
            let _ = socket.tcp.write_all(&frames::pong(ping));
        }
    }

    fn ended(&mut self, nth: usize, code: u16) {
        if self.sockets[nth].take().is_some() {
            *self.notes.closed.lock().unwrap().entry(code).or_default() += 1;
        }
    }
}

fn holds(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|part| part == needle)
}
