//! Auction rooms over several nodes: an event at one node reaches the room at all nodes once, and bids in their order.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    clock::{SELLER, accepted, noon},
    nodes_alarms::move_past_end,
    support::{
        Client, Fleet, ManualTime, Nodes, Socket, bid_frame, can_run_several_nodes, check_history, eventually,
        line_frame, without_time,
    },
};

/// A visitor's socket in the room of these goods at each node. Visitors join silently.
pub async fn watchers(nodes: &Nodes, goods: i64) -> Vec<Socket> {
    join_all(nodes.visitors().iter().map(|visitor| visitor.room(goods))).await
}

/// The next frame that is not a join or leave.
pub async fn next_event(socket: &mut Socket) -> Value {
    loop {
        let frame = socket.next().await;
        if !["enter", "out"].contains(&frame["response_type"].as_str().unwrap()) {
            return frame;
        }
    }
}

/// Reads bids up to this one: each must be the next. Returns the other frames.
pub async fn receive_bids_up_to(socket: &mut Socket, last: i64) -> Vec<Value> {
    let (mut before, mut others) = (None, Vec::new());
    while before != Some(last) {
        let frame = next_event(socket).await;
        if frame["response_type"] == "bid" {
            let seq = frame["seq"].as_i64().unwrap();
            assert!(before.is_none_or(|before| seq == before + 1), "{seq} after {before:?}");
            before = Some(seq);
        } else {
            others.push(frame);
        }
    }
    others
}

#[actix_web::test]
async fn every_event_in_a_room_reaches_all_nodes() {
    if !can_run_several_nodes() {
        return;
    }
    let time = ManualTime::at(noon());
    let nodes = Nodes::with_time(2, time.clone(), |settings| settings.auction.soft_close_s = 30).await;
    let goods = nodes[0].goods(SELLER, 10_000, 100).await;
    let mut sockets = watchers(&nodes, goods).await;
    sockets.extend(watchers(&nodes, goods).await);
    let mut rooms = [nodes[0].user(2).room(goods).await, nodes[1].user(3).room(goods).await];
    time.set(noon().plus_ms(10_000));
    time.set(noon().plus_ms(11_000));
    for socket in &mut sockets {
        assert_eq!(without_time(next_event(socket).await), json!({"response_type": "started"}));
    }
    for (price, (room, user)) in [1000, 2000].into_iter().zip([(0, 2), (1, 3)]) {
        rooms[room].send_json(&bid_frame(goods, user, price)).await;
        for socket in &mut sockets {
            let received = next_event(socket).await;
            assert_eq!((&received["response_type"], &received["high_price"]), (&json!("bid"), &json!(price)));
            assert_eq!((&received["sender"], &received["sender_name"]), (&json!(user), &json!(format!("name{user}"))));
        }
        rooms[room].send_json(&line_frame(goods, user, &format!("so viel: {price} €"))).await;
        for socket in &mut sockets {
            let received = next_event(socket).await;
            assert_eq!(
                (&received["message"], &received["sender"]),
                (&json!(format!("so viel: {price} €")), &json!(user))
            );
        }
    }
    // In the last seconds: the end moves on all nodes.
    time.set(noon().plus_ms(100_000));
    let late = accepted(&nodes[1].user(2), goods, 3000).await;
    assert_eq!(late["ends_at"], "2026-11-22T12:02:10.000Z");
    for socket in &mut sockets {
        let received = next_event(socket).await;
        assert_eq!((&received["seq"], &received["ends_at"]), (&json!(3), &late["ends_at"]));
        assert_eq!(
            without_time(next_event(socket).await),
            json!({"response_type": "extended", "ends_at": late["ends_at"]})
        );
    }
    // At the old end nothing ends.
    for ms in [110_000, 110_600, 111_600] {
        time.set(noon().plus_ms(ms));
    }
    move_past_end(&nodes, &time, goods, noon().plus_ms(130_000)).await;
    rooms[0].send_json(&line_frame(goods, 2, "축하")).await;
    let ended =
        json!({"response_type": "ended", "buyer_id": 2, "buyer_name": "name2", "high_price": 3000, "reason": "sold"});
    for socket in &mut sockets {
        assert_eq!(without_time(next_event(socket).await), ended);
        assert_eq!(next_event(socket).await["message"], "축하", "the end is sent once");
    }
}

