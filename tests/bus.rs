//! What the bus promises by itself, on a Redis of the test's own. What nodes do with it: `front_door/nodes_*`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/redis.rs"]
mod redis;

use std::sync::mpsc::channel;

use handsup::{
    bus::{Bus, BusEvent, BusUrl, ConnectionId, IfFull, SocketClaim, UserSocket},
    domain::{Timestamp, UserId},
};

use self::redis::{RedisServer, redis_is_here};

const MOST: usize = 3;

/// A node's bus which counts sockets.
fn counting(server: &RedisServer) -> Bus {
    let (tell, told) = channel();
    let ears = Box::new(move |heard| drop(tell.send(heard)));
    let (bus, _) = Bus::open(&BusUrl::parse(&server.url()).unwrap(), 1, ears).unwrap();
    while !matches!(told.recv().expect("it connects"), BusEvent::RecountSockets) {}
    bus
}

fn user() -> UserId {
    UserId::new(7).unwrap()
}

/// The user opens a socket there, at this second; of too many the oldest go.
async fn open(bus: &Bus, connection: u64, at: i64) -> SocketClaim {
    bus.claim_socket(user(), (ConnectionId(connection), Timestamp::from_secs(at)), (MOST, IfFull::EvictOldest)).await
}

fn gone(of: &[(&Bus, u64)]) -> SocketClaim {
    SocketClaim::Granted(
        of.iter()
            .map(|(bus, connection)| UserSocket { node: bus.node_id().unwrap(), connection: ConnectionId(*connection) })
            .collect(),
    )
}

#[actix_web::test]
async fn of_too_many_sockets_the_oldest_go_whichever_node_has_them() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let (one, other) = (counting(&server), counting(&server));
    for (bus, connection, at) in [(&one, 1, 10), (&other, 1, 11), (&one, 2, 12)] {
        assert_eq!(open(bus, connection, at).await, gone(&[]));
    }
    assert_eq!(open(&other, 2, 13).await, gone(&[(&one, 1)]));
    // This node's clock is behind; what is opened now is the newest all the same.
    assert_eq!(open(&one, 3, 5).await, gone(&[(&other, 1)]));
    assert_eq!(open(&one, 4, 6).await, gone(&[(&one, 2)]));
    assert_eq!(open(&other, 3, 14).await, gone(&[(&other, 2)]));
}

#[actix_web::test]
async fn what_gives_way_is_not_counted_and_what_is_counted_again_pushes_nobody_out() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let (one, other) = (counting(&server), counting(&server));
    let give_way = |connection| {
        let at = Timestamp::from_secs(50);
        one.claim_socket(user(), (ConnectionId(connection), at), (MOST, IfFull::RefuseNewest))
    };
    for connection in 1..=MOST as u64 {
        assert_eq!(give_way(connection).await, gone(&[]));
    }
    assert_eq!(give_way(9).await, SocketClaim::Full);
    one.release_socket(user(), ConnectionId(1)).await;
    assert_eq!(give_way(10).await, gone(&[]));
    // He has had these since before the others.
    other.reclaim_socket(user(), ConnectionId(1), Timestamp::from_secs(20)).await;
    other.reclaim_socket(user(), ConnectionId(2), Timestamp::from_secs(10)).await;
    assert_eq!(give_way(11).await, SocketClaim::Full);
    assert_eq!(open(&one, 12, 60).await, gone(&[(&other, 2), (&other, 1), (&one, 2)]));
}

#[actix_web::test]
async fn sockets_of_a_node_that_is_gone_count_no_more_and_the_last_leaves_nothing_behind() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let (one, other) = (counting(&server), counting(&server));
    for connection in 1..=MOST as u64 {
        assert_eq!(open(&other, connection, 10).await, gone(&[]));
    }
    other.stop().await;
    for connection in 1..=MOST as u64 {
        assert_eq!(open(&one, connection, 20).await, gone(&[]));
    }
    for connection in 1..=MOST as u64 {
        one.release_socket(user(), ConnectionId(connection)).await;
    }
    let mut redis = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*sockets*").query(&mut redis).unwrap();
    assert_eq!(keys, Vec::<String>::new());
}
