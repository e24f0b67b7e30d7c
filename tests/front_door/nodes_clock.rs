//! The clocks of several nodes: whatever is due is done once, by any of them, and a bid is judged by its arrival at its
//! own node, not by another node's clock.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use handsup::test_support::{
    domain::Timestamp,
    time_source::{SystemTime, TimeSource},
};
use serde_json::{Value, json};

use crate::{
    clock::{SELLER, accepted, kinds, noon, page},
    idempotency::bid,
    nodes_rooms::next_event,
    support::{
        Client, Fleet, HoldingTime, ManualTime, Nodes, Seed, Socket, can_run_several_nodes, count,
        database::{self, Locked},
        eventually, eventually_within, goods_body, wait_until_settled, without_time,
    },
};

/// The default of `auction.close_grace_ms`.
const GRACE_MS: i64 = 500;
/// How much later than the first node the others do what is due.
const LATER_MS: i64 = 1000;

/// Moves all nodes' time to this moment, in steps that give each node its turn, and waits until nothing is left to do.
async fn move_to(nodes: &Nodes, time: &ManualTime, at: Timestamp) {
    for ms in [0, GRACE_MS, LATER_MS, LATER_MS + GRACE_MS] {
        time.set(at.plus_ms(ms));
    }
    for node in nodes.iter() {
        wait_until_settled(&node.admin(), at.plus_ms(LATER_MS + GRACE_MS)).await;
    }
}

#[actix_web::test]
async fn each_start_last_minute_and_end_comes_once_with_two_and_three_nodes() {
    const GOODS: usize = 10;
    if !can_run_several_nodes() {
        return;
    }
    for count in [2, 3] {
        let time = ManualTime::at(noon());
        let nodes = Nodes::with_time(count, time.clone(), |_| {}).await;
        let starts_at = noon().plus_ms(60_000);
        let mut goods = Vec::new();
        for at in 0..GOODS {
            let one = nodes[at % count].goods(SELLER, 60_000, 600).await;
            nodes[(at + 1) % count].user(2).like(one).await;
            goods.push(one);
        }
        let mut rooms = Vec::new();
        for (at, goods) in goods.iter().enumerate() {
            rooms.push(nodes[at % count].visitor().room(*goods).await);
        }
        move_to(&nodes, &time, starts_at).await;
        // All but the last get bids.
        let (sold, unsold) = goods.split_at(GOODS - 1);
        for goods in sold {
            accepted(&nodes[0].user(3), *goods, 1000).await;
            accepted(&nodes[1].user(4), *goods, 2000).await;
        }
        move_to(&nodes, &time, starts_at.plus_ms(540_000)).await;
        move_to(&nodes, &time, starts_at.plus_ms(600_000)).await;
        move_to(&nodes, &time, starts_at.plus_ms(900_000)).await;
        for node in nodes.iter() {
            let [seller, liker, loser, buyer] = [SELLER, 2, 3, 4].map(|user| node.user(user));
            for goods in sold {
                assert_eq!(kinds(&liker, *goods).await, ["auction_started", "ending_soon"]);
                assert_eq!(kinds(&loser, *goods).await, ["outbid", "ending_soon", "auction_lost"]);
                assert_eq!(kinds(&buyer, *goods).await, ["ending_soon", "auction_won"]);
                assert_eq!(kinds(&seller, *goods).await, ["auction_sold"]);
            }
            assert_eq!(kinds(&seller, unsold[0]).await, ["auction_unsold"]);
            assert_eq!(kinds(&liker, unsold[0]).await, ["auction_started", "ending_soon"]);
        }
        for (room, goods) in rooms.iter_mut().zip(&goods) {
            let mut received = Vec::new();
            while received.last().is_none_or(|last| last != "ended") {
                received.push(next_event(room).await["response_type"].as_str().unwrap().to_owned());
            }
            let bids = if sold.contains(goods) { 2 } else { 0 };
            let expected = [vec!["started"], vec!["bid"; bids], vec!["ended"]].concat();
            assert_eq!(received, expected, "goods {goods}");
        }
        let trades = crate::support::count(&nodes.database(), "trade_rooms");
        assert_eq!(trades, sold.len() as i64, "a trade room for each that was sold");
    }
}

