//! Bytes on a TCP connection, for what no well-behaved client sends. Blocking, because nothing else runs on a test's
//! thread.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::DEADLINE;

/// First bytes of WebSocket frames: of a whole message, or of one in fragments.
pub const TEXT: u8 = 0x81;
pub const TEXT_BEGINS: u8 = 0x01;
pub const BINARY: u8 = 0x82;
pub const CONTINUES: u8 = 0x00;
pub const CONTINUES_LAST: u8 = 0x80;
pub const CLOSE: u8 = 0x88;

pub struct Raw {
    tcp: TcpStream,
    unread: Vec<u8>,
}

/// An HTTP answer as it came.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// The code of the problem in the body.
    pub fn code(&self) -> String {
        assert!(self.head.to_ascii_lowercase().contains("content-type: application/problem+json"), "{}", self.head);
        let body: Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(body["status"], self.status);
        body["code"].as_str().expect("a code").to_owned()
    }
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("a connection"))
    }

    /// A connection of another client: all of 127.0.0.0/8 are this machine's addresses.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).expect("a connection");
        Self::over(socket.into())
    }

    fn over(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { tcp, unread: Vec::new() }
    }

    /// The client's address, as the server sees it.
    pub fn local_address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    /// A WebSocket with this token, upgraded by hand.
    pub fn socket(address: SocketAddr, token: &str) -> Self {
        let mut raw = Self::connect(address);
        let answer = raw.handshake("/ws/alarms/?since=0", &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(answer.status, 101, "{}", answer.head);
        let hello = raw.frame().expect("hello");
        assert!(String::from_utf8_lossy(&hello.1).contains("hello"));
        raw
    }

    /// A socket of a room, upgraded by hand.
    pub fn room(address: SocketAddr, path: &str, token: &str) -> Self {
        let mut raw = Self::connect(address);
        let answer = raw.handshake(path, &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(answer.status, 101, "{path}: {}", answer.head);
        raw
    }

    /// Requests an upgrade, with further headers.
    pub fn handshake(&mut self, path: &str, headers: &[(&str, &str)]) -> RawAnswer {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            self.tcp.peer_addr().unwrap()
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        self.write((request + "\r\n").as_bytes());
        self.answer().expect("an answer to the handshake")
    }

    /// Writes bytes. The server may have ended the connection already; only its answer matters.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.tcp.write_all(bytes);
    }

    /// Ends the sending direction.
    pub fn end_of_input(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// An HTTP answer; `None` when the connection ends without one.
    pub fn answer(&mut self) -> Option<RawAnswer> {
        let head_ends = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.unread.drain(..head_ends).collect()).expect("a head in UTF-8");
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")
                .map(|value| value.trim().parse::<usize>().unwrap())
        });
        let body = self.exactly(length.unwrap_or(0))?;
        Some(RawAnswer { status: head[9..12].parse().expect("a status"), head, body })
    }

    /// Head and body of an answer after which the server ends the connection, whatever length the answer declares.
    pub fn read_to_end(&mut self) -> (String, Vec<u8>) {
        while self.more().is_some() {}
        let at = self.unread.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let body = self.unread.split_off(at);
        (String::from_utf8(std::mem::take(&mut self.unread)).expect("a head in UTF-8"), body)
    }

    /// The next WebSocket frame: its first byte and payload; `None` when the connection has ended.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let begin = self.exactly(2)?;
        let length = match begin[1] {
            126 => u16::from_be_bytes(self.exactly(2)?.try_into().unwrap()).into(),
            127 => panic!("a frame of the server is never that long"),
            length => usize::from(length),
        };
        Some((begin[0], self.exactly(length)?))
    }

    /// The next text frame, as JSON; pings and `watchers` are skipped.
    pub fn text(&mut self) -> Value {
        loop {
            match self.frame().expect("the socket is open") {
                (TEXT, text) => match serde_json::from_slice::<Value>(&text).expect("JSON") {
                    frame if frame["response_type"] == "watchers" => {}
                    frame => return frame,
                },
                (first, payload) => assert_eq!(first, 0x89, "instead of a text: {payload:?}"),
            }
        }
    }

    /// Code and reason of the server's close frame, which must come; frames before it are skipped.
    pub fn close_frame(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.frame().expect("a close frame");
            if first == CLOSE {
                let (code, reason) = payload.split_at(2);
                let reason = String::from_utf8(reason.to_vec()).expect("a reason in UTF-8");
                return (u16::from_be_bytes([code[0], code[1]]), reason);
            }
        }
    }

    /// Reads until the server ends the connection; returns how long that took.
    pub fn ends(&mut self) -> Duration {
        let begun = Instant::now();
        while self.more().is_some() {}
        begun.elapsed()
    }

    /// The next bytes; `None` when the connection ends before.
    pub fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            self.more()?;
        }
        Some(self.unread.drain(..length).collect())
    }

    /// Whether the other side has ended the connection by now, if it has sent nothing.
    pub fn has_ended(&self) -> bool {
        self.tcp.set_nonblocking(true).unwrap();
        let peeked = self.tcp.peek(&mut [0]);
        self.tcp.set_nonblocking(false).unwrap();
        matches!(peeked, Ok(0)) || peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    }

    /// Whether something has arrived that is not read yet.
    pub fn has_data(&self) -> bool {
        self.tcp.set_nonblocking(true).unwrap();
        let peeked = self.tcp.peek(&mut [0]);
        self.tcp.set_nonblocking(false).unwrap();
        matches!(peeked, Ok(1))
    }

    /// Reads what has arrived; `None` when the connection has ended. Silence until the deadline fails the test.
    fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 4096];
        match self.tcp.read(&mut buffer) {
            Ok(0) => None,
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                Some(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

/// A WebSocket frame as clients send it: masked.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
