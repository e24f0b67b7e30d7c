//! The bus by itself, on a Redis of the test's own. `front_door/nodes_*` test what nodes do with it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/redis.rs"]
mod redis;

use std::sync::mpsc::channel;

use handsup::test_support::{
    bus::{Bus, BusEvent, BusUrl, ConnectionId, IfFull, SocketClaim, UserSocket},
    domain::{Timestamp, UserId},
};

use self::redis::{RedisServer, redis_is_here};

const USER_SOCKETS_LIMIT: usize = 3;

/// A node's bus that counts sockets.
fn counting(server: &RedisServer) -> Bus {
    let (sender, receiver) = channel();
    let (bus, link) = Bus::new(&BusUrl::parse(&server.url()).unwrap(), 1);
    link.start(Box::new(move |event| drop(sender.send(event)))).unwrap();
    while !matches!(receiver.recv().expect("it connects"), BusEvent::RecountSockets) {}
    bus
}

fn user() -> UserId {
    UserId::new(7).unwrap()
}

/// The user opens a socket at this node and second. Over the limit the oldest are evicted.
async fn open(bus: &Bus, connection: u64, at: i64) -> SocketClaim {
    bus.claim_socket(
        user(),
        (ConnectionId(connection), Timestamp::from_secs(at)),
        (USER_SOCKETS_LIMIT, IfFull::EvictOldest),
    )
    .await
}

fn granted_evicting(of: &[(&Bus, u64)]) -> SocketClaim {
    SocketClaim::Granted(
        of.iter()
            .map(|(bus, connection)| UserSocket { node: bus.node_id(), connection: ConnectionId(*connection) })
            .collect(),
    )
}

#[actix_web::test]
async fn sockets_over_the_limit_evict_the_oldest_at_any_node() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let (one, other) = (counting(&server), counting(&server));
    for (bus, connection, at) in [(&one, 1, 10), (&other, 1, 11), (&one, 2, 12)] {
        assert_eq!(open(bus, connection, at).await, granted_evicting(&[]));
    }
    assert_eq!(open(&other, 2, 13).await, granted_evicting(&[(&one, 1)]));
    // This node's clock is behind; the socket that opens now is the newest anyway.
    assert_eq!(open(&one, 3, 5).await, granted_evicting(&[(&other, 1)]));
    assert_eq!(open(&one, 4, 6).await, granted_evicting(&[(&one, 2)]));
    assert_eq!(open(&other, 3, 14).await, granted_evicting(&[(&other, 2)]));
}

#[actix_web::test]
async fn a_refused_socket_is_not_counted_and_a_reclaimed_one_evicts_none() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let (one, other) = (counting(&server), counting(&server));
    let open_or_refuse = |connection| {
        let at = Timestamp::from_secs(50);
        one.claim_socket(user(), (ConnectionId(connection), at), (USER_SOCKETS_LIMIT, IfFull::RefuseNewest))
    };
    for connection in 1..=USER_SOCKETS_LIMIT as u64 {
        assert_eq!(open_or_refuse(connection).await, granted_evicting(&[]));
    }
    assert_eq!(open_or_refuse(9).await, SocketClaim::Full);
    one.release_socket(user(), ConnectionId(1)).await;
    assert_eq!(open_or_refuse(10).await, granted_evicting(&[]));
    // Open since before the others.
    other.reclaim_socket(user(), ConnectionId(1), Timestamp::from_secs(20)).await;
    other.reclaim_socket(user(), ConnectionId(2), Timestamp::from_secs(10)).await;
    assert_eq!(open_or_refuse(11).await, SocketClaim::Full);
    assert_eq!(open(&one, 12, 60).await, granted_evicting(&[(&other, 2), (&other, 1), (&one, 2)]));
}

#[actix_web::test]
async fn sockets_of_a_node_that_is_gone_no_longer_count_and_the_last_one_leaves_no_key() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let (one, other) = (counting(&server), counting(&server));
    for connection in 1..=USER_SOCKETS_LIMIT as u64 {
        assert_eq!(open(&other, connection, 10).await, granted_evicting(&[]));
    }
    other.stop().await;
    for connection in 1..=USER_SOCKETS_LIMIT as u64 {
        assert_eq!(open(&one, connection, 20).await, granted_evicting(&[]));
    }
    for connection in 1..=USER_SOCKETS_LIMIT as u64 {
        one.release_socket(user(), ConnectionId(connection)).await;
    }
    let mut redis = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*sockets*").query(&mut redis).unwrap();
    assert_eq!(keys, Vec::<String>::new());
}
