//! A user who writes lines in an auction room and ignores its frames.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::{frames, token};

pub struct LineAuthor(TcpStream);

impl LineAuthor {
    pub fn enter(server: SocketAddr, goods: i64, user: i64) -> Self {
        let mut tcp = TcpStream::connect(server).unwrap();
        let token = token(user);
        tcp.write_all(frames::handshake(&format!("/ws/auction/{goods}/"), Some(&token)).as_bytes()).unwrap();
        let mut answer = [0; 12];
        tcp.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        let mut ignored = tcp.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut ignored, &mut std::io::sink()));
        Self(tcp)
    }

    pub fn say(&mut self, text: &str) {
        let line = serde_json::json!({"is_money": false, "message": text}).to_string();
        self.0.write_all(&frames::text(line.as_bytes())).unwrap();
    }
}
