//! HTTP callers on one thread. They are as cheap as possible because they share the cores with the server: plain
//! sockets under one poll, prepared requests, and only the status of each answer is read.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::frames::head_ends;

/// One complete answer.
#[derive(Clone, Copy)]
pub struct Answer {
    pub asked_at: Instant,
    pub took: Duration,
    pub status: u16,
}

/// The requests of the callers.
pub trait Calls: Send + 'static {
    /// Writes the next request of this connection.
    fn next(&mut self, connection: usize, request: &mut Vec<u8>);
}

/// When requests are sent.
#[derive(Clone, Copy)]
pub enum Pace {
    /// On each connection, as soon as the last one is answered.
    Answered,
    /// At this rate, whatever has been answered, on any free connection.
    PerSecond(f64),
    /// At this rate on average, at random moments as people do, so that several callers sum up to the load of one.
    AtRandom(f64),
}

impl Pace {
    /// The time to the next request, if that does not depend on the answers.
    fn gap(self) -> Option<Duration> {
        match self {
            Self::Answered => None,
            Self::PerSecond(rate) => Some(Duration::from_secs_f64(1.0 / rate)),
            Self::AtRandom(rate) => Some(Duration::from_secs_f64(-(1.0 - rand::random::<f64>()).ln() / rate)),
        }
    }
}

pub struct Callers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Results>,
}

/// The result.
pub struct Results {
    pub answers: Vec<Answer>,
    /// Requests that were due while no connection was free: then the callers are the limit, not the server.
    pub left_out: usize,
    /// Requests whose connection ended without an answer.
    pub unanswered: usize,
}

impl Callers {
    pub fn start(server: SocketAddr, connections: usize, pace: Pace, calls: impl Calls) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stop_flag = Arc::clone(&stop);
        let call = move || Connections::connect(server, connections, calls).call(pace, &stop_flag);
        let thread = std::thread::Builder::new().name("callers".to_owned()).spawn(call).unwrap();
        Self { stop, thread }
    }

    /// Stops asking; returns when the last requests are answered.
    pub fn stop(self) -> Results {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every request is answered")
    }
}

struct Connection {
    tcp: TcpStream,
    /// When the pending request was due.
    asked_at: Option<Instant>,
    /// The beginning of an incomplete answer.
    part: Vec<u8>,
}

/// What a read of a connection returned.
enum Reading {
    Part,
    Whole(Answer),
    /// The server has ended the connection, as it does after some refusals, and there is a new one. Whether a request
    /// was lost.
    Ended(bool),
}

struct Connections<C> {
    server: SocketAddr,
    poll: Poll,
    connections: Vec<Connection>,
    calls: C,
    request: Vec<u8>,
    pending: usize,
}

impl Connection {
    fn connect(server: SocketAddr, poll: &Poll, nth: usize) -> Self {
        let tcp = std::net::TcpStream::connect(server).expect("a connection");
        tcp.set_nodelay(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let mut tcp = TcpStream::from_std(tcp);
        poll.registry().register(&mut tcp, Token(nth), Interest::READABLE).unwrap();
        Self { tcp, asked_at: None, part: Vec::new() }
    }
}

impl<C: Calls> Connections<C> {
    fn connect(server: SocketAddr, connections: usize, calls: C) -> Self {
        let poll = Poll::new().unwrap();
        let connections = (0..connections).map(|nth| Connection::connect(server, &poll, nth)).collect();
        Self { server, poll, connections, calls, request: Vec::new(), pending: 0 }
    }

    fn call(mut self, pace: Pace, stop: &AtomicBool) -> Results {
        let mut called = Results { answers: Vec::new(), left_out: 0, unanswered: 0 };
        let mut free: VecDeque<usize> = (0..self.connections.len()).collect();
        let mut due = Instant::now();
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let stopped = stop.load(Ordering::Relaxed);
            if stopped && self.pending == 0 {
                return called;
            }
            let mut wait = Duration::from_millis(100);
            let now = Instant::now();
            while !stopped && due <= now {
                match (free.pop_front(), pace.gap()) {
                    (Some(nth), None) => self.ask(nth, Instant::now()),
                    (None, None) => break,
                    (free, Some(gap)) => {
                        match free {
                            Some(nth) => self.ask(nth, due),
                            None => called.left_out += 1,
                        }
                        due += gap;
                    }
                }
            }
            if pace.gap().is_some() {
                wait = wait.min(due.saturating_duration_since(now));
            }
            self.poll.poll(&mut events, Some(wait)).unwrap();
            for event in &events {
                let nth = event.token().0;
                match self.read(nth, &mut buffer) {
                    Reading::Part => {}
                    Reading::Whole(answer) => {
                        called.answers.push(answer);
                        match pace {
                            // The answer's moment is also the next request's, which saves a read of the clock.
                            Pace::Answered if !stopped => self.ask(nth, answer.asked_at + answer.took),
                            _ => free.push_back(nth),
                        }
                    }
                    Reading::Ended(lost) => {
                        called.unanswered += usize::from(lost);
                        if lost {
                            free.push_back(nth);
                        }
                    }
                }
            }
        }
    }

    fn ask(&mut self, nth: usize, due: Instant) {
        self.request.clear();
        self.calls.next(nth, &mut self.request);
        let connection = &mut self.connections[nth];
        // A socket without a pending request has room for one. A connection that has ended is noticed when it is read.
        let _ = connection.tcp.write_all(&self.request);
        connection.asked_at = Some(due);
        self.pending += 1;
    }

    /// Reads what has arrived; returns the answer if it is complete.
    fn read(&mut self, nth: usize, buffer: &mut [u8]) -> Reading {
        let connection = &mut self.connections[nth];
        let status = loop {
            let read = match connection.tcp.read(buffer) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Reading::Part,
                Ok(_) | Err(_) => return self.connect_again(nth),
            };
            let whole = if connection.part.is_empty() {
                whole(&buffer[..read])
            } else {
                connection.part.extend_from_slice(&buffer[..read]);
                whole(&connection.part)
            };
            match whole {
                Some(status) => break status,
                None if connection.part.is_empty() => connection.part.extend_from_slice(&buffer[..read]),
                None => {}
            }
        };
        connection.part.clear();
        let asked_at = connection.asked_at.take().expect("an answer to a request");
        self.pending -= 1;
        Reading::Whole(Answer { asked_at, took: asked_at.elapsed(), status })
    }

    fn connect_again(&mut self, nth: usize) -> Reading {
        let lost = self.connections[nth].asked_at.is_some();
        self.pending -= usize::from(lost);
        self.connections[nth] = Connection::connect(self.server, &self.poll, nth);
        Reading::Ended(lost)
    }
}

/// The status of a complete answer.
fn whole(answer: &[u8]) -> Option<u16> {
    const LENGTH: &[u8] = b"content-length: ";
    let head = &answer[..head_ends(answer)?];
    let at = head.windows(LENGTH.len()).position(|name| name.eq_ignore_ascii_case(LENGTH))? + LENGTH.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    let digit = |at: usize| u16::from(head[at] - b'0');
    (answer.len() >= head.len() + length).then(|| digit(9) * 100 + digit(10) * 10 + digit(11))
}