/// A node that got no event about the goods knows them from its own reads of the database.
#[actix_web::test]
async fn goods_made_at_one_node_start_and_end_at_another_when_that_one_is_gone() {
    const GOODS: usize = 8;
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::start(3, &[("auction.duration_s", "6")]).await;
    let now = SystemTime.now();
    let (starts_at, ends_at) = (now.plus_ms(6000), now.plus_ms(14_000));
    let made = join_all((0..GOODS).map(|at| {
        let client = fleet.user(at, SELLER).unwrap();
        async move {
            let body = goods_body(&json!({"starts_at": starts_at, "duration_s": 8}));
            client.post("/goods/", &body).await.body["id"].as_i64().expect("goods")
        }
    }));
    let goods = made.await;
    for goods in &goods {
        fleet.user(1, 2).unwrap().like(*goods).await;
    }
    let mut rooms = Vec::new();
    for goods in &goods {
        rooms.push(fleet.visitor(1).unwrap().room(*goods).await);
    }
    assert!(SystemTime.now() < starts_at.plus_ms(-300), "too slow for this test");
    SystemTime.wait_until(starts_at.plus_ms(-200)).await;
    // It was the first node for some of them.
    fleet.kill(0);
    let late = |at: Timestamp| SystemTime.now().ms_since(at);
    for room in &mut rooms {
        assert_eq!(without_time(next_event(room).await), json!({"response_type": "started"}));
    }
    eprintln!("all had started {} ms after their time", late(starts_at));
    assert!(late(starts_at) < 5000);
    for goods in &goods {
        accepted(&fleet.user(1, 3).unwrap(), *goods, 1000).await;
    }
    for room in &mut rooms {
        assert_eq!(next_event(room).await["seq"], 1);
    }
    assert!(SystemTime.now() < ends_at.plus_ms(-300), "too slow for this test");
    SystemTime.wait_until(ends_at.plus_ms(-200)).await;
    fleet.kill(2);
    for room in &mut rooms {
        let ended = json!({"response_type": "ended", "buyer_id": 3, "buyer_name": "name3", "high_price": 1000, "reason": "sold"});
        assert_eq!(without_time(next_event(room).await), ended);
    }
    eprintln!("all had ended {} ms after their time", late(ends_at));
    assert!(late(ends_at) < 5000);
    // The other nodes come back, and do nothing again.
    join(fleet.start_at(0), fleet.start_at(2)).await;
    fleet.wait_for_peers().await;
    for at in 0..3 {
        wait_until_settled(&fleet.admin(at).unwrap(), ends_at.plus_ms(2000)).await;
    }
    for goods in &goods {
        assert_eq!(kinds(&fleet.user(0, 2).unwrap(), *goods).await, ["auction_started"]);
        assert_eq!(kinds(&fleet.user(1, 3).unwrap(), *goods).await, ["auction_won"]);
        assert_eq!(kinds(&fleet.user(2, SELLER).unwrap(), *goods).await, ["auction_sold"]);
    }
}

/// Two nodes, of which the first can be held up. Both have this time.
async fn nodes_with_one_to_hold() -> (Nodes, std::sync::Arc<HoldingTime>, std::sync::Arc<ManualTime>) {
    let (held, time) = (HoldingTime::at(noon()), ManualTime::at(noon()));
    let mut nodes = Nodes::none(time.clone());
    nodes.add(held.clone(), |_| {});
    nodes.add(time.clone(), |_| {});
    nodes.wait_for_peers().await;
    (nodes, held, time)
}

