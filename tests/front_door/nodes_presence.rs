//! Who is in a room, over several nodes: users, not tabs and not nodes. Users at a node that is gone leave.

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
        Client, DEADLINE, Fleet, Nodes, ParticipantList, Socket, TestNode, can_run_several_nodes, eventually,
        eventually_within, listed_users, participants,
    },
};

/// How soon the users of a lost node leave; the contract's 15 s.
const LOST_NODE_LIMIT: Duration = Duration::from_secs(15);

/// Asserts that the goods' page at all nodes shows these users, and their count.
async fn all_show(visitors: &[Client], goods: i64, ids: &[i64]) {
    let expected = listed_users(ids);
    for visitor in visitors {
        eventually_within(LOST_NODE_LIMIT, "who is there", || async {
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
    let received = socket.expect_frame("enter").await;
    assert_eq!((&received["user_id"], &received["participants_count"]), (&json!(user), &json!(count)));
    assert_eq!(received["sender_name"], format!("name{user}"));
}

async fn out(socket: &mut Socket, user: i64, count: usize) {
    let received = socket.expect_frame("out").await;
    assert_eq!(received, json!({"response_type": "out", "participants_count": count, "user_id": user}));
}

#[actix_web::test]
async fn a_user_with_sockets_at_several_nodes_enters_once_and_leaves_once() {
    if !can_run_several_nodes() {
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
    // The same node sends this after the second socket's join, so everybody has seen that one when this arrives.
    let third = nodes[1].user(3).room(goods).await;
    for witness in &mut witnesses {
        enter(witness, 3, 2).await;
    }
    all_show(&nodes.visitors(), goods, &[2, 3]).await;
    drop(here);
    let fourth = nodes[0].user(4).room(goods).await;
    for witness in &mut witnesses {
        enter(witness, 4, 3).await;
    }
    drop(there);
    for witness in &mut witnesses {
        out(witness, 2, 2).await;
    }
    all_show(&nodes.visitors(), goods, &[3, 4]).await;
    drop((third, fourth));
    for witness in &mut witnesses {
        let mut list = ParticipantList(BTreeSet::from([3, 4]));
        list.apply(&witness.next().await);
        list.apply(&witness.next().await);
    }
    all_show(&nodes.visitors(), goods, &[]).await;
}

#[actix_web::test]
async fn a_user_who_moves_from_node_to_node_stays_in_the_room() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut witnesses = watchers(&nodes, goods).await;
    let mut lists = [ParticipantList::default(), ParticipantList::default()];
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
    // Joins and leaves alternate, and in the end only the users who stay are there.
    let stayed = BTreeSet::from([20, 21]);
    for (witness, list) in witnesses.iter_mut().zip(&mut lists) {
        while list.0 != stayed {
            list.apply(&witness.next().await);
        }
    }
    all_show(&nodes.visitors(), goods, &[20, 21]).await;
    drop(stay);
}

#[actix_web::test]
async fn a_new_node_knows_who_is_there_and_the_users_of_a_stopping_one_leave() {
    if !can_run_several_nodes() {
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
    nodes.wait_for_peers().await;
    all_show(&nodes.visitors(), goods, &[2, 3]).await;
    let begun = Instant::now();
    let closing = actix_web::rt::spawn(async move {
        let mut leaves = leaves;
        leaves.closed().await
    });
    // Stops on a thread of its own, because its sockets must be read meanwhile.
    let ending = nodes.take(1);
    let ended = tokio::task::spawn_blocking(move || {
        let mut ending: TestNode = ending;
        ending.stop();
    });
    out(&mut witness, 3, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(closing.await.unwrap().code, Some(1012));
    ended.await.unwrap();
    all_show(&nodes.visitors(), goods, &[2]).await;
}

#[actix_web::test]
async fn users_of_a_node_that_is_killed_leave_and_return_at_another() {
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::start(3, &[]).await;
    let at = |at: usize, user: i64| fleet.user(at, user).unwrap();
    let now = handsup::test_support::time_source::TimeSource::now(&handsup::test_support::time_source::SystemTime);
    let body = crate::support::goods_body(&json!({"starts_at": now, "duration_s": 1200}));
    let goods = at(0, SELLER).post("/goods/", &body).await.body["id"].as_i64().unwrap();
    let page = format!("/goods/{goods}/");
    eventually("the start", || async { (at(0, 9).get(&page).await.body["status"] == true).then_some(()) }).await;
    let mut witness = fleet.visitor(0).unwrap().room(goods).await;
    let _stays = at(0, 2).room(goods).await;
    // User 3 is also at another node, users 4 and 5 are only there.
    let _elsewhere = at(1, 3).room(goods).await;
    let mut lost = Vec::new();
    for user in [3, 4, 5] {
        lost.push(at(2, user).room(goods).await);
    }
    let mut list = ParticipantList::default();
    while list.0.len() < 4 {
        list.apply(&witness.next().await);
    }
    let killed = Instant::now();
    fleet.kill(2);
    while list.0 != BTreeSet::from([2, 3]) {
        // This frame may take longer than others.
        let frame = tokio::time::timeout(LOST_NODE_LIMIT, witness.next()).await.expect("they leave within 15 s");
        list.apply(&frame);
    }
    eprintln!("they were missed after {:?}", killed.elapsed());
    assert!(killed.elapsed() < LOST_NODE_LIMIT, "{:?}", killed.elapsed());
    let visitors = [fleet.visitor(0).unwrap(), fleet.visitor(1).unwrap()];
    all_show(&visitors, goods, &[2, 3]).await;
    // One of them comes back at another node, and the node comes back too.
    let _back = at(1, 4).room(goods).await;
    list.apply(&witness.next().await);
    assert_eq!(list.0, BTreeSet::from([2, 3, 4]));
    fleet.start_at(2).await;
    fleet.wait_for_peers().await;
    all_show(&[fleet.visitor(2).unwrap()], goods, &[2, 3, 4]).await;
}

#[actix_web::test]
async fn after_redis_is_lost_all_nodes_know_again_who_is_there() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut witnesses = watchers(&nodes, goods).await;
    let mut lists = [ParticipantList::default(), ParticipantList::default()];
    let [stays, goes] = [nodes[0].user(2).room(goods).await, nodes[1].user(3).room(goods).await];
    for (witness, list) in witnesses.iter_mut().zip(&mut lists) {
        while list.0.len() < 2 {
            list.apply(&witness.next().await);
        }
    }
    nodes.redis.kill();
    // A node's own sockets get its own users' joins and leaves at once.
    drop(goes);
    lists[1].apply(&witnesses[1].next().await);
    assert_eq!(lists[1].0, BTreeSet::from([2]));
    let comes = [nodes[0].user(4).room(goods).await, nodes[1].user(5).room(goods).await];
    lists[0].apply(&witnesses[0].next().await);
    assert_eq!(lists[0].0, BTreeSet::from([2, 3, 4]));
    nodes.redis.start_again();
    let back = Instant::now();
    for (witness, list) in witnesses.iter_mut().zip(&mut lists) {
        while list.0 != BTreeSet::from([2, 4, 5]) {
            list.apply(&witness.next().await);
        }
    }
    eprintln!("all was known {:?} after Redis was back", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    all_show(&nodes.visitors(), goods, &[2, 4, 5]).await;
    drop((stays, comes));
    for (witness, list) in witnesses.iter_mut().zip(&mut lists) {
        while !list.0.is_empty() {
            list.apply(&witness.next().await);
        }
    }
}

/// The others count it as lost, and it comes back as if nothing had happened: its sockets are still open.
#[actix_web::test]
async fn a_node_that_is_suspended_for_a_while_recovers() {
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::start(2, &[("session.max_per_user", "4")]).await;
    let at = |at: usize, user: i64| fleet.user(at, user).unwrap();
    let now = handsup::test_support::time_source::TimeSource::now(&handsup::test_support::time_source::SystemTime);
    let body = crate::support::goods_body(&json!({"starts_at": now, "duration_s": 1200}));
    let goods = at(0, SELLER).post("/goods/", &body).await.body["id"].as_i64().unwrap();
    crate::clock::accepted(&at(0, 2), goods, 1000).await;
    let mut witness = fleet.visitor(0).unwrap().room(goods).await;
    let mut there = at(1, 3).room(goods).await;
    enter(&mut witness, 3, 1).await;
    let others = [at(1, 3).room(goods).await, at(1, 3).room(goods).await];
    let mut alarms = at(1, 2).socket_since(0).await;
    alarms.expect_frame("hello").await;
    fleet.suspend(1);
    out(&mut witness, 3, 0).await;
    // Meanwhile the user comes to the other node, where there are places enough.
    let mut here = at(0, 3).room(goods).await;
    enter(&mut witness, 3, 1).await;
    let alarms_here = one_more(&at(0, 3)).await;
    crate::clock::accepted(&at(0, 4), goods, 2000).await;
    assert_eq!(witness.expect_frame("bid").await["high_price"], 2000);
    fleet.resume(1);
    assert_eq!(alarms.expect_alarm("outbid").await["high_price"], 2000);
    crate::nodes_rooms::receive_bids_up_to(&mut there, 2).await;
    fleet.wait_for_peers().await;
    // The user has five sockets now, and may have four: the oldest is closed with the next one, as soon as all are
    // counted again.
    let give_up = Instant::now() + DEADLINE;
    while there.closed_within(Duration::from_millis(500)).await != Some(4409) {
        assert!(Instant::now() < give_up, "the oldest stays");
        one_more(&at(0, 3)).await;
    }
    all_show(&[fleet.visitor(0).unwrap(), fleet.visitor(1).unwrap()], goods, &[3]).await;
    drop(there);
    let fifth = at(1, 5).room(goods).await;
    enter(&mut witness, 5, 2).await;
    crate::nodes_rooms::receive_bids_up_to(&mut here, 2).await;
    drop((here, alarms_here, others, fifth));
    let mut list = ParticipantList(BTreeSet::from([3, 5]));
    while !list.0.is_empty() {
        list.apply(&witness.next().await);
    }
}