/// So many users bid at all nodes, over HTTP and in the room in turn. Asserts that every answer is in the history.
async fn all_bid(clients: &[Client], first: i64, goods: i64, times: i64) {
    let price = std::cell::Cell::new(1000);
    join_all((first..).zip(clients).map(|(user, client)| {
        let price = &price;
        async move {
            let mut room = client.room(goods).await;
            for turn in 0..times {
                let mine = price.replace(price.get() + 1);
                if (turn + user) % 2 == 0 {
                    let answer = client.bid(goods, mine).await;
                    assert!(answer.status == 201 || answer.code() == "bid_too_low", "{}", answer.text);
                    continue;
                }
                room.send_json(&bid_frame(goods, user, mine)).await;
                // Until the outcome of the bid is known.
                loop {
                    let frame = room.next().await;
                    let is_own = frame["response_type"] == "bid" && frame["high_price"] == mine;
                    if is_own || frame["response_type"] == "alert" {
                        break;
                    }
                }
            }
        }
    }))
    .await;
}

#[actix_web::test]
async fn seqs_rise_without_a_gap_under_bids_at_all_nodes() {
    if !can_run_several_nodes() {
        return;
    }
    for count in [2, 3] {
        let nodes = Nodes::start(count).await;
        let goods = nodes[0].live_goods(SELLER).await;
        let mut early = watchers(&nodes, goods).await;
        early.extend(watchers(&nodes, goods).await);
        let bidders: Vec<Client> = (0..9).map(|at| nodes[at % count].user(2 + at as i64)).collect();
        let done = std::cell::Cell::new(false);
        let bid = async {
            all_bid(&bidders, 2, goods, 20).await;
            done.set(true);
        };
        // Others join while it goes on.
        let come = async {
            let mut late = Vec::new();
            while !done.get() && late.len() < 40 {
                late.push(nodes[late.len() % count].visitor().room(goods).await);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            late
        };
        let ((), late) = futures_util::future::join(bid, come).await;
        // One more bid, which everybody gets.
        accepted(&nodes[1].user(50), goods, 1_000_000).await;
        let history = nodes[0].visitor().history(goods).await;
        check_history(&history);
        let last = history.len() as i64;
        eprintln!("{last} bids at {count} nodes, {} came meanwhile", late.len());
        for socket in &mut early {
            let first = next_event(socket).await;
            assert_eq!(first["seq"], 1, "{first}");
            let others = receive_bids(socket, 1, last).await;
            assert_eq!(others, Vec::<Value>::new());
        }
        for mut socket in late {
            receive_bids_up_to(&mut socket, last).await;
        }
    }
}

async fn receive_bids(socket: &mut Socket, first: i64, last: i64) -> Vec<Value> {
    let mut others = Vec::new();
    for seq in first + 1..=last {
        let frame = next_event(socket).await;
        if frame["response_type"] == "bid" {
            assert_eq!(frame["seq"], seq, "{frame}");
        } else {
            others.push(frame);
        }
    }
    others
}

#[actix_web::test]
async fn lines_from_all_nodes_arrive_once_at_each() {
    const LINES: usize = 25;
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(3).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut sockets = watchers(&nodes, goods).await;
    join_all((0..6).map(|at| {
        let (user, client) = (2 + at as i64, nodes[at % 3].user(2 + at as i64));
        async move {
            let mut room = client.room(goods).await;
            for turn in 0..LINES {
                let text = format!("{user} {turn}");
                room.send_json(&line_frame(goods, user, &text)).await;
                while next_event(&mut room).await["message"] != text {}
            }
        }
    }))
    .await;
    let mut expected: Vec<String> =
        (2..8).flat_map(|user| (0..LINES).map(move |turn| format!("{user} {turn}"))).collect();
    expected.sort();
    for socket in &mut sockets {
        let mut received = Vec::new();
        for _ in 0..6 * LINES {
            received.push(next_event(socket).await["message"].as_str().unwrap().to_owned());
        }
        for user in 2..8 {
            let of_user: Vec<&String> = received.iter().filter(|line| line.starts_with(&format!("{user} "))).collect();
            assert_eq!(
                of_user,
                (0..LINES).map(|turn| format!("{user} {turn}")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
            );
        }
        received.sort();
        assert_eq!(received, expected);
    }
}

#[actix_web::test]
async fn deleting_goods_at_one_node_ends_their_room_at_all() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(3).await;
    let goods = nodes[0].goods(SELLER, 3_600_000, 60).await;
    let mut sockets = watchers(&nodes, goods).await;
    sockets.push(nodes[2].user(2).room(goods).await);
    // What a node remembers for refusals goes with the goods.
    assert_eq!(nodes[2].user(2).bid(goods, 1000).await.code(), "auction_not_started");
    assert_eq!(nodes[1].user(SELLER).delete(&format!("/goods/{goods}/")).await.status, 204);
    for socket in &mut sockets {
        assert_eq!(socket.closed().await.code, Some(4404));
    }
    for node in nodes.iter() {
        assert_eq!(node.user(2).try_room(goods).await.err(), Some(404));
        let bid = || async { (node.user(2).bid(goods, 1000).await.status == 404).then_some(()) };
        eventually("no such goods", bid).await;
    }
}

/// No event arrives: each node checks the goods of the rooms in which it has sockets.
#[actix_web::test]
async fn deleting_goods_while_redis_is_down_ends_their_room_at_all_nodes() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let goods = nodes[0].goods(SELLER, 3_600_000, 60).await;
    let mut sockets = watchers(&nodes, goods).await;
    nodes.redis.kill();
    assert_eq!(nodes[1].user(SELLER).delete(&format!("/goods/{goods}/")).await.status, 204);
    for socket in &mut sockets {
        assert_eq!(socket.closed().await.code, Some(4404));
    }
}

