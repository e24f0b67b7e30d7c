//! Connected users and visitors: WebSockets by hand on one thread, as light as can be. They answer pings and note when
//! the frames come that they listen for.

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, oneshot},
    task::LocalSet,
};

/// Handshakes under way at once.
const AT_ONCE: usize = 128;
const PING: u8 = 0x89;
const TEXT: u8 = 0x81;

/// How one of them opens his socket.
pub struct Opening {
    pub path: String,
    pub token: Option<String>,
    /// What its first text holds, if it is to be waited for.
    pub greeting: Option<&'static str>,
}

pub struct Listeners {
    heard: Arc<Mutex<Vec<Instant>>>,
    sockets: usize,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Listeners {
    /// Connects them; returns when all are there and have been greeted. They listen for frames that hold `needle`.
    pub fn connect(server: SocketAddr, openings: Vec<Opening>, needle: &'static str) -> Self {
        let (sockets, heard) = (openings.len(), Arc::<Mutex<Vec<Instant>>>::default());
        let (tell, told) = channel();
        let (stop, stopped) = oneshot::channel();
        let notes = Arc::clone(&heard);
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                listen_all(server, openings, needle, &notes, &tell);
                let _ = stopped.await;
            });
        });
        told.recv().expect("all are connected");
        println!("{sockets} connected in {:.1} s", begun.elapsed().as_secs_f64());
        Self { heard, sockets, stop, thread }
    }

    /// Ends all sockets.
    pub fn stop(self) {
        let _ = self.stop.send(());
        self.thread.join().expect("the sockets were open until now");
    }

    /// When each of them heard what they listen for, in order; from then on they listen for the next.
    pub fn wait_for_all(&self, patience: Duration) -> Vec<Instant> {
        let give_up = Instant::now() + patience;
        loop {
            let mut heard = self.heard.lock().unwrap();
            assert!(heard.len() <= self.sockets, "somebody heard it twice");
            if heard.len() == self.sockets {
                return std::mem::take(&mut *heard);
            }
            assert!(Instant::now() < give_up, "only {} of {} heard it", heard.len(), self.sockets);
            drop(heard);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn listen_all(
    server: SocketAddr,
    openings: Vec<Opening>,
    needle: &'static str,
    heard: &Arc<Mutex<Vec<Instant>>>,
    all_there: &Sender<()>,
) {
    let turns = Rc::new(Semaphore::new(AT_ONCE));
    let missing = Rc::new(Cell::new(openings.len()));
    for opening in openings {
        let turn = Rc::clone(&turns);
        let (heard, missing, all_there) = (Arc::clone(heard), Rc::clone(&missing), all_there.clone());
        tokio::task::spawn_local(async move {
            let turn = turn.acquire().await.unwrap();
            let mut socket = Socket::open(server, &opening).await;
            if let Some(greeting) = opening.greeting {
                let first = socket.text().await;
                assert!(first.contains(greeting), "{first}");
            }
            drop(turn);
            missing.set(missing.get() - 1);
            if missing.get() == 0 {
                all_there.send(()).unwrap();
            }
            loop {
                if socket.text().await.contains(needle) {
                    heard.lock().unwrap().push(Instant::now());
                }
            }
        });
    }
}

struct Socket {
    tcp: TcpStream,
    unread: Vec<u8>,
}

impl Socket {
    async fn open(server: SocketAddr, Opening { path, token, .. }: &Opening) -> Self {
        let mut tcp = TcpStream::connect(server).await.expect("a connection");
        let bearer = token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let handshake = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{bearer}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tcp.write_all(handshake.as_bytes()).await.unwrap();
        let mut socket = Self { tcp, unread: Vec::new() };
        let head = loop {
            if let Some(at) = socket.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break socket.unread.drain(..at + 4).collect::<Vec<u8>>();
            }
            socket.more().await;
        };
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        socket
    }

    /// The next text; pings before it are answered.
    async fn text(&mut self) -> String {
        loop {
            let length = loop {
                match self.unread.get(1..4) {
                    Some(&[126, high, low]) => break 4 + usize::from(u16::from_be_bytes([high, low])),
                    Some(&[length, ..]) if length < 126 => break 2 + usize::from(length),
                    Some(_) => panic!("a frame that long"),
                    None if self.unread.get(1) == Some(&0) => break 2,
                    None => self.more().await,
                }
            };
            while self.unread.len() < length {
                self.more().await;
            }
            let frame: Vec<u8> = self.unread.drain(..length).collect();
            match frame[0] {
                TEXT => return String::from_utf8_lossy(&frame).into_owned(),
                PING => {
                    // A pong, masked with zeros.
                    let pong = [&[0x8a, 0x80 | frame[1], 0, 0, 0, 0], &frame[2..]].concat();
                    self.tcp.write_all(&pong).await.expect("the socket is open");
                }
                _ => panic!("the server ends a socket: {:?}", String::from_utf8_lossy(&frame[2..])),
            }
        }
    }

    async fn more(&mut self) {
        let mut buffer = [0; 4096];
        let read = self.tcp.read(&mut buffer).await.expect("the socket is open");
        assert!(read > 0, "the server ended a socket");
        self.unread.extend_from_slice(&buffer[..read]);
    }
}
