//! Who is in a room, over several nodes: users, not tabs and not nodes; and whoever was at a node that is gone, goes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    clock::SELLER,
    nodes_limits::one_more,
    nodes_rooms::watchers,
    support::{
        Client, DEADLINE, Fleet, List, Nodes, Socket, TestNode, eventually, eventually_within, participants, people,
        several_nodes_can_be,
    },
};

/// Long enough for a node that is gone to be missed; the contract's 15 s.
const MISSED: Duration = Duration::from_secs(15);

/// The page of the goods says at all nodes that these are there, and their lists say how many.
async fn all_say(visitors: &[Client], goods: i64, ids: &[i64]) {
    let expected = people(ids);
    for visitor in visitors {
        eventually_within(MISSED, "who is there", || async {
            (participants(visitor, goods).await == expected).then_some(())
        })
        .await;
        for list in ["/goods/", "/goods/recommend/"] {
            let page = visitor.get(list).await;
            let all = page.body.get("results").unwrap_or(&page.body).as_array().expect("goods").clone();
            let counts: Vec<&Value> =
                all.iter().filter(|one| one["id"] == goods).map(|one| &one["participants_count"]).collect();
            assert!(counts.iter().all(|count| **count == expected.0), "{list}: {counts:?}");
            assert!(!counts.is_empty() || list != "/goods/", "{}", page.text);
        }
    }
}

async fn enter(socket: &mut Socket, user: i64, count: usize) {
    let heard = socket.hear("enter").await;
    assert_eq!((&heard["user_id"], &heard["participants_count"]), (&json!(user), &json!(count)));
    assert_eq!(heard["sender_name"], format!("name{user}"));
}

async fn out(socket: &mut Socket, user: i64, count: usize) {
    let heard = socket.hear("out").await;
    assert_eq!(heard, json!({"response_type": "out", "participants_count": count, "user_id": user}));
}

#[actix_web::test]
async fn a_user_with_sockets_at_several_nodes_comes_once_and_goes_once() {
    if !several_nodes_can_be() {
        return;
    }
    let nodes = Nodes::start(3).await;
    let goods = nodes[0].live_goods(SELLER).await;
    // The third node has nobody in the room.
    let mut witnesses = [nodes[0].visitor().room(goods).await, nodes[1].visitor().room(goods).await];
    let here = nodes[0].user(2).room(goods).await;
    for witness in &mut witnesses {
        enter(witness, 2, 1).await;
    }
    let there = nodes[1].user(2).room(goods).await;
    // Told behind it by the same node, so that everybody has heard of the second socket.
    let third = nodes[1].user(3).room(goods).await;
    for witness in &mut witnesses {
        enter(witness, 3, 2).await;
    }
    all_say(&nodes.visitors(), goods, &[2, 3]).await;
    drop(here);
    let fourth = nodes[0].user(4).room(goods).await;
    for witness in &mut witnesses {
        enter(witness, 4, 3).await;
    }
    drop(there);
    for witness in &mut witnesses {
        out(witness, 2, 2).await;
    }
    all_say(&nodes.visitors(), goods, &[3, 4]).await;
    drop((third, fourth));
    for witness in &mut witnesses {
        let mut list = List(BTreeSet::from([3, 4]));
        list.hear(&witness.next().await);
        list.hear(&witness.next().await);
    }
    all_say(&nodes.visitors(), goods, &[]).await;
}

#[actix_web::test]
async fn a_user_who_moves_from_node_to_node_is_there_when_he_arrives() {
    if !several_nodes_can_be() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut witnesses = watchers(&nodes, goods).await;
    let mut lists = [List::default(), List::default()];
    let users: Vec<i64> = (10..16).collect();
    join_all(users.iter().map(|user| {
        let clients = nodes.users(*user);
        async move {
            for step in 0..12 {
                drop(clients[step % 2].room(goods).await);
            }
        }
    }))
    .await;
    let stay = [nodes[0].user(20).room(goods).await, nodes[1].user(21).room(goods).await];
    // Comings and goings take turns, and in the end only those are there who stay.
    let stayed = BTreeSet::from([20, 21]);
    for (witness, list) in witnesses.iter_mut().zip(&mut lists) {
        while list.0 != stayed {
            list.hear(&witness.next().await);
        }
    }
    all_say(&nodes.visitors(), goods, &[20, 21]).await;
    drop(stay);
}

