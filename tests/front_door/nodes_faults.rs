//! Several nodes without their Redis or their database: what still works, what waits, and how soon they recover.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    clock::{SELLER, accepted},
    nodes_alarms::sockets_since,
    nodes_rooms::{next_event, receive_bids_up_to, watchers},
    support::{
        Answer, Nodes, Socket, bid_frame, can_run_several_nodes, check_history, check_outbids, database::Stopped,
        eventually,
    },
};

/// How long a user of another node waits at most while the bus is down.
const WITHOUT_REDIS_LIMIT: Duration = Duration::from_secs(6);
/// How long anybody waits at most after Redis or the database is back.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// The next alarm must have this price. Returns how long it took.
async fn outbid_at(socket: &mut Socket, price: i64, within: Duration) -> Duration {
    let begun = Instant::now();
    assert_eq!(socket.expect_alarm("outbid").await["high_price"], price);
    assert!(begun.elapsed() < within, "{:?}", begun.elapsed());
    begun.elapsed()
}

#[actix_web::test]
async fn without_redis_bids_go_on_and_other_nodes_get_them_within_seconds() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut alarms = sockets_since(&nodes, 2, 0).await;
    let mut rooms = watchers(&nodes, goods).await;
    accepted(&nodes[0].user(2), goods, 1000).await;
    for room in &mut rooms {
        assert_eq!(next_event(room).await["seq"], 1);
    }
    nodes.redis.kill();
    let begun = Instant::now();
    accepted(&nodes[0].user(3), goods, 2000).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    outbid_at(&mut alarms[0], 2000, Duration::from_secs(2)).await;
    assert_eq!(next_event(&mut rooms[0]).await["seq"], 2);
    let waited = outbid_at(&mut alarms[1], 2000, WITHOUT_REDIS_LIMIT).await;
    assert_eq!(next_event(&mut rooms[1]).await["seq"], 2);
    eprintln!("the other node's socket got the alarm after {waited:?}");
    nodes.wait_for_bus_status("warn").await;
    for node in nodes.iter() {
        let health = node.admin().get("/admin/health").await;
        assert_eq!((health.status, &health.body["status"]), (200, &json!("warn")), "{}", health.text);
        assert_eq!(node.visitor().get("/health/ready").await.status, 200);
    }
    // At the other node as well, and for a client that connects now.
    accepted(&nodes[1].user(2), goods, 3000).await;
    accepted(&nodes[1].user(3), goods, 4000).await;
    let mut late = nodes[0].visitor().room(goods).await;
    let mut late_alarms = nodes[0].user(2).socket_since(0).await;
    late_alarms.expect_frame("hello").await;
    for price in [2000, 4000] {
        outbid_at(&mut late_alarms, price, WITHOUT_REDIS_LIMIT).await;
    }
    for alarms in &mut alarms {
        outbid_at(alarms, 4000, WITHOUT_REDIS_LIMIT).await;
    }
    receive_bids_up_to(&mut rooms[0], 4).await;
    receive_bids_up_to(&mut rooms[1], 4).await;

    nodes.redis.start_again();
    let back = Instant::now();
    nodes.wait_for_bus_status("pass").await;
    assert!(back.elapsed() < RECOVERY_LIMIT, "{:?}", back.elapsed());
    nodes.wait_for_peers().await;
    accepted(&nodes[1].user(2), goods, 5000).await;
    accepted(&nodes[1].user(3), goods, 6000).await;
    for alarms in alarms.iter_mut().chain([&mut late_alarms]) {
        outbid_at(alarms, 6000, RECOVERY_LIMIT).await;
    }
    for room in rooms.iter_mut().chain([&mut late]) {
        receive_bids_up_to(room, 6).await;
    }
}

