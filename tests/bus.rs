//! What the bus promises by itself, on a Redis of the test's own. What nodes do with it: `front_door/nodes_*`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/redis.rs"]
mod redis;

use std::sync::mpsc::channel;

use handsup::{
    bus::{Bus, BusUrl, Heard},
    domain::UserId,
};

use self::redis::{RedisServer, redis_is_here};

const MOST: usize = 16;

/// A node's bus which counts sockets.
fn counting(server: &RedisServer) -> Bus {
    let (tell, told) = channel();
    let ears = Box::new(move |heard| drop(tell.send(heard)));
    let (bus, _) = Bus::open(&BusUrl::parse(&server.url()).unwrap(), 1, ears).unwrap();
    while !matches!(told.recv().expect("it connects"), Heard::MustCount) {}
    bus
}

#[actix_web::test]
async fn a_count_that_a_newer_one_overtakes_fits_only_if_the_newer_one_does() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let (one, other) = (counting(&server), counting(&server));
    let user = UserId::new(7).unwrap();
    for mine in [1, 8] {
        assert!(other.seat(user, mine, MOST).await);
    }
    // A ninth socket asks for its seat while the count of the other nine is on its way.
    let late = one.seat(user, 9, MOST);
    one.seated(user, 9).await;
    assert!(!late.await, "he has 17");
    assert!(!other.seat(user, 9, MOST).await);
    // One of them goes.
    let late = one.seat(user, 8, MOST);
    one.seated(user, 8).await;
    assert!(late.await, "he has 16");
}

#[actix_web::test]
async fn a_count_that_comes_after_the_last_socket_has_gone_holds_no_seat() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let (one, other) = (counting(&server), counting(&server));
    let user = UserId::new(7).unwrap();
    let late = one.seat(user, 1, MOST);
    one.seated(user, 0).await;
    late.await;
    assert!(other.seat(user, MOST, MOST).await);
    for bus in [&one, &other] {
        bus.seated(user, 0).await;
    }
    let mut redis = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*seats*").query(&mut redis).unwrap();
    for key in keys {
        let lives: i64 = ::redis::cmd("TTL").arg(&key).query(&mut redis).unwrap();
        assert!((0..=60).contains(&lives), "{key} lives {lives} s");
    }
}
