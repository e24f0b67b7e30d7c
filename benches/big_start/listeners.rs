//! Connected users: WebSockets by hand on one thread, as light as can be. They answer pings and note when the start's
//! alarm comes.

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

pub struct Listeners {
    heard: Arc<Mutex<Vec<Instant>>>,
    sockets: usize,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Listeners {
    /// Connects one socket for each token; returns when all have been greeted.
    pub fn connect(server: SocketAddr, tokens: Vec<String>) -> Self {
        let (sockets, heard) = (tokens.len(), Arc::<Mutex<Vec<Instant>>>::default());
        let (tell, told) = channel();
        let (stop, stopped) = oneshot::channel();
        let notes = Arc::clone(&heard);
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                listen_all(server, tokens, &notes, &tell);
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

    /// When each of them heard of the start, in order.
    pub fn wait_for_all(&self, patience: Duration) -> Vec<Instant> {
        let give_up = Instant::now() + patience;
        loop {
            let heard = self.heard.lock().unwrap();
            assert!(heard.len() <= self.sockets, "somebody heard it twice");
            if heard.len() == self.sockets {
                return heard.clone();
            }
            assert!(Instant::now() < give_up, "only {} of {} heard it", heard.len(), self.sockets);
            drop(heard);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn listen_all(server: SocketAddr, tokens: Vec<String>, heard: &Arc<Mutex<Vec<Instant>>>, all_there: &Sender<()>) {
    let turns = Rc::new(Semaphore::new(AT_ONCE));
    let missing = Rc::new(Cell::new(tokens.len()));
    for token in tokens {
        let turn = Rc::clone(&turns);
        let (heard, missing, all_there) = (Arc::clone(heard), Rc::clone(&missing), all_there.clone());
        tokio::task::spawn_local(async move {
            let turn = turn.acquire().await.unwrap();
            let mut socket = Socket::open(server, &token).await;
            // The greeting comes when the session is registered.
            socket.text().await;
            drop(turn);
            missing.set(missing.get() - 1);
            if missing.get() == 0 {
                all_there.send(()).unwrap();
            }
            loop {
                if socket.text().await.contains("auction_started") {
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
    async fn open(server: SocketAddr, token: &str) -> Self {
        let mut tcp = TcpStream::connect(server).await.expect("a connection");
        let handshake = format!(
            "GET /ws/alarms/?since=0 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Authorization: Bearer {token}\r\n\
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
        let mut buffer = [0; 1024];
        let read = self.tcp.read(&mut buffer).await.expect("the socket is open");
        assert!(read > 0, "the server ended a socket");
        self.unread.extend_from_slice(&buffer[..read]);
    }
}
