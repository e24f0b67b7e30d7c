//! Somebody who talks in an auction room, and doesn't listen.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::{frames, token};

pub struct Speaker(TcpStream);

impl Speaker {
    pub fn enter(server: SocketAddr, goods: i64, user: i64) -> Self {
        let mut tcp = TcpStream::connect(server).unwrap();
        let token = token(user);
        tcp.write_all(frames::handshake(&format!("/ws/auction/{goods}/"), Some(&token)).as_bytes()).unwrap();
        let mut answer = [0; 12];
        tcp.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        let mut unheard = tcp.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut unheard, &mut std::io::sink()));
        Self(tcp)
    }

    pub fn says(&mut self, text: &str) {
        let line = serde_json::json!({"is_money": false, "message": text}).to_string();
        self.0.write_all(&frames::text(line.as_bytes())).unwrap();
    }
}
