//! Alarms over several nodes: they reach a user's sockets on any node, in the order of the inbox, each once per
//! connection.

use futures_util::future::{join, join_all};
use handsup::test_support::domain::Timestamp;
use rand::RngExt;
use serde_json::json;

use crate::{
    clock::{SELLER, accepted, noon},
    events::Stream,
    support::{
        Client, ManualTime, Nodes, Socket, alarm_id, can_run_several_nodes, check_history, check_outbids, eventually,
        goods_body, rng, trade_frame, wait_for_end,
    },
};

/// The alarm sockets of a user, one on each node, after their hello.
pub async fn sockets_since(nodes: &Nodes, user: i64, since: i64) -> Vec<Socket> {
    join_all(nodes.users(user).iter().map(|client| socket_since(client, since))).await
}

pub async fn socket_since(client: &Client, since: i64) -> Socket {
    let mut socket = client.socket_since(since).await;
    socket.expect_frame("hello").await;
    socket
}

/// The ids of a user's inbox.
async fn inbox_ids(client: &Client) -> Vec<i64> {
    client.inbox().await.iter().map(alarm_id).collect()
}

/// Asserts that these are the next alarms of each socket.
async fn all_receive(sockets: &mut [Socket], expected: &[i64]) {
    for socket in sockets {
        for expected in expected {
            assert_eq!(alarm_id(&socket.next().await), *expected);
        }
    }
}

/// Moves the time until these goods have ended on every node.
pub async fn move_past_end(nodes: &Nodes, time: &ManualTime, goods: i64, ends_at: Timestamp) {
    // The grace, and the second by which the other nodes are later than the first.
    for ms in [0, 500, 1500] {
        time.set(ends_at.plus_ms(ms));
    }
    for node in nodes.iter() {
        wait_for_end(node, goods).await;
    }
}

#[actix_web::test]
async fn every_kind_of_alarm_reaches_its_users_on_all_nodes() {
    if !can_run_several_nodes() {
        return;
    }
    let time = ManualTime::at(noon());
    let nodes = Nodes::with_time(2, time.clone(), |_| {}).await;
    let [a, b] = [&nodes[0], &nodes[1]];
    let goods = a.goods(SELLER, 10_000, 400).await;
    let starts_at = noon().plus_ms(10_000);
    for (client, goods) in [(a.user(2), goods), (b.user(4), goods)] {
        client.like(goods).await;
    }
    let mut of_seller = sockets_since(&nodes, SELLER, 0).await;
    let mut of_liker = sockets_since(&nodes, 2, 0).await;
    let mut of_bidder = sockets_since(&nodes, 3, 0).await;
    let mut stream = Stream::open(b, b.user(3).token(), "/alarms/stream?since=0", "");
    assert_eq!(stream.data()["response_type"], "hello");

    time.set(starts_at);
    time.set(starts_at.plus_ms(1000));
    for socket in &mut of_liker {
        assert_eq!(socket.expect_alarm("auction_started").await["goods_id"], goods);
    }
    // Each bidder is outbid at one node by a bid at the other.
    accepted(&a.user(3), goods, 1000).await;
    accepted(&b.user(2), goods, 2000).await;
    for socket in &mut of_bidder {
        assert_eq!(socket.expect_alarm("outbid").await["high_price"], 2000);
    }
    accepted(&b.user(3), goods, 3000).await;
    for socket in &mut of_liker {
        assert_eq!(socket.expect_alarm("outbid").await["high_price"], 3000);
    }
    time.set(starts_at.plus_ms(340_000));
    time.set(starts_at.plus_ms(341_000));
    for socket in of_liker.iter_mut().chain(&mut of_bidder) {
        socket.expect_alarm("ending_soon").await;
    }
    move_past_end(&nodes, &time, goods, starts_at.plus_ms(400_000)).await;
    for socket in &mut of_liker {
        socket.expect_alarm("auction_lost").await;
    }
    for socket in &mut of_seller {
        socket.expect_alarm("auction_sold").await;
    }
    for socket in &mut of_bidder {
        socket.expect_alarm("auction_won").await;
    }
    let mut trade = a.user(SELLER).try_trade(goods).await.expect("a socket");
    trade.expect_frame("goods_info").await;
    trade.send_json(&trade_frame(goods, SELLER, "hi")).await;
    for socket in &mut of_bidder {
        assert_eq!(socket.expect_alarm("chat").await["response_type"], "chat_alram");
    }
    // The events are the same, and so is the whole inbox.
    let inbox = inbox_ids(&a.user(3)).await;
    assert_eq!(inbox.len(), 4);
    for expected in inbox {
        assert_eq!(stream.alarm(), expected);
    }
    assert_eq!(
        b.user(4).inbox_kinds().await.len(),
        2,
        "a user who was offline finds the start and the last minute in the inbox"
    );
}

