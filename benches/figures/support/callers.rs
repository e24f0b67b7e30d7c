//! Callers over HTTP, by hand on one thread and as light as can be, because they share the cores with the server: plain
//! sockets under one poll, requests that are ready beforehand, answers of which only the status is looked at.

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

/// One whole answer.
#[derive(Clone, Copy)]
pub struct Answer {
    pub asked_at: Instant,
    pub took: Duration,
    pub status: u16,
}

/// What they ask.
pub trait Calls: Send + 'static {
    /// Writes the next request of this connection.
    fn next(&mut self, connection: usize, request: &mut Vec<u8>);
}

/// How they ask.
#[derive(Clone, Copy)]
pub enum Pace {
    /// On each connection the next request as soon as the last one is answered.
    Answered,
    /// So many a second, whatever has been answered, on whichever connection is free.
    PerSecond(f64),
    /// So many a second on an average, at random moments, as people do: several callers come to the same load as one.
    AtRandom(f64),
}

impl Pace {
    /// From one request to the next, where that does not depend on the answers.
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
    thread: JoinHandle<Called>,
}

/// What came of it.
pub struct Called {
    pub answers: Vec<Answer>,
    /// Requests that were due while no connection was free: the callers, not the server, were the limit.
    pub left_out: usize,
    /// Requests whose connection ended without an answer.
    pub unanswered: usize,
}

impl Callers {
    pub fn start(server: SocketAddr, connections: usize, pace: Pace, calls: impl Calls) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let call = move || Crowd::connect(server, connections, calls).call(pace, &told);
        let thread = std::thread::Builder::new().name("callers".to_owned()).spawn(call).unwrap();
        Self { stop, thread }
    }

    /// When the last ones are answered.
    pub fn stop(self) -> Called {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every request is answered")
    }
}

struct Line {
    tcp: TcpStream,
    /// When the request was due that is under way.
    asked_at: Option<Instant>,
    /// An answer of which only a part is here.
    part: Vec<u8>,
}

/// What has come on a line.
enum Heard {
    Part,
    Whole(Answer),
    /// The server has ended the connection (after a refusal it does); there is a new one. Whether a request was lost.
    Ended(bool),
}

struct Crowd<C> {
    server: SocketAddr,
    poll: Poll,
    lines: Vec<Line>,
    calls: C,
    request: Vec<u8>,
    under_way: usize,
}

impl Line {
    fn connect(server: SocketAddr, poll: &Poll, nth: usize) -> Self {
        let tcp = std::net::TcpStream::connect(server).expect("a connection");
        tcp.set_nodelay(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let mut tcp = TcpStream::from_std(tcp);
        poll.registry().register(&mut tcp, Token(nth), Interest::READABLE).unwrap();
        Self { tcp, asked_at: None, part: Vec::new() }
    }
}

impl<C: Calls> Crowd<C> {
    fn connect(server: SocketAddr, connections: usize, calls: C) -> Self {
        let poll = Poll::new().unwrap();
        let lines = (0..connections).map(|nth| Line::connect(server, &poll, nth)).collect();
        Self { server, poll, lines, calls, request: Vec::new(), under_way: 0 }
    }

    fn call(mut self, pace: Pace, stop: &AtomicBool) -> Called {
        let mut called = Called { answers: Vec::new(), left_out: 0, unanswered: 0 };
        let mut free: VecDeque<usize> = (0..self.lines.len()).collect();
        let mut due = Instant::now();
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let stopped = stop.load(Ordering::Relaxed);
            if stopped && self.under_way == 0 {
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
                match self.hear(nth, &mut buffer) {
                    Heard::Part => {}
                    Heard::Whole(answer) => {
                        called.answers.push(answer);
                        match pace {
                            // The answer's moment is the next request's: one look at the clock for both.
                            Pace::Answered if !stopped => self.ask(nth, answer.asked_at + answer.took),
                            _ => free.push_back(nth),
                        }
                    }
                    Heard::Ended(lost) => {
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
        let line = &mut self.lines[nth];
        // A socket with nothing under way has room for a request. One that has ended is seen when it is read.
        let _ = line.tcp.write_all(&self.request);
        line.asked_at = Some(due);
        self.under_way += 1;
    }

    /// Reads what is there; the answer, if all of it is.
    fn hear(&mut self, nth: usize, buffer: &mut [u8]) -> Heard {
        let line = &mut self.lines[nth];
        let status = loop {
            let read = match line.tcp.read(buffer) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Part,
                Ok(_) | Err(_) => return self.connect_again(nth),
            };
            let whole = if line.part.is_empty() {
                whole(&buffer[..read])
            } else {
                line.part.extend_from_slice(&buffer[..read]);
                whole(&line.part)
            };
            match whole {
                Some(status) => break status,
                None if line.part.is_empty() => line.part.extend_from_slice(&buffer[..read]),
                None => {}
            }
        };
        line.part.clear();
        let asked_at = line.asked_at.take().expect("nobody answers what was not asked");
        self.under_way -= 1;
        Heard::Whole(Answer { asked_at, took: asked_at.elapsed(), status })
    }

    fn connect_again(&mut self, nth: usize) -> Heard {
        let lost = self.lines[nth].asked_at.is_some();
        self.under_way -= usize::from(lost);
        self.lines[nth] = Line::connect(self.server, &self.poll, nth);
        Heard::Ended(lost)
    }
}

/// The status of an answer that is there as a whole.
fn whole(answer: &[u8]) -> Option<u16> {
    const LENGTH: &[u8] = b"content-length: ";
    let head = &answer[..head_ends(answer)?];
    let at = head.windows(LENGTH.len()).position(|name| name.eq_ignore_ascii_case(LENGTH))? + LENGTH.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    let digit = |at: usize| u16::from(head[at] - b'0');
    (answer.len() >= head.len() + length).then(|| digit(9) * 100 + digit(10) * 10 + digit(11))
}