/// Many bids at both nodes while Redis goes and comes: nobody misses an event or gets one twice.
#[actix_web::test]
async fn redis_that_comes_and_goes_under_load_costs_nobody_anything() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut alarms = Vec::new();
    for user in 2..6 {
        alarms.push(sockets_since(&nodes, user, 0).await);
    }
    let mut rooms = watchers(&nodes, goods).await;
    let (price, done) = (std::cell::Cell::new(1000), std::cell::Cell::new(false));
    let bidders: Vec<_> = (0..4).map(|at| nodes[at % 2].user(2 + at as i64)).collect();
    let fire = join_all(bidders.iter().map(|bidder| {
        let (price, done) = (&price, &done);
        async move {
            while !done.get() {
                let mine = price.replace(price.get() + 1);
                let begun = Instant::now();
                let answer = bidder.bid(goods, mine).await;
                assert!(answer.status == 201 || answer.code() == "bid_too_low", "{}", answer.text);
                assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }));
    let redis = &mut nodes.redis;
    let trouble = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            redis.kill();
            tokio::time::sleep(Duration::from_millis(700)).await;
            redis.start_again();
        }
        done.set(true);
    };
    futures_util::future::join(fire, trouble).await;
    let back = Instant::now();
    let history = nodes[1].visitor().history(goods).await;
    check_history(&history);
    let bidders: Vec<_> = (2..6).map(|user| (user, nodes[0].user(user))).collect();
    check_outbids(goods, &history, &bidders).await;
    for ((_, bidder), sockets) in bidders.iter().zip(&mut alarms) {
        let inbox: Vec<Value> = bidder.inbox().await.iter().map(|alarm| alarm["id"].clone()).collect();
        for socket in sockets {
            for id in &inbox {
                assert_eq!(socket.next().await["id"], *id);
            }
        }
    }
    for room in &mut rooms {
        for bid in &history {
            assert_eq!(next_event(room).await["seq"], bid["seq"]);
        }
    }
    eprintln!("{} bids, all received {:?} after Redis was back", history.len(), back.elapsed());
    assert!(back.elapsed() < RECOVERY_LIMIT + Duration::from_secs(1), "{:?}", back.elapsed());
}

/// A lively auction: a node has missed more than it reads at once.
#[actix_web::test]
async fn whatever_a_node_has_missed_its_rooms_get_within_seconds() {
    const BIDS: i64 = 1200;
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::with(2, |settings| settings.session.max_pending = 10_000).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut rooms = watchers(&nodes, goods).await;
    let mut alarms = sockets_since(&nodes, 2, 0).await;
    nodes.redis.kill();
    nodes.wait_for_bus_status("warn").await;
    let mut bidders = [nodes[0].user(2).room(goods).await, nodes[0].user(3).room(goods).await];
    for price in 0..BIDS {
        let at = usize::try_from(price % 2).unwrap();
        bidders[at].send_json(&bid_frame(goods, 2 + price % 2, 1000 + price)).await;
        // The bidder is outbid before they go on.
        while next_event(&mut bidders[1 - at]).await["high_price"] != 1000 + price {}
    }
    let last = Instant::now();
    nodes.redis.start_again();
    for room in &mut rooms {
        receive_bids_up_to(room, BIDS).await;
    }
    let inbox = nodes[0].user(2).inbox().await;
    for socket in &mut alarms {
        for alarm in &inbox {
            assert_eq!(socket.next().await["id"], alarm["id"]);
        }
    }
    eprintln!("{BIDS} bids, all received {:?} after Redis was back", last.elapsed());
    assert!(last.elapsed() < RECOVERY_LIMIT + Duration::from_secs(1), "{:?}", last.elapsed());
}

/// Redis accepts commands and answers nothing: the nodes go on without it.
#[actix_web::test]
async fn a_redis_that_falls_silent_keeps_nobody_waiting() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut alarms = sockets_since(&nodes, 2, 0).await;
    let mut room = nodes[1].user(4).room(goods).await;
    accepted(&nodes[0].user(2), goods, 1000).await;
    nodes.redis.suspend();
    for round in 0..3 {
        let price = 2000 + round * 1000;
        let begun = Instant::now();
        accepted(&nodes[0].user(3), goods, price).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "a bid: {:?}", begun.elapsed());
        outbid_at(&mut alarms[0], price, Duration::from_secs(2)).await;
        let begun = Instant::now();
        let mut new = nodes[1].user(5 + round).socket_since(0).await;
        new.expect_frame("hello").await;
        assert!(begun.elapsed() < Duration::from_secs(3), "an alarm socket: {:?}", begun.elapsed());
        let begun = Instant::now();
        let mut new_room = nodes[0].user(5 + round).room(goods).await;
        new_room.expect_frame("enter").await;
        assert!(begun.elapsed() < Duration::from_secs(3), "a room's socket: {:?}", begun.elapsed());
        new_room.send_json(&bid_frame(goods, 5 + round, price + 500)).await;
        assert_eq!(next_event(&mut new_room).await["high_price"], price + 500);
        let begun = Instant::now();
        assert_eq!(nodes[1].visitor().get(&format!("/goods/{goods}/")).await.status, 200);
        accepted(&nodes[1].user(2), goods, price + 600).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "the other node: {:?}", begun.elapsed());
    }
    // Each of these bids was outbid but the last.
    for price in [2000, 3000, 4000] {
        outbid_at(&mut alarms[1], price, WITHOUT_REDIS_LIMIT).await;
    }
    nodes.wait_for_bus_status("warn").await;
    nodes.redis.resume();
    let back = Instant::now();
    nodes.wait_for_bus_status("pass").await;
    assert!(back.elapsed() < RECOVERY_LIMIT, "{:?}", back.elapsed());
    nodes.wait_for_peers().await;
    accepted(&nodes[0].user(3), goods, 9000).await;
    for alarms in &mut alarms {
        outbid_at(alarms, 9000, RECOVERY_LIMIT).await;
    }
    receive_bids_up_to(&mut room, 11).await;
}