/// Two nodes commit the two alarms, and each sends its own to the others without waiting.
#[actix_web::test]
async fn a_user_who_is_outbid_at_two_nodes_at_once_gets_both_alarms_in_order() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(3).await;
    let [x, y] = [nodes[0].live_goods(SELLER).await, nodes[1].live_goods(SELLER).await];
    let mut sockets = sockets_since(&nodes, 2, 0).await;
    let (leads, at_a, at_b) = (nodes[2].user(2), nodes[0].user(3), nodes[1].user(4));
    let mut received = 0;
    for round in 0..40 {
        let price = 1000 + round * 2;
        join(accepted(&leads, x, price), accepted(&leads, y, price)).await;
        join(accepted(&at_a, x, price + 1), accepted(&at_b, y, price + 1)).await;
        let inbox = inbox_ids(&leads).await;
        assert_eq!(inbox.len(), received + 2);
        all_receive(&mut sockets, &inbox[received..]).await;
        received = inbox.len();
    }
}

/// Everybody bids at random nodes. What each of their sockets gets is their inbox. One socket opens late, others
/// reconnect elsewhere.
#[actix_web::test]
async fn many_bids_at_all_nodes_alarm_everybody_without_a_gap() {
    const GOODS: usize = 4;
    const BIDS: usize = 40;
    if !can_run_several_nodes() {
        return;
    }
    let rng = std::cell::RefCell::new(rng("many_bids_at_all_nodes_alarm_everybody_without_a_gap"));
    let nodes = Nodes::start(3).await;
    let goods: Vec<i64> = join_all((0..GOODS).map(|at| nodes[at % 3].live_goods(SELLER))).await;
    let price = std::cell::Cell::new(1000);
    let users: Vec<i64> = (2..10).collect();
    let mut sockets = Vec::new();
    for user in &users {
        sockets.push(sockets_since(&nodes, *user, 0).await);
    }
    let fire = |user: i64| {
        let clients = nodes.users(user);
        let (goods, price, rng) = (&goods, &price, &rng);
        async move {
            for _ in 0..BIDS {
                let node = rng.borrow_mut().random_range(0..3);
                let which = rng.borrow_mut().random_range(0..GOODS);
                let mine = price.replace(price.get() + 1);
                let answer = clients[node].bid(goods[which], mine).await;
                assert!(answer.status == 201 || answer.code() == "bid_too_low", "{}", answer.text);
            }
        }
    };
    join_all(users.iter().map(|user| fire(*user))).await;
    let bidders: Vec<(i64, Client)> = users.iter().map(|user| (*user, nodes[0].user(*user))).collect();
    let mut stored = 0;
    for goods in &goods {
        let history = nodes[1].visitor().history(*goods).await;
        check_history(&history);
        check_outbids(*goods, &history, &bidders).await;
        stored += history.len();
    }
    eprintln!("{stored} bids");
    for ((user, client), sockets) in bidders.iter().zip(&mut sockets) {
        let inbox = inbox_ids(client).await;
        all_receive(sockets, &inbox).await;
        // From any position of the inbox on, at any node.
        let from = inbox.len() / 2;
        for client in nodes.users(*user) {
            let mut resumed = socket_since(&client, inbox[from]).await;
            all_receive(std::slice::from_mut(&mut resumed), &inbox[from + 1..]).await;
        }
    }
}

/// Sockets open in the middle of it: between what is read from the store and what comes over the bus nothing is lost.
#[actix_web::test]
async fn sockets_that_open_while_other_nodes_commit_miss_nothing() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let (victim, other) = (nodes[0].user(2), nodes[0].user(3));
    let stop = std::cell::Cell::new(false);
    let fire = async {
        let mut price = 1000;
        while !stop.get() {
            accepted(&victim, goods, price).await;
            accepted(&other, goods, price + 1).await;
            price += 2;
        }
    };
    let come_and_go = async {
        let client = nodes[1].user(2);
        let mut received: Vec<i64> = Vec::new();
        for round in 0..30 {
            let mut socket = socket_since(&client, received.last().copied().unwrap_or(0)).await;
            for _ in 0..=round % 5 {
                received.push(alarm_id(&socket.next().await));
            }
        }
        stop.set(true);
        received
    };
    let ((), received) = join(fire, come_and_go).await;
    let inbox = inbox_ids(&victim).await;
    assert_eq!(received, inbox[..received.len()]);
}

