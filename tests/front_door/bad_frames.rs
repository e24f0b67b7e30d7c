//! Invalid handshakes and WebSocket frames: each is closed correctly, and no other client notices.

use std::time::Duration;

use actix_http::ws::Item;
use awc::ws::Message;
use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::{Value, json};

use crate::support::{
    BINARY, CLOSE, CONTINUES, CONTINUES_LAST, Process, Raw, Scene, Socket, TEXT, TEXT_BEGINS, TestNode, goods_body,
    masked, token,
};

/// How long a connection may live after the server's close frame.
const END_WITHIN: Duration = Duration::from_secs(2);

fn raw_socket(scene: &Scene) -> Raw {
    Raw::socket(scene.node.address(), scene.rude.token())
}

/// Sends these bytes. The server must close with this code and a short reason, and end the connection.
fn closes(scene: &Scene, bytes: &[u8], code: u16, what: &str) {
    let mut raw = raw_socket(scene);
    raw.write(bytes);
    let (closed, reason) = raw.close_frame();
    assert_eq!(closed, code, "{what}");
    assert!((1..=123).contains(&reason.len()), "{what}: {reason}");
    // Answering and ending the connection spares this test the server's wait for it. Another test checks that wait.
    raw.write(&masked(CLOSE, &code.to_be_bytes()));
    raw.end_of_input();
    assert!(raw.ends() < END_WITHIN, "{what}");
}

