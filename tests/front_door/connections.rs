//! Connections while they speak HTTP: invalid requests, requests that never complete, timeouts, and clients that know
//! no chunks.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{DEADLINE, Raw, Scene, TestNode, eventually};

/// The longest that the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

const GOOD: &[u8] = b"GET /goods/ HTTP/1.1\r\nHost: x\r\n\r\n";

/// Asserts a refusal with a problem, after which the connection ends.
fn refuses(raw: &mut Raw, status: u16, code: &str, what: &str) {
    let answer = raw.answer().unwrap_or_else(|| panic!("{what}: no answer"));
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.head);
    let head = answer.head.to_ascii_lowercase();
    for header in ["connection: close\r\n", "x-content-type-options: nosniff\r\n", "x-request-id: ", "\r\ndate: "] {
        assert!(head.contains(header), "{what}: {head}");
    }
    raw.end_of_input();
    assert_eq!(raw.exactly(1), None, "{what}: nothing comes behind it");
}

#[actix_web::test]
async fn an_invalid_request_is_answered_with_a_problem_and_harms_nobody() {
    let scene = Scene::open().await;
    let token = scene.rude.token();
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n", scene.bids_path());
    let body = "{\"price\":9000}";
    let of = |text: String| text.into_bytes();
    let malformed: Vec<Vec<u8>> = vec![
        b"GARBAGE\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /goods/ HTTP/1.1\r\n\r\n".to_vec(),
        b"GET http://[::1 HTTP/1.1\r\n\r\n".to_vec(),
        b"GET /goods/1/ HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n".to_vec(),
        b"GET /goods/1/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_vec(),
        b"GET /goods/1/ HTTP/1.1\r\nX: a\0b\r\n\r\n".to_vec(),
        b"POST /goods/ HTTP/1.0\r\n\r\n".to_vec(),
        [b"GET /".to_vec(), b"a".repeat(70_000), b" HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()].concat(),
        of(format!("{head}Content-Length: -1\r\n\r\n{body}")),
        of(format!("{head}Content-Length: +14\r\n\r\n{body}")),
        of(format!("{head}Content-Length: many\r\n\r\n{body}")),
        of(format!("{head}Content-Length: 99999999999999999999\r\n\r\n{body}")),
        of(format!("{head}Content-Length: 14\r\nContent-Length: 15\r\n\r\n{body}")),
        of(format!("{head}Content-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\n{body}")),
        of(format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n{body}")),
    ];
    let too_large = [
        [b"GET /goods/1/ HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(5000), b"\r\n".to_vec()].concat(),
        [b"GET /".to_vec(), b"a".repeat(300_000), b" HTTP/1.1\r\n\r\n".to_vec()].concat(),
        [b"GET / HTTP/1.1\r\nX: ".to_vec(), b"a".repeat(1_000_000), b"\r\n\r\n".to_vec()].concat(),
    ];
    let malformed = malformed.iter().map(|bytes| (bytes, 400, "invalid_body"));
    for (bytes, status, code) in malformed.chain(too_large.iter().map(|bytes| (bytes, 431, "headers_too_large"))) {
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        let mut raw = Raw::connect(scene.node.address());
        raw.write(bytes);
        refuses(&mut raw, status, code, &what);
        // After valid requests in one segment, their answers come first.
        let mut raw = Raw::connect(scene.node.address());
        raw.write(&[GOOD, GOOD, bytes].concat());
        for _ in 0..2 {
            assert_eq!(raw.answer().expect("an answer").status, 200, "{what}");
        }
        refuses(&mut raw, status, code, &what);
    }
    scene.assert_unharmed().await;
}

/// The body is read because the user is authenticated.
#[actix_web::test]
async fn a_body_with_invalid_chunks_is_refused() {
    let scene = Scene::open().await;
    assert_eq!(scene.rude.get("/alarms").await.status, 200);
    for node in scene.node.on_each_node(scene.rude.token()) {
        assert_eq!(node.get("/alarms").await.status, 200);
    }
    let token = scene.rude.token();
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n", scene.bids_path());
    for size in ["xyz", "ffffffffffffffffff", "-1", "", "5;\n"] {
        let mut raw = Raw::connect(scene.node.address());
        raw.write(
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{size}\r\n{{\"price\":9000}}\r\n0\r\n\r\n").as_bytes(),
        );
        let answer = raw.answer().unwrap_or_else(|| panic!("{size}: no answer"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"), "{size}");
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_head_that_does_not_end_is_answered_with_408_on_any_request() {
    let scene = Scene::open().await;
    let address = scene.node.address();
    let mut unused = Raw::connect(address);
    let halves: [&[u8]; 4] = [b"G", &GOOD[..GOOD.len() - 1], &[GOOD, b"GET /goods/"].concat(), b"\r\n"];
    let begun = Instant::now();
    let mut slow: Vec<Raw> = halves.iter().map(|_| Raw::connect(address)).collect();
    for (raw, half) in slow.iter_mut().zip(halves) {
        raw.write(half);
    }
    assert_eq!(slow[2].answer().expect("an answer").status, 200);
    // Its timeout begins only now: what came behind the first request belonged to that turn.
    slow[2].write(b"1/ HTTP/1.1\r\n");
    for (raw, half) in slow.iter_mut().zip(halves) {
        refuses(raw, 408, "request_timeout", &String::from_utf8_lossy(half));
    }
    let took = begun.elapsed();
    assert!(took >= HEAD_TIMEOUT && took < HEAD_TIMEOUT + DEADLINE / 2, "{took:?}");
    // Nothing was sent on this connection, so nothing is answered, and it still works.
    unused.write(GOOD);
    assert_eq!(unused.answer().expect("an answer").status, 200);
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn an_idle_connection_ends_in_time_without_an_answer() {
    let keep_alive = Duration::from_secs(1);
    let node = TestNode::with(|settings| settings.server.keep_alive_s = 1);
    let begun = Instant::now();
    let [mut unused, mut used, mut last] = [(); 3].map(|()| Raw::connect(node.address()));
    used.write(GOOD);
    assert_eq!(used.answer().expect("an answer").status, 200);
    for raw in [&mut unused, &mut used] {
        assert_eq!(raw.exactly(1), None, "not a byte comes unasked");
        let took = begun.elapsed();
        // Long before the head of a request would have to be complete.
        assert!(took >= keep_alive && took < HEAD_TIMEOUT, "{took:?}");
    }
    // When the client ends the connection first, or while it is answered, the server does not wait.
    last.write(&[GOOD, b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"].concat());
    for _ in 0..2 {
        if let Some(answer) = last.answer() {
            assert_eq!(answer.status, 200);
        }
    }
    last.ends();
}

/// While the client has not read the whole answer, the connection is not idle.
#[actix_web::test]
async fn an_answer_that_is_read_slowly_is_complete() {
    const BYTES: usize = 32 * 1024 * 1024;
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("large.bin"), vec![b'x'; BYTES]).unwrap();
    let node = TestNode::with(|settings| {
        settings.server.keep_alive_s = 1;
        settings.server.media_dir = Some(folder.path().to_str().unwrap().to_owned());
    });
    let mut raw = Raw::connect(node.address());
    raw.write(b"GET /media/large.bin HTTP/1.1\r\nHost: x\r\n\r\n");
    // Longer than an idle connection is kept, and than a head may take: the next request has begun as well.
    raw.write(b"GET /goods/ HT");
    tokio::time::sleep(HEAD_TIMEOUT + Duration::from_secs(1)).await;
    assert_eq!(raw.answer().expect("an answer").body.len(), BYTES);
}

/// The existing client's proxies speak it too: to them a chunk's size would be a part of the picture.
#[actix_web::test]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let folder = TempDir::new().unwrap();
    let picture: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
    std::fs::write(folder.path().join("a.png"), &picture).unwrap();
    let node = TestNode::with(|settings| {
        settings.server.media_dir = Some(folder.path().to_str().unwrap().to_owned());
        settings.server.allowed_origins = vec!["https://market.example".into()];
    });
    let goods = node.live_goods(1).await;
    let user = node.user(2);
    let bearer = format!("Authorization: Bearer {}\r\n", user.token());
    let pages = ["/goods/", &format!("/goods/{goods}/"), "/alarms", "/media/default.jpeg", "/media/a.png", "/nowhere"];
    for (page, connection) in pages.iter().flat_map(|page| [(page, ""), (page, "Connection: keep-alive\r\n")]) {
        let mut raw = Raw::connect(node.address());
        raw.write(format!("GET {page} HTTP/1.0\r\n{connection}{bearer}\r\n").as_bytes());
        if connection.is_empty() {
            let (head, body) = raw.read_to_end();
            assert!(head.starts_with("HTTP/1.0 "), "{page}: {head}");
            assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{page}: {head}");
            assert!(*page != "/media/a.png" || body == picture);
            assert!(page.contains("media") || serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{page}");
        } else {
            // With a length the connection can be used again.
            let answer = raw.answer().expect("an answer");
            assert!(answer.head.contains("connection: keep-alive\r\n"), "{page}: {}", answer.head);
            assert!(!answer.head.contains("transfer-encoding") && !answer.body.is_empty(), "{page}: {}", answer.head);
            raw.write(b"GET /health/live HTTP/1.0\r\n\r\n");
            assert_eq!(raw.answer().expect("another answer").status, 200, "{page}");
        }
    }
    // A stream has no length: its end is the end of the connection, whatever the client asks for.
    for connection in ["", "Connection: keep-alive\r\n"] {
        let mut raw = Raw::connect(node.address());
        raw.write(format!("GET /alarms/stream?since=0 HTTP/1.0\r\n{connection}{bearer}\r\n").as_bytes());
        let answer = raw.answer().expect("an answer");
        let head = answer.head.to_ascii_lowercase();
        assert!(answer.status == 200 && !head.contains("transfer-encoding") && !head.contains("keep-alive"), "{head}");
        assert_eq!(raw.exactly(7).expect("an event"), b"data: {");
    }
    // And a WebSocket needs HTTP/1.1 (RFC 6455, 4.2.1).
    let mut raw = Raw::connect(node.address());
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    raw.write(format!("GET /ws/alarms/ HTTP/1.0\r\n{upgrade}{bearer}\r\n").as_bytes());
    let refused = raw.answer().expect("an answer");
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_body"));
    eventually("it is ready", || async { (user.get("/health/ready").await.status == 200).then_some(()) }).await;
}