#[actix_web::test]
async fn a_bid_that_arrives_in_time_at_a_node_that_is_held_up_counts() {
    if !can_run_several_nodes() {
        return;
    }
    // So that both nodes are the first one for some of the goods.
    for _ in 0..2 {
        let (nodes, held, time) = nodes_with_one_to_hold().await;
        let set = |ms: i64| {
            held.set(noon().plus_ms(ms));
            time.set(noon().plus_ms(ms));
        };
        let goods = nodes[1].goods(SELLER, 0, 10).await;
        accepted(&nodes[1].user(2), goods, 1000).await;
        let bidder = nodes[0].user(3);
        assert_eq!(bidder.inbox_kinds().await, []);
        let mut room = nodes[1].visitor().room(goods).await;
        set(9_999);
        held.hold_worker_after(1);
        let move_on = async {
            eventually("the bid's arrival", || async { held.holds().then_some(()) }).await;
            // The last moment of the grace.
            set(10_000 + GRACE_MS - 1);
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(page(&nodes[1], goods).await["status"], true, "the other node waits");
            held.release();
        };
        let (answer, ()) = join(bidder.bid(goods, 2000), move_on).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_eq!(answer.body["created_at"], "2026-11-22T12:00:09.999Z");
        // A bid at the end is too late at either node, although neither clock has closed the auction.
        for node in nodes.iter() {
            assert_eq!(node.user(4).bid(goods, 9000).await.code(), "auction_ended");
        }
        set(10_000 + GRACE_MS);
        set(10_000 + GRACE_MS + LATER_MS);
        assert_eq!(next_event(&mut room).await["high_price"], 2000);
        let ended = json!({"response_type": "ended", "buyer_id": 3, "buyer_name": "name3", "high_price": 2000, "reason": "sold"});
        assert_eq!(without_time(next_event(&mut room).await), ended);
        assert_eq!(kinds(&nodes[0].user(2), goods).await, ["outbid", "auction_lost"]);
        assert_eq!(kinds(&nodes[1].user(3), goods).await, ["auction_won"]);
    }
}

/// One node's clock is behind: a client that has received `started` there may bid at once, over HTTP and in the room.
#[actix_web::test]
async fn after_a_start_no_bid_is_too_early_at_a_node_whose_clock_is_behind() {
    if !can_run_several_nodes() {
        return;
    }
    let (ahead, behind) = (ManualTime::at(noon()), ManualTime::at(noon().plus_ms(-20)));
    let mut nodes = Nodes::none(ahead.clone());
    nodes.add(ahead.clone(), |_| {});
    nodes.add(behind.clone(), |_| {});
    nodes.wait_for_peers().await;
    let mut goods = Vec::new();
    for _ in 0..4 {
        goods.push(nodes[0].goods(SELLER, 10_000, 600).await);
    }
    // The other node is not the first one for these.
    let mut rooms = Vec::new();
    for goods in &goods {
        let early = bid(&nodes[1].user(2), *goods, 1000, &format!("k{goods}")).await;
        assert_eq!(early.code(), "auction_not_started");
        let mut room = nodes[1].user(3).room(*goods).await;
        room.expect_frame("enter").await;
        rooms.push(room);
    }
    ahead.set(noon().plus_ms(10_000));
    ahead.set(noon().plus_ms(10_000 + LATER_MS));
    behind.set(noon().plus_ms(9_980));
    for (goods, room) in goods.iter().zip(&mut rooms) {
        room.expect_frame("started").await;
        let answer = bid(&nodes[1].user(2), *goods, 1000, &format!("k{goods}")).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        room.send_json(&json!({"is_money": true, "message": 2000})).await;
        room.expect_frame("bid").await;
        assert_eq!(room.expect_frame("bid").await["high_price"], 2000);
    }
}

/// Whatever answers the two nodes give around an end, one order explains them, and it contains no bid at or after the
/// end.
#[actix_web::test]
async fn bids_around_an_end_at_two_nodes_are_either_in_time_or_refused() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    join_all((0..4).map(|auction| bids_around_an_end(&nodes, 10 + auction * 100))).await;
}