#[actix_web::test]
async fn text_that_is_not_json_is_closed_with_1007() {
    let scene = Scene::open().await;
    let texts = [
        "",
        " ",
        "hello",
        "{",
        "}",
        "{\"type\":}",
        "{\"type\":\"ping\"",
        "{'type':'ping'}",
        "\u{feff}{}",
        "{}{}",
        "NaN",
        "\0",
    ];
    for text in texts {
        closes(&scene, &masked(TEXT, text.as_bytes()), 1007, text);
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn text_that_is_not_utf_8_is_closed_with_1007() {
    let scene = Scene::open().await;
    let texts: [&[u8]; 5] = [
        b"\xff",
        b"{\"type\":\"ping\xff\"}",
        b"{\"type\":\"ping\",\"x\":\"\xc3\x28\"}",
        b"\xed\xa0\x80",
        b"{\"x\":\"\xf4\x90\x80\x80\"}",
    ];
    for text in texts {
        closes(&scene, &masked(TEXT, text), 1007, &String::from_utf8_lossy(text));
        let halves = [masked(TEXT_BEGINS, &text[..1]), masked(CONTINUES_LAST, &text[1..])].concat();
        closes(&scene, &halves, 1007, "in two fragments");
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn binary_is_closed_with_1003() {
    let scene = Scene::open().await;
    for payload in [&b""[..], b"{\"type\":\"ping\"}", b"\xff\xfe"] {
        closes(&scene, &masked(BINARY, payload), 1003, "binary");
    }
    let fragments = [masked(0x02, b"{}"), masked(CONTINUES_LAST, b"")].concat();
    closes(&scene, &fragments, 1003, "binary in fragments");
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn frames_over_the_limit_are_closed_with_1009() {
    let scene = Scene::open().await;
    let ping = "{\"type\":\"ping\"}";
    let long = |length: usize| ping.to_owned() + &" ".repeat(length - ping.len());
    let mut raw = raw_socket(&scene);
    raw.write(&masked(TEXT, long(8192).as_bytes()));
    assert_eq!(raw.text()["response_type"], "pong", "exactly at the limit");
    for length in [8193, 65_536, 300_000] {
        closes(&scene, &masked(TEXT, long(length).as_bytes()), 1009, &length.to_string());
    }
    // The frame is only announced: the server does not wait for it.
    let announced = [&[TEXT, 0xff][..], &[0x7f; 8], &[0; 4]].concat();
    closes(&scene, &announced, 1009, "2^63 bytes announced");
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn fragments_are_joined_within_the_limit() {
    let scene = Scene::open().await;
    let mut raw = raw_socket(&scene);
    raw.write(&[masked(TEXT_BEGINS, b"{\"type\":"), masked(CONTINUES_LAST, b"\"ping\"}")].concat());
    assert_eq!(raw.text()["response_type"], "pong");
    // Byte by byte, with a character split in two and a ping frame in between.
    let text = "{\"type\":\"ping\",\"note\":\"가\"}".as_bytes();
    raw.write(&masked(TEXT_BEGINS, &text[..1]));
    for byte in &text[1..] {
        raw.write(&masked(CONTINUES, &[*byte]));
    }
    raw.write(&[masked(0x89, b"between"), masked(CONTINUES_LAST, b"")].concat());
    assert_eq!(raw.frame(), Some((0x8a, b"between".to_vec())), "control frames may come between fragments");
    assert_eq!(raw.text()["response_type"], "pong");
    // Each is within the limit, their sum is over it.
    let half = " ".repeat(4097);
    let halves = [masked(TEXT_BEGINS, half.as_bytes()), masked(CONTINUES_LAST, half.as_bytes())].concat();
    closes(&scene, &halves, 1009, "the sum");
    let many =
        [masked(TEXT_BEGINS, b"[")].into_iter().chain((0..9000).map(|_| masked(CONTINUES, b" "))).collect::<Vec<_>>();
    closes(&scene, &many.concat(), 1009, "without an end");
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn fragments_as_a_browser_sends_them_are_joined() {
    let node = TestNode::start();
    let mut socket = node.user(2).socket_since(0).await;
    assert_eq!(socket.next().await["response_type"], "hello");
    socket.send(Message::Continuation(Item::FirstText("{\"type\":".into()))).await;
    socket.send(Message::Continuation(Item::Last("\"ping\"}".into()))).await;
    assert_eq!(socket.next().await["response_type"], "pong");
}

#[actix_web::test]
async fn json_that_is_not_a_known_frame_is_ignored() {
    let scene = Scene::open().await;
    let mut socket = scene.rude.socket_since(0).await;
    assert_eq!(socket.next().await["response_type"], "hello");
    let deep = "[".repeat(2000) + &"]".repeat(2000);
    let unknown = [
        "{}",
        "[]",
        "null",
        "true",
        "0",
        "-0.0",
        "1e999",
        "\"ping\"",
        "[{\"type\":\"ping\"}]",
        "{\"type\":null}",
        "{\"type\":1}",
        "{\"type\":\"PING\"}",
        "{\"type\":[\"ping\"]}",
        "{\"type\":\"nothing\"}",
        "{\"type\":\"ping\",\"type\":\"ping\"}",
        "{\"Type\":\"ping\"}",
        "{\"type\":\"ack\"}",
        "{\"type\":\"ack\",\"up_to\":null}",
        "{\"type\":\"ack\",\"up_to\":\"1\"}",
        "{\"type\":\"ack\",\"up_to\":1.5}",
        "{\"type\":\"ack\",\"up_to\":-1}",
        "{\"type\":\"ack\",\"up_to\":1e400}",
        "{\"type\":\"ack\",\"up_to\":18446744073709551616}",
        "{\"type\":\"ack\",\"up_to\":9223372036854775807}",
        "{\"type\":\"auth\"}",
        "{\"type\":\"auth\",\"token\":null}",
        "{\"type\":\"auth\",\"token\":1}",
        "{\"type\":\"\\ud800\"}",
        "{\"response_type\":\"alram\",\"id\":1}",
        "{\"is_money\":true,\"goods_id\":\"1\",\"user_id\":2,\"message\":6000}",
        &deep,
    ];
    for text in unknown {
        socket.send_text(text).await;
        socket.send_text("{\"type\":\"ping\"}").await;
        assert_eq!(socket.next().await["response_type"], "pong", "{text:.80}");
    }
    scene.assert_unharmed().await;
}

/// An `ack` of a future id must not count as a receipt of future alarms.
#[actix_web::test]
async fn an_ack_of_a_future_id_hides_no_later_alarm() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (mina, joon) = (node.user(2), node.user(3));
    let mut socket = mina.socket().await;
    socket.send_json(&json!({"type": "ack", "up_to": i64::MAX})).await;
    socket.send_json(&json!({"type": "ping"})).await;
    assert_eq!(socket.next().await["response_type"], "pong");
    socket.close().await;
    assert_eq!(mina.bid(goods, 1000).await.status, 201);
    assert_eq!(joon.bid(goods, 2000).await.status, 201);
    assert_eq!(mina.socket().await.expect_alarm("outbid").await["high_price"], 2000);
}

/// Neither must a `pong` that answers no ping.
#[actix_web::test]
async fn a_pong_of_a_future_id_hides_no_later_alarm() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (mina, joon) = (node.user(2), node.user(3));
    let mut socket = mina.socket().await;
    for payload in ["9223372036854775807", "99999999999999999999", "-1", "x", ""] {
        socket.send(Message::Pong(payload.into())).await;
    }
    socket.send_json(&json!({"type": "ping"})).await;
    assert_eq!(socket.next().await["response_type"], "pong");
    socket.close().await;
    assert_eq!(mina.bid(goods, 1000).await.status, 201);
    assert_eq!(joon.bid(goods, 2000).await.status, 201);
    let mut socket = mina.socket().await;
    let id = socket.expect_alarm("outbid").await["id"].as_i64().unwrap();
    assert_eq!(socket.next_ping().await, id.to_string(), "its receipt is asked for");
}

#[actix_web::test]
async fn frames_that_break_the_protocol_end_their_connection_and_no_other() {
    let scene = Scene::open().await;
    let ping = b"{\"type\":\"ping\"}";
    let broken: [(&str, Vec<u8>); 21] = [
        ("unmasked", [&[TEXT, ping.len() as u8][..], ping].concat()),
        ("garbage", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("zeros", vec![0; 64]),
        ("all ones", vec![0xff; 64]),
        ("RSV1", masked(0xc1, ping)),
        ("RSV2", masked(0xa1, ping)),
        ("RSV3", masked(0x91, ping)),
        ("all of them", masked(0xf1, ping)),
        ("RSV1 of a ping", masked(0xc9, b"")),
        ("RSV1 of a close", masked(0xc8, b"")),
        ("RSV1 of a fragment", [masked(TEXT_BEGINS, b"{"), masked(0xc0, b"}")].concat()),
        ("a reserved opcode", masked(0x83, ping)),
        ("a reserved control opcode", masked(0x8b, b"")),
        ("a long ping", masked(0x89, &[b'x'; 126])),
        ("a ping over the limit", masked(0x89, &[b'x'; 70_000])),
        ("a long close", masked(CLOSE, &[&1000_u16.to_be_bytes()[..], &[b'x'; 124]].concat())),
        ("a ping in fragments", masked(0x09, b"x")),
        ("a pong in fragments", masked(0x0a, b"x")),
        ("a continuation of nothing", masked(CONTINUES_LAST, b"x")),
        ("a second beginning", [masked(TEXT_BEGINS, b"{"), masked(TEXT_BEGINS, b"}")].concat()),
        ("a close of one byte", masked(CLOSE, b"x")),
    ];
    for (what, bytes) in broken {
        closes(&scene, &bytes, 1002, what);
        // Only its header: the server does not wait for the rest.
        if bytes.len() > 14 && !what.contains("beginning") && !what.contains("fragment") {
            closes(&scene, &bytes[..2], 1002, what);
        }
    }
    // A valid frame in the same segment before it is processed.
    for (first, code) in [(0xc1, 1002), (0x83, 1002), (TEXT, 1009)] {
        let mut raw = raw_socket(&scene);
        raw.write(&[masked(TEXT, ping), masked(0x89, b"1"), masked(first, &[b' '; 9000])].concat());
        assert_eq!(raw.text()["response_type"], "pong");
        assert_eq!(raw.frame(), Some((0x8a, b"1".to_vec())));
        assert_eq!(raw.close_frame().0, code);
    }
    // Half a frame, then the end.
    let whole = masked(TEXT, ping);
    for length in 1..whole.len() {
        raw_socket(&scene).write(&whole[..length]);
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn garbage_on_one_of_a_users_sockets_leaves_their_others_open() {
    let scene = Scene::open().await;
    let mut tab = scene.rude.socket_since(0).await;
    assert_eq!(tab.next().await["response_type"], "hello");
    closes(&scene, &masked(TEXT, b"no JSON"), 1007, "the other tab");
    tab.send_json(&json!({"type": "ping"})).await;
    assert_eq!(tab.next().await["response_type"], "pong");
    scene.assert_unharmed().await;
}

/// Contract 5: the server ends the connection within 2 s of its close frame, whatever the client does.
#[actix_web::test]
async fn the_connection_of_a_client_that_ignores_the_close_frame_ends() {
    let scene = Scene::open().await;
    let mut silent = raw_socket(&scene);
    silent.write(&masked(BINARY, b"x"));
    assert_eq!(silent.close_frame().0, 1003);
    assert!(silent.ends() < END_WITHIN);
    let mut chatty = raw_socket(&scene);
    chatty.write(&masked(BINARY, b"x"));
    assert_eq!(chatty.close_frame().0, 1003);
    for _ in 0..1000 {
        chatty.write(&masked(TEXT, b"{\"type\":\"ping\"}"));
    }
    assert!(chatty.ends() < END_WITHIN);
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_clients_close_is_answered_with_the_same_code() {
    let scene = Scene::open().await;
    for code in [1000u16, 1001, 3000, 4999] {
        let mut raw = raw_socket(&scene);
        raw.write(&masked(CLOSE, &[&code.to_be_bytes()[..], b"bye"].concat()));
        assert_eq!(raw.close_frame().0, code);
        raw.end_of_input();
        assert!(raw.ends() < END_WITHIN);
    }
    let mut without_code = raw_socket(&scene);
    without_code.write(&masked(CLOSE, b""));
    assert!(without_code.ends() < END_WITHIN);
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_since_that_is_not_an_id_is_refused_at_the_handshake() {
    let scene = Scene::open().await;
    let bearer = format!("Bearer {}", scene.rude.token());
    for since in ["x", "-1", "", "1.5", "1e3", "%ff", "%00", "null", "+1", "[1]"] {
        for path in ["/ws/alarms/", "/ws/alram/"] {
            let mut raw = Raw::connect(scene.node.address());
            let answer = raw.handshake(&format!("{path}?since={since}"), &[("Authorization", &bearer)]);
            assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_value"), "{since}");
            assert!(String::from_utf8(answer.body).unwrap().contains("\"field\":\"since\""));
        }
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_since_above_the_newest_id_counts_as_the_newest() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (mina, joon) = (node.user(2), node.user(3));
    assert_eq!(mina.bid(goods, 1000).await.status, 201);
    assert_eq!(joon.bid(goods, 2000).await.status, 201);
    let newest = mina.get("/alarms/unread").await.body["last_id"].clone();
    let mut sockets = Vec::new();
    for since in ["9007199254740991", "9223372036854775807", "9223372036854775808", "99999999999999999999999"] {
        let path = format!("/ws/alarms/?since={since}");
        let mut socket = Socket::open(&node.base(), &path, &[], Some(mina.token())).await.unwrap();
        let hello = socket.next().await;
        assert_eq!((&hello["response_type"], &hello["last_id"]), (&json!("hello"), &newest));
        sockets.push(socket);
    }
    assert_eq!(mina.bid(goods, 3000).await.status, 201);
    assert_eq!(joon.bid(goods, 4000).await.status, 201);
    for socket in &mut sockets {
        assert_eq!(socket.expect_alarm("outbid").await["high_price"], 4000, "the first that comes is a new one");
    }
}

#[actix_web::test]
async fn a_request_that_is_not_a_handshake_is_answered_with_a_problem() {
    let scene = Scene::open().await;
    for path in ["/ws/alarms/", "/ws/alram", "/ws/alarms?since=0"] {
        let answer = scene.rude.get(path).await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.text);
        assert_eq!(answer.code(), "invalid_body");
        assert_eq!(scene.node.visitor().get(path).await.code(), "unauthorized");
    }
    let bearer = format!("Authorization: Bearer {}\r\n", scene.rude.token());
    let bad = [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 6\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ];
    for headers in bad {
        let mut raw = Raw::connect(scene.node.address());
        raw.write(format!("GET /ws/alarms/ HTTP/1.1\r\nHost: x\r\n{bearer}{headers}\r\n").as_bytes());
        let answer = raw.answer().expect("an answer");
        assert!((400..500).contains(&answer.status), "{headers}: {}", answer.head);
        assert_eq!(answer.code(), "invalid_body", "{headers}");
    }
    scene.assert_unharmed().await;
}

/// The smallest frames there are, as fast as possible, from a client without a token.
#[actix_web::test]
async fn a_flood_of_small_frames_fills_no_memory() {
    const BYTES: usize = 6 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("x.db"));
    let body = goods_body(&json!({"starts_at": SystemTime.now()}));
    let goods = process.user(1).post("/goods/", &body).await.body["id"].to_string();
    let mut raw = Raw::connect(process.address());
    assert_eq!(raw.handshake(&format!("/ws/auction/{goods}/"), &[]).status, 101);
    let before = process.memory_kib("VmRSS");
    let pongs = masked(0x8a, b"").repeat(10_000);
    for _ in 0..BYTES / pongs.len() {
        raw.write(&pongs);
    }
    // The answer to a ping comes after all frames before it were processed.
    raw.write(&masked(0x89, b"over"));
    while raw.frame().expect("the socket is open") != (0x8a, b"over".to_vec()) {}
    let peak = process.memory_kib("VmHWM");
    assert!(peak < before + 3 * 1024, "{before} KiB before, {peak} KiB at most");
}

/// Many sockets misbehave at once. Those of other users get everything in order.
#[actix_web::test]
async fn many_misbehaving_sockets_cost_others_nothing() {
    let scene = Scene::open().await;
    let mut misbehaving: Vec<Raw> =
        (100..160).map(|user| Raw::socket(scene.node.address(), &token(user, scene.node.now()))).collect();
    for (raw, bytes) in
        misbehaving.iter_mut().zip([masked(TEXT, b"{"), masked(BINARY, b"x"), vec![0xff; 32]].iter().cycle())
    {
        raw.write(bytes);
    }
    let mut received = Vec::new();
    let mut listener = scene.node.user(50).socket_since(0).await;
    assert_eq!(listener.next().await["response_type"], "hello");
    let other = scene.node.live_goods(1).await;
    for price in 1..=20 {
        assert_eq!(scene.node.user(50).bid(other, price * 2000).await.status, 201);
        assert_eq!(scene.node.user(51).bid(other, price * 2000 + 1000).await.status, 201);
        received.push(listener.expect_alarm("outbid").await["id"].as_i64().unwrap());
    }
    assert!(received.windows(2).all(|pair| pair[0] < pair[1]), "{received:?}");
    for raw in &mut misbehaving {
        raw.ends();
    }
    assert_eq!(scene.rude.get("/alarms").await.body["results"], Value::Array(Vec::new()));
    scene.assert_unharmed().await;
}