#[actix_web::test]
async fn a_node_that_comes_later_knows_who_is_there_and_one_that_ends_takes_its_users_along() {
    if !several_nodes_can_be() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut witness = nodes[0].visitor().room(goods).await;
    let _stays = nodes[0].user(2).room(goods).await;
    let leaves = nodes[1].user(3).room(goods).await;
    enter(&mut witness, 2, 1).await;
    enter(&mut witness, 3, 2).await;
    nodes.add_one();
    nodes.know_each_other().await;
    all_say(&nodes.visitors(), goods, &[2, 3]).await;
    let begun = Instant::now();
    let closing = actix_web::rt::spawn(async move {
        let mut leaves = leaves;
        leaves.closed().await
    });
    // Ends on a thread of its own: his socket is to be read meanwhile.
    let ending = nodes.take(1);
    let ended = tokio::task::spawn_blocking(move || {
        let mut ending: TestNode = ending;
        ending.stop();
    });
    out(&mut witness, 3, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(closing.await.unwrap().code, Some(1012));
    ended.await.unwrap();
    all_say(&nodes.visitors(), goods, &[2]).await;
}

#[actix_web::test]
async fn users_of_a_node_that_is_killed_leave_and_come_back_elsewhere() {
    if !several_nodes_can_be() {
        return;
    }
    let fleet = Fleet::start(3, &[]).await;
    let at = |at: usize, user: i64| fleet.user(at, user).unwrap();
    let now = handsup::time_source::TimeSource::now(&handsup::time_source::SystemTime);
    let body = crate::support::goods_body(&json!({"starts_at": now, "duration_s": 1200}));
    let goods = at(0, SELLER).post("/goods/", &body).await.body["id"].as_i64().unwrap();
    let page = format!("/goods/{goods}/");
    eventually("the start", || async { (at(0, 9).get(&page).await.body["status"] == true).then_some(()) }).await;
    let mut witness = fleet.visitor(0).unwrap().room(goods).await;
    let _stays = at(0, 2).room(goods).await;
    // User 3 is also somewhere else, users 4 and 5 only there.
    let _elsewhere = at(1, 3).room(goods).await;
    let mut lost = Vec::new();
    for user in [3, 4, 5] {
        lost.push(at(2, user).room(goods).await);
    }
    let mut list = List::default();
    while list.0.len() < 4 {
        list.hear(&witness.next().await);
    }
    let killed = Instant::now();
    fleet.kill(2);
    while list.0 != BTreeSet::from([2, 3]) {
        // A frame may take longer than others here.
        let frame = tokio::time::timeout(MISSED, witness.next()).await.expect("they leave within 15 s");
        list.hear(&frame);
    }
    eprintln!("they were missed after {:?}", killed.elapsed());
    assert!(killed.elapsed() < MISSED, "{:?}", killed.elapsed());
    let visitors = [fleet.visitor(0).unwrap(), fleet.visitor(1).unwrap()];
    all_say(&visitors, goods, &[2, 3]).await;
    // One of them comes back at another node, and the node comes back too.
    let _back = at(1, 4).room(goods).await;
    list.hear(&witness.next().await);
    assert_eq!(list.0, BTreeSet::from([2, 3, 4]));
    fleet.start_at(2).await;
    fleet.know_each_other().await;
    all_say(&[fleet.visitor(2).unwrap()], goods, &[2, 3, 4]).await;
}

#[actix_web::test]
async fn after_redis_was_lost_everybody_knows_again_who_is_there() {
    if !several_nodes_can_be() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut witnesses = watchers(&nodes, goods).await;
    let mut lists = [List::default(), List::default()];
    let [stays, goes] = [nodes[0].user(2).room(goods).await, nodes[1].user(3).room(goods).await];
    for (witness, list) in witnesses.iter_mut().zip(&mut lists) {
        while list.0.len() < 2 {
            list.hear(&witness.next().await);
        }
    }
    nodes.redis.kill();
    // A node's own sockets hear its own people at once.
    drop(goes);
    lists[1].hear(&witnesses[1].next().await);
    assert_eq!(lists[1].0, BTreeSet::from([2]));
    let comes = [nodes[0].user(4).room(goods).await, nodes[1].user(5).room(goods).await];
    lists[0].hear(&witnesses[0].next().await);
    assert_eq!(lists[0].0, BTreeSet::from([2, 3, 4]));
    nodes.redis.start_again();
    let back = Instant::now();
    for (witness, list) in witnesses.iter_mut().zip(&mut lists) {
        while list.0 != BTreeSet::from([2, 4, 5]) {
            list.hear(&witness.next().await);
        }
    }
    eprintln!("all was known {:?} after Redis was back", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    all_say(&nodes.visitors(), goods, &[2, 4, 5]).await;
    drop((stays, comes));
    for (witness, list) in witnesses.iter_mut().zip(&mut lists) {
        while !list.0.is_empty() {
            list.hear(&witness.next().await);
        }
    }
}

/// The others miss it, and it comes back as if nothing had been: its sockets are still open.
#[actix_web::test]
async fn a_node_that_stands_still_for_a_while_is_as_before_when_it_goes_on() {
    if !several_nodes_can_be() {
        return;
    }
    let fleet = Fleet::start(2, &[("session.max_per_user", "4")]).await;
    let at = |at: usize, user: i64| fleet.user(at, user).unwrap();
    let now = handsup::time_source::TimeSource::now(&handsup::time_source::SystemTime);
    let body = crate::support::goods_body(&json!({"starts_at": now, "duration_s": 1200}));
    let goods = at(0, SELLER).post("/goods/", &body).await.body["id"].as_i64().unwrap();
    crate::clock::accepted(&at(0, 2), goods, 1000).await;
    let mut witness = fleet.visitor(0).unwrap().room(goods).await;
    let mut there = at(1, 3).room(goods).await;
    enter(&mut witness, 3, 1).await;
    let others = [at(1, 3).room(goods).await, at(1, 3).room(goods).await];
    let mut alarms = at(1, 2).socket_since(0).await;
    alarms.hear("hello").await;
    fleet.stand_still(1);
    out(&mut witness, 3, 0).await;
    // Meanwhile he comes to the other node, where there are seats enough.
    let mut here = at(0, 3).room(goods).await;
    enter(&mut witness, 3, 1).await;
    let alarms_here = one_more(&at(0, 3)).await;
    crate::clock::accepted(&at(0, 4), goods, 2000).await;
    assert_eq!(witness.hear("bid").await["high_price"], 2000);
    fleet.go_on(1);
    assert_eq!(alarms.expect("outbid").await["high_price"], 2000);
    crate::nodes_rooms::hear_bids_to(&mut there, 2).await;
    fleet.know_each_other().await;
    // He has five now, and may have four: the oldest goes with the next one, as soon as all are counted again.
    let give_up = Instant::now() + DEADLINE;
    while there.closed_within(Duration::from_millis(500)).await != Some(4409) {
        assert!(Instant::now() < give_up, "the oldest stays");
        one_more(&at(0, 3)).await;
    }
    all_say(&[fleet.visitor(0).unwrap(), fleet.visitor(1).unwrap()], goods, &[3]).await;
    drop(there);
    let fifth = at(1, 5).room(goods).await;
    enter(&mut witness, 5, 2).await;
    crate::nodes_rooms::hear_bids_to(&mut here, 2).await;
    drop((here, alarms_here, others, fifth));
    let mut list = List(BTreeSet::from([3, 5]));
    while !list.0.is_empty() {
        list.hear(&witness.next().await);
    }
}