async fn bids_around_an_end(nodes: &Nodes, first: i64) {
    let goods = nodes[0].goods(first, 0, 3).await;
    let shown = page(&nodes[0], goods).await["ends_at"].clone();
    let ends_at = Timestamp::parse_rfc3339(shown.as_str().unwrap()).unwrap();
    let price = std::cell::Cell::new(1000);
    let fire = |at: usize| {
        let client = nodes[at % 2].user(first + 1 + at as i64);
        let price = &price;
        async move {
            let (mut stored, mut late) = (Vec::new(), 0);
            while late < 5 {
                let mine = price.replace(price.get() + 1);
                let sent_at = SystemTime.now();
                let answer = client.bid(goods, mine).await;
                match answer.status {
                    201 => {
                        assert!(sent_at < ends_at, "sent after the end: {}", answer.text);
                        assert!(answer.body["created_at"].as_str().unwrap() < ends_at.rfc3339().as_str());
                        stored.push(answer.body);
                    }
                    _ if answer.code() == "auction_ended" => {
                        assert!(SystemTime.now() >= ends_at, "refused too early");
                        late += 1;
                    }
                    _ => assert_eq!(answer.code(), "bid_too_low", "{}", answer.text),
                }
            }
            stored
        }
    };
    let stored = join_all((0..6).map(fire)).await.concat();
    wait_until_settled(&nodes[1].admin(), ends_at.plus_ms(GRACE_MS)).await;
    let history = nodes[1].visitor().history(goods).await;
    crate::support::check_history(&history);
    crate::support::check_answered(&history, &stored);
    assert_eq!(history.len(), stored.len());
    let bidders: Vec<(i64, Client)> = (first + 1..first + 7).map(|user| (user, nodes[0].user(user))).collect();
    crate::support::check_outbids(goods, &history, &bidders).await;
    let last = history.last().expect("some were in time");
    for (user, bidder) in &bidders {
        let ends: Vec<String> = kinds(bidder, goods).await.into_iter().filter(|kind| kind != "outbid").collect();
        let took_part = history.iter().any(|bid| bid["user_id"] == *user);
        match (last["user_id"] == *user, took_part) {
            (true, _) => assert_eq!(ends, ["auction_won"]),
            (false, true) => assert_eq!(ends, ["auction_lost"]),
            (false, false) => assert_eq!(ends, Vec::<String>::new()),
        }
    }
}

/// The node that alarms a large audience is killed in the middle: another one resumes, and alarms nobody twice.
#[actix_web::test]
async fn the_fan_out_of_a_node_that_is_killed_is_resumed_by_another() {
    const FIRST: i64 = 1000;
    const LIKERS: i64 = 8000;
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::none(&[]);
    let database = fleet.database();
    {
        let seed = Seed::open(&database::url_of(&database));
        seed.users([SELLER]);
        seed.users(FIRST..FIRST + LIKERS);
        let goods = seed.goods(SELLER, "camera", [SystemTime.now().plus_ms(3_600_000)]);
        assert_eq!(goods, [1]);
        seed.likes(&goods, FIRST..FIRST + LIKERS);
        seed.finish();
    }
    join(fleet.start_at(0), fleet.start_at(1)).await;
    fleet.wait_for_peers().await;
    let some = [0, LIKERS / 2, LIKERS - 1];
    let mut sockets: Vec<Socket> = Vec::new();
    for (at, liker) in some.iter().enumerate() {
        let mut socket = fleet.user(at, FIRST + liker).unwrap().socket_since(0).await;
        socket.expect_frame("hello").await;
        sockets.push(socket);
    }
    // However long all that took, it starts now: both nodes read their deadlines every two seconds.
    database::run(&database, &format!("UPDATE goods SET starts_at = {}", SystemTime.now().micros()));
    let give_up = Instant::now() + Duration::from_secs(30);
    let alarmed = loop {
        let alarmed = count(&database, "inbox");
        if alarmed > 0 {
            break alarmed;
        }
        assert!(Instant::now() < give_up, "nobody is alarmed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    // The fan-out stands still while the test finds out which node runs it.
    let locked = Locked::by_another_connection(database.parent().unwrap());
    let before = count(&database, "inbox");
    let mut sender = Vec::new();
    for at in 0..2 {
        let figures = fleet.admin(at).unwrap().get("/admin/health").await.body["checks"]["ledger"].take();
        if figures["open_fanouts"].as_u64().unwrap_or(0) > 0 {
            sender.push(at);
        }
    }
    eprintln!("{alarmed}, then {before} of {LIKERS} were alarmed when {sender:?} was killed");
    assert!(before < LIKERS, "all were alarmed before the node could be killed");
    let killed = sender[0];
    fleet.kill(killed);
    drop(locked);
    eventually_within(Duration::from_secs(20), "all are alarmed", || async {
        (count(&database, "inbox") == LIKERS).then_some(())
    })
    .await;
    assert_eq!(database::number(&database, "count(DISTINCT user_id) FROM inbox"), LIKERS);
    assert_eq!(database::number(&database, "count(DISTINCT event_id) FROM alarms"), 1);
    for (at, (socket, liker)) in sockets.iter_mut().zip(some).enumerate() {
        if at % 2 != killed {
            socket.expect_alarm("auction_started").await;
        }
        let received: Vec<Value> = fleet.user(at, FIRST + liker).unwrap().inbox().await;
        assert_eq!(received.len(), 1);
    }
}
