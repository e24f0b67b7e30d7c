//! A client that stops reading.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// An alarm socket opened by hand, with a receive buffer so small that the kernel cannot hide that nobody reads.
pub async fn stalled_socket(address: SocketAddr, token: &str) -> TcpStream {
    open(address, &format!("/ws/alram/?token={token}")).await
}

/// The same for an auction room.
pub async fn stalled_room_socket(address: SocketAddr, goods: i64, token: &str) -> TcpStream {
    open(address, &format!("/ws/auction/{goods}/?token={token}")).await
}

async fn open(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut tcp = socket.connect(address).await.unwrap();
    let handshake = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    tcp.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    tcp
}