#[actix_web::test]
async fn a_node_that_starts_while_redis_is_down_serves_and_joins_the_others_later() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(1).await;
    let goods = nodes[0].live_goods(SELLER).await;
    nodes.redis.kill();
    nodes.add_one();
    let mut alarms = sockets_since(&nodes, 2, 0).await;
    let mut rooms = watchers(&nodes, goods).await;
    accepted(&nodes[1].user(2), goods, 1000).await;
    accepted(&nodes[0].user(3), goods, 2000).await;
    for alarms in &mut alarms {
        outbid_at(alarms, 2000, WITHOUT_REDIS_LIMIT).await;
    }
    for room in &mut rooms {
        receive_bids_up_to(room, 2).await;
    }
    let _present = nodes[0].user(7).room(goods).await;
    nodes.redis.start_again();
    nodes.wait_for_peers().await;
    for visitor in nodes.visitors() {
        eventually("who is there", || async {
            (crate::support::participants(&visitor, goods).await == crate::support::listed_users(&[7])).then_some(())
        })
        .await;
    }
}

fn is_honest_refusal(answer: &Answer) -> bool {
    answer.status == 503 && answer.code() == "unavailable" && answer.body["outcome"] == "not_stored"
}

#[actix_web::test]
async fn a_database_that_stops_and_comes_back_only_pauses_all_nodes() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut alarms = sockets_since(&nodes, 2, 0).await;
    let mut rooms = watchers(&nodes, goods).await;
    let _present = [nodes[0].user(2).room(goods).await, nodes[1].user(3).room(goods).await];
    accepted(&nodes[0].user(2), goods, 1000).await;
    let stopped = Stopped::server_of(nodes.folder());
    for node in nodes.iter() {
        for price in 2000..2003 {
            let begun = Instant::now();
            let answer = node.user(3).bid(goods, price).await;
            assert!(is_honest_refusal(&answer), "{}", answer.text);
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        }
        assert_eq!(node.visitor().get("/health/ready").await.status, 503);
        assert_eq!(node.visitor().get("/health/live").await.status, 200);
    }
    // Longer than the interval at which nodes check the database.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let back = Instant::now();
    drop(stopped);
    let price = std::cell::Cell::new(3000);
    for node in nodes.iter() {
        eventually("bids are taken again", || async {
            let mine = price.replace(price.get() + 1);
            (node.user(3).bid(goods, mine).await.status == 201).then_some(())
        })
        .await;
        eventually("it is ready", || async { (node.visitor().get("/health/ready").await.status == 200).then_some(()) })
            .await;
    }
    assert!(back.elapsed() < RECOVERY_LIMIT, "{:?}", back.elapsed());
    let history = nodes[1].visitor().history(goods).await;
    check_history(&history);
    for alarms in &mut alarms {
        assert_eq!(alarms.expect_alarm("outbid").await["high_price"], history[1]["price"]);
    }
    for room in &mut rooms {
        receive_bids_up_to(room, history.len() as i64).await;
    }
    assert!(back.elapsed() < RECOVERY_LIMIT + Duration::from_secs(1), "{:?}", back.elapsed());
    for visitor in nodes.visitors() {
        assert_eq!(crate::support::participants(&visitor, goods).await, crate::support::listed_users(&[2, 3]));
    }
}
