//! The point where a connection stops being HTTP: nothing of either side is lost there, and a refused upgrade is
//! answered like any other request.

use crate::support::{CLOSE, Raw, Scene, TEXT, masked};

const HANDSHAKE: &str = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const PING: &[u8] = b"{\"type\":\"ping\"}";

fn handshake(scene: &Scene) -> Vec<u8> {
    format!("GET /ws/alarms/?token={} HTTP/1.1\r\n{HANDSHAKE}\r\n", scene.rude.token()).into_bytes()
}

#[actix_web::test]
async fn frames_sent_before_the_handshakes_answer_are_processed() {
    let scene = Scene::open().await;
    let mut raw = Raw::connect(scene.node.address());
    let mut request = handshake(&scene);
    request.extend(masked(TEXT, PING));
    raw.write(&request);
    assert_eq!(raw.answer().expect("the handshake's answer").status, 101);
    assert_eq!(raw.text()["response_type"], "pong");
    raw.write(&masked(CLOSE, &4321_u16.to_be_bytes()));
    assert_eq!(raw.close_frame().0, 4321);
    raw.end_of_input();
    raw.ends();
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_connection_that_was_used_for_requests_may_become_a_socket() {
    let scene = Scene::open().await;
    let mut raw = Raw::connect(scene.node.address());
    let mut requests = b"GET /goods/ HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    requests.extend(handshake(&scene));
    raw.write(&requests);
    for status in [200, 200, 101] {
        assert_eq!(raw.answer().expect("an answer").status, status);
    }
    raw.write(&masked(TEXT, PING));
    assert_eq!(raw.text()["response_type"], "pong");
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_refused_upgrade_is_answered_whole_and_ends_the_connection() {
    let scene = Scene::open().await;
    for (path, status) in [("/goods/", 200), ("/nowhere", 404), ("/ws/alarms/", 401), ("/media/default.jpeg", 200)] {
        let mut raw = Raw::connect(scene.node.address());
        raw.write(format!("GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        let (head, body) = raw.read_to_end();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(head.to_ascii_lowercase().contains("connection: close\r\n"), "{path}: {head}");
        let length = format!("content-length: {}\r\n", body.len());
        assert!(
            !body.is_empty() && head.to_ascii_lowercase().contains(&length),
            "{path}: {} bytes: {head}",
            body.len()
        );
    }
    scene.assert_unharmed().await;
}

/// The answer has no length and no chunks: its end is the end of the connection.
#[actix_web::test]
async fn an_event_stream_that_is_asked_to_upgrade_stays_an_event_stream() {
    let scene = Scene::open().await;
    let mut raw = Raw::connect(scene.node.address());
    let path = format!("/alarms/stream?since=0&token={}", scene.rude.token());
    raw.write(format!("GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    let answer = raw.answer().expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(!answer.head.to_ascii_lowercase().contains("transfer-encoding"), "{}", answer.head);
    assert_eq!(raw.exactly(7).expect("an event"), b"data: {");
    drop(raw);
    scene.assert_unharmed().await;
}

/// Bytes behind such a request are not a body: it is answered at once, without waiting for more.
#[actix_web::test]
async fn a_bid_that_asks_to_upgrade_is_refused_at_once() {
    let scene = Scene::open().await;
    let mut raw = Raw::connect(scene.node.address());
    let bid = "{\"price\":1000}";
    let bearer = format!("Authorization: Bearer {}\r\nContent-Length: {}\r\n", scene.rude.token(), bid.len());
    raw.write(format!("POST /goods/1/bids HTTP/1.1\r\n{HANDSHAKE}{bearer}\r\n{bid}").as_bytes());
    let answer = raw.answer().expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"));
    raw.end_of_input();
    raw.ends();
    scene.assert_unharmed().await;
}

/// A request that stays HTTP never becomes a socket.
#[actix_web::test]
async fn a_handshake_with_a_body_or_another_protocol_is_refused() {
    let scene = Scene::open().await;
    let of_one = HANDSHAKE.replace("Upgrade: websocket", "Upgrade: websocket, another");
    let chunked = format!("{HANDSHAKE}Transfer-Encoding: chunked\r\n");
    for headers in [of_one, chunked] {
        let mut raw = Raw::connect(scene.node.address());
        let request = format!("GET /ws/alarms/?token={} HTTP/1.1\r\n{headers}\r\n", scene.rude.token());
        raw.write(request.as_bytes());
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"), "{headers}");
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn the_answer_to_head_has_no_body_even_with_an_upgrade() {
    let scene = Scene::open().await;
    for path in ["/goods/", "/media/default.jpeg"] {
        let mut raw = Raw::connect(scene.node.address());
        raw.write(format!("HEAD {path} HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        let (head, body) = raw.read_to_end();
        assert!(head.starts_with("HTTP/1.1 ") && !head.contains("content-length: 0"), "{path}: {head}");
        assert!(body.is_empty(), "{path}: {} bytes", body.len());
    }
}