/// The node that takes the bid is killed right after its answer, before it could publish the event.
#[actix_web::test]
async fn a_bid_whose_node_dies_before_publishing_it_reaches_the_others() {
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::start(2, &[]).await;
    let at = |at: usize, user: i64| fleet.user(at, user).unwrap();
    let now = handsup::test_support::time_source::TimeSource::now(&handsup::test_support::time_source::SystemTime);
    let body = crate::support::goods_body(&json!({"starts_at": now, "duration_s": 1200}));
    let goods = at(0, SELLER).post("/goods/", &body).await.body["id"].as_i64().unwrap();
    accepted(&at(0, 2), goods, 1000).await;
    for round in 0..3 {
        fleet.wait_for_peers().await;
        let mut room = fleet.visitor(0).unwrap().room(goods).await;
        let mut alarms = crate::nodes_alarms::socket_since(&at(0, 2), 1_000_000_000).await;
        let price = 2000 + round * 1000;
        let answer = accepted(&at(1, 3), goods, price).await;
        fleet.kill(1);
        let received = loop {
            let frame = next_event(&mut room).await;
            if frame["response_type"] == "bid" {
                break frame;
            }
        };
        assert_eq!((&received["seq"], &received["high_price"]), (&answer["seq"], &json!(price)));
        assert_eq!(alarms.expect_alarm("outbid").await["high_price"], price);
        accepted(&at(0, 2), goods, price + 500).await;
        assert_eq!(next_event(&mut room).await["high_price"], price + 500);
        fleet.start_at(1).await;
    }
}