#[actix_web::test]
async fn an_event_stream_is_resumed_on_another_node() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let [a, b] = [&nodes[0], &nodes[1]];
    let goods = a.live_goods(SELLER).await;
    let mut stream = Stream::open(a, a.user(2).token(), "/alarms/stream?since=0", "");
    stream.data();
    let outbid = async |node: &crate::support::TestNode, price: i64| {
        accepted(&a.user(2), goods, price).await;
        accepted(&node.user(3), goods, price + 1).await;
    };
    outbid(b, 1000).await;
    outbid(a, 2000).await;
    let seen = [stream.alarm(), stream.alarm()];
    drop(stream);
    outbid(a, 3000).await;
    let resumed = format!("Last-Event-ID: {}\r\n", seen[0]);
    let mut stream = Stream::open(b, b.user(2).token(), "/alarms/stream", &resumed);
    stream.data();
    outbid(a, 4000).await;
    let inbox = inbox_ids(&a.user(2)).await;
    assert_eq!(inbox[..2], seen);
    assert_eq!([stream.alarm(), stream.alarm(), stream.alarm()], inbox[1..]);
}

/// A small part of a large audience is connected: those users get the alarm at their nodes, the others find it in their
/// inboxes.
#[actix_web::test]
async fn a_start_reaches_the_connected_likers_at_any_node() {
    const LIKERS: i64 = 60;
    if !can_run_several_nodes() {
        return;
    }
    let time = ManualTime::at(noon());
    let nodes = Nodes::with_time(3, time.clone(), |_| {}).await;
    let goods = nodes[0].goods(SELLER, 60_000, 100).await;
    for user in 0..LIKERS {
        nodes[user as usize % 3].user(100 + user).like(goods).await;
    }
    let mut listening = Vec::new();
    for (at, user) in [(0, 100), (1, 101), (2, 102), (1, 139), (2, 139)] {
        listening.push(socket_since(&nodes[at].user(user), 0).await);
    }
    for ms in [60_000, 61_000] {
        time.set(noon().plus_ms(ms));
    }
    for socket in &mut listening {
        socket.expect_alarm("auction_started").await;
    }
    for user in 0..LIKERS {
        let client = nodes[1].user(100 + user);
        eventually("the alarm", || async { (client.inbox_kinds().await.len() == 1).then_some(()) }).await;
    }
}

/// Goods are made at one node and are liked, started and bid on at others that have not seen them before.
#[actix_web::test]
async fn goods_made_at_one_node_are_known_at_all() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let body = goods_body(&json!({"starts_at": nodes[0].now(), "duration_s": 1200}));
    let made = nodes[0].user(SELLER).post("/goods/", &body).await;
    let goods = made.body["id"].as_i64().unwrap();
    // Even before any clock has started it.
    let first = accepted(&nodes[1].user(2), goods, 1000).await;
    assert_eq!(first["seq"], 1);
    assert_eq!(nodes[0].user(3).bid(goods, 1000).await.code(), "bid_too_low");
    let again = [("Idempotency-Key", "one")];
    let bid = |at: usize| {
        let client = nodes[at].user(3);
        let body = json!({"price": 5000}).to_string().into_bytes();
        async move { client.send_with(awc::http::Method::POST, &format!("/goods/{goods}/bids"), Some(body), &again).await }
    };
    // The same bid at both nodes at once is one bid.
    let (here, there) = join(bid(0), bid(1)).await;
    let answers = [&here, &there];
    let stored: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(!stored.is_empty(), "{} {}", here.text, there.text);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.code(), "idempotency_in_flight");
    }
    let replayed = eventually("the stored answer", || async { Some(bid(1).await).filter(|a| a.status == 201) }).await;
    assert_eq!(replayed.body, stored[0].body);
    // A refusal shows the current price, whichever node has stored it.
    for (at, price) in [(0, 6000), (1, 7000), (0, 8000)] {
        accepted(&nodes[at].user(2), goods, price).await;
        let refused = nodes[1 - at].user(3).bid(goods, 1000).await;
        assert_eq!((refused.code(), &refused.body["high_price"]), ("bid_too_low", &json!(price)));
        assert_eq!(refused.body["minimum"], price + 1);
    }
    assert_eq!(nodes[1].visitor().history(goods).await.len(), 5);
}
