//! `limits.connections_per_address`, and clients that open connections to keep them: they cost only themselves.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    settings::good,
    support::{DEADLINE, Raw, RawAnswer, SLOW_DEADLINE, TestNode, eventually},
};

const CROWDED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

const REQUEST: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection that is open for sure: it has got an answer.
fn used(source: Ipv4Addr, address: SocketAddr) -> Raw {
    let mut raw = Raw::connect_from(source, address);
    raw.write(REQUEST);
    assert_eq!(raw.answer().expect("an answer").status, 200);
    raw
}

fn assert_told(answer: &RawAnswer, raw: &mut Raw) {
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"), "{}", answer.head);
    let head = answer.head.to_ascii_lowercase();
    for header in
        ["connection: close\r\n", "retry-after: 1\r\n", "x-request-id: ", "x-content-type-options: nosniff\r\n"]
    {
        assert!(head.contains(header), "{header}: {head}");
    }
    raw.end_of_input();
    assert_eq!(raw.exactly(1), None, "nothing comes behind it");
}

/// Sockets and streams count like any other connection.
#[actix_web::test]
async fn an_address_with_too_many_connections_is_told_so_and_others_are_served() {
    let node = TestNode::alone(|settings| settings.limits.connections_per_address = 4);
    let address = node.address();
    let bearer = format!("Bearer {}", node.user(2).token());
    let mut socket = Raw::connect_from(CROWDED, address);
    assert_eq!(socket.handshake("/ws/alarms/", &[("Authorization", &bearer)]).status, 101);
    let mut stream = Raw::connect_from(CROWDED, address);
    stream.write(format!("GET /alarms/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n").as_bytes());
    assert_eq!(stream.answer().expect("an answer").status, 200);
    let (mut first, second) = (used(CROWDED, address), used(CROWDED, address));
    let mut other = used(OTHER, address);
    for sent in
        [&b""[..], REQUEST, b"GET /ws/alarms/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n", b"garbage\r\n\r\n"]
    {
        let mut raw = Raw::connect_from(CROWDED, address);
        raw.write(sent);
        let answer = raw.answer().expect("an answer");
        assert_told(&answer, &mut raw);
        other.write(REQUEST);
        assert_eq!(other.answer().expect("an answer").status, 200);
    }
    first.write(REQUEST);
    assert_eq!(first.answer().expect("an answer").status, 200, "those that were there stay");
    // Each kind of connection frees its place.
    let room = || async {
        let mut raw = Raw::connect_from(CROWDED, address);
        raw.write(REQUEST);
        (raw.answer().expect("an answer").status == 200).then_some(raw)
    };
    drop(socket);
    let after_socket = eventually("room after the socket", room).await;
    drop(stream);
    let after_stream = eventually("room after the stream", room).await;
    drop(second);
    let after_request = eventually("room after the request", room).await;
    let mut raw = Raw::connect_from(CROWDED, address);
    let answer = raw.answer().expect("an answer");
    assert_told(&answer, &mut raw);
    drop((after_socket, after_stream, after_request));
}

#[actix_web::test]
async fn a_trusted_proxy_has_as_many_connections_as_its_clients_need() {
    let node = TestNode::alone(|settings| {
        settings.limits.connections_per_address = 2;
        settings.server.trusted_proxies = vec![CROWDED.to_string()];
    });
    let open: Vec<Raw> = (0..20).map(|_| used(CROWDED, node.address())).collect();
    let _two = [used(OTHER, node.address()), used(OTHER, node.address())];
    let answer = Raw::connect_from(OTHER, node.address()).answer().expect("an answer");
    assert_eq!(answer.status, 503);
    drop(open);
}

/// Half heads, half handshakes and bodies that never end, as many as an address may have. Others are served meanwhile,
/// and when the time limits end these, their address can come again.
#[actix_web::test]
async fn connections_that_are_only_held_end_by_time_limits_and_cost_only_their_own_address() {
    let node = TestNode::alone(|settings| settings.limits.connections_per_address = 60);
    let (address, goods) = (node.address(), node.live_goods(1).await);
    let bearer = format!("Bearer {}", node.user(2).token());
    let halves = [
        "GET /goods/ HTTP/1.1\r\nHost: x\r\nX-Slow: ".to_owned(),
        "GET /ws/alarms/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "
            .to_owned(),
        format!(
            "POST /goods/{goods}/bids HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Length: 14\r\n\r\n{{\"pr"
        ),
    ];
    let bidders = [node.user(3).retrying(), node.user(4).retrying()];
    let mut other = used(OTHER, address);
    let mut held: Vec<Raw> = (0..60).map(|_| used(CROWDED, address)).collect();
    for (raw, half) in held.iter_mut().zip(halves.iter().cycle()) {
        raw.write(half.as_bytes());
    }
    assert_eq!(Raw::connect_from(CROWDED, address).answer().expect("an answer").status, 503, "the address is full");
    let begun = Instant::now();
    let mut bids = 0;
    while held.iter().any(|raw| !raw.has_data()) {
        assert!(begun.elapsed() < SLOW_DEADLINE, "the time limits end them");
        other.write(REQUEST);
        assert_eq!(other.answer().expect("an answer").status, 200);
        assert_eq!(bidders[bids % 2].bid(goods, 1000 * (bids as i64 + 1)).await.status, 201);
        bids += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for mut raw in held {
        assert_eq!(raw.answer().expect("an answer").status, 408);
        raw.end_of_input();
        assert_eq!(raw.exactly(1), None);
    }
    let comes_again = || async {
        let mut raw = Raw::connect_from(CROWDED, address);
        raw.write(REQUEST);
        (raw.answer().expect("an answer").status == 200).then_some(())
    };
    eventually("room again", comes_again).await;
    assert_eq!(node.user(2).history(goods).await.len(), bids);
}

/// A flood of connections is one line of the log, and the node goes on.
#[actix_web::test]
async fn a_flood_of_connections_is_logged_once() {
    let handsup = good().set("limits.connections_per_address", "2").set("limits.requests_per_second", "10000");
    let mut served = handsup.start(&["serve"]);
    let address: SocketAddr = served.base().trim_start_matches("http://").parse().unwrap();
    let open = [used(CROWDED, address), used(CROWDED, address)];
    let mut other = used(OTHER, address);
    let flood: Vec<Raw> = (0..300).map(|_| Raw::connect_from(CROWDED, address)).collect();
    let log = served.logged("a connection is refused: its address has too many address=127.0.0.2 refused=1 ", 1).await;
    assert!(log.contains(" WARN "), "{log}");
    let mut told = 0;
    for mut raw in flood {
        // Beyond those that are told so at once, a connection is closed without an answer.
        if let Some(answer) = raw.answer() {
            assert_eq!(answer.status, 503);
            told += 1;
        }
        raw.end_of_input();
        other.write(REQUEST);
        assert_eq!(other.answer().expect("an answer").status, 200, "the others are served");
    }
    assert!(told > 0);
    drop((open, other));
    served.interrupt();
    assert_eq!(served.wait_for_exit(DEADLINE).code(), Some(0));
    let log = served.stderr();
    assert_eq!(log.matches("its address has too many").count(), 1, "{log}");
}
