//! WebSocket frames: parsed from a server's bytes, and written as a client sends them.

/// First bytes of frames.
pub const TEXT: u8 = 0x81;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;

/// The first frame: its first byte, its payload, and its whole length. `None` if it is incomplete.
pub fn first(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => panic!("a frame that long"),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(head..head + length)?;
    Some((bytes[0], payload, head + length))
}

/// A pong, masked with zeros.
pub fn pong(ping: &[u8]) -> Vec<u8> {
    [&[0x8a, 0x80 | ping.len() as u8, 0, 0, 0, 0], ping].concat()
}

/// A short text, masked with zeros.
pub fn text(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[TEXT, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// The request that opens a socket.
pub fn handshake(path: &str, token: Option<&str>) -> String {
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{bearer}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Where the head of an answer ends, if it is complete.
pub fn head_ends(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}
