//! The alarm socket: which alarms arrive in which order, what a client without `since` gets, and how sockets end.

use awc::ws::Message;
use handsup::test_support::domain::Timestamp;
use serde_json::json;

use crate::support::{Closed, ManualTime, Socket, TestNode, alarm_id, eventually, outbid_times, session_figures};

#[actix_web::test]
async fn an_outbid_user_gets_the_alarm_in_every_tab_and_nobody_else_does() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (first, second) = (node.user(2), node.user(3));
    let mut tabs = [first.socket().await, first.socket().await];
    assert_eq!(first.bid(goods, 1000).await.status, 201);
    let raised = second.bid(goods, 2000).await;
    for tab in &mut tabs {
        let alarm = tab.expect_alarm("outbid").await;
        let ends_at = &raised.body["ends_at"];
        assert_eq!(
            alarm,
            json!({
                "response_type": "alram", "id": 1, "kind": "outbid", "message": "다른 핸더가 입찰했어요!",
                "goods_id": goods, "goods_title": "camera", "created_at": alarm["created_at"],
                "high_price": 2000, "ends_at": ends_at,
            })
        );
    }
    assert_eq!(second.inbox_kinds().await, []);
}

#[actix_web::test]
async fn a_leader_who_raises_their_own_bid_alarms_nobody() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let leader = node.user(2);
    for price in [1000, 1500, 2000] {
        assert_eq!(leader.bid(goods, price).await.status, 201);
    }
    assert_eq!(leader.inbox_kinds().await, []);
    assert_eq!(leader.get("/alarms/unread").await.body, json!({"unread": 0, "last_id": 0}));
}

/// Fault 7: the origin loses alarms of offline users.
#[actix_web::test]
async fn fault_7_alarms_of_an_offline_user_wait_for_their_next_session() {
    let node = TestNode::start();
    outbid_times(&node, 3).await;
    let node = node.restart();
    let victim = node.user(2);
    let mut socket = victim.socket().await;
    let received: Vec<_> =
        [socket.expect_alarm("outbid").await, socket.expect_alarm("outbid").await, socket.expect_alarm("outbid").await]
            .iter()
            .map(alarm_id)
            .collect();
    assert_eq!(received, [1, 2, 3]);
}

#[actix_web::test]
async fn a_modern_client_is_greeted_and_resumes_where_it_says() {
    let node = TestNode::start();
    outbid_times(&node, 5).await;
    let victim = node.user(2);
    let ids: Vec<i64> = victim.inbox().await.iter().map(alarm_id).collect();
    let mut socket = victim.socket_since(ids[2]).await;
    let hello = socket.next().await;
    assert_eq!(
        hello,
        json!({
            "response_type": "hello", "user_id": 2, "last_id": ids[4], "unread": 5,
            "server_time": hello["server_time"], "heartbeat_s": 20,
        })
    );
    assert_eq!([alarm_id(&socket.next().await), alarm_id(&socket.next().await)], [ids[3], ids[4]]);
    // A `since` above the newest id counts as the newest: later alarms arrive.
    let mut ahead = victim.socket_since(9_000_000).await;
    assert_eq!(ahead.next().await["response_type"], "hello");
    outbid_times(&node, 1).await;
    assert!(alarm_id(&ahead.next().await) > ids[4]);
}

#[actix_web::test]
async fn the_existing_client_gets_no_hello() {
    let node = TestNode::start();
    let victim = node.user(2);
    let mut old = victim.socket().await;
    let path = "/ws/alarms/";
    let mut modern = Socket::open(&node.base(), path, &["handsup.v1"], Some(victim.token())).await.unwrap();
    assert_eq!(modern.protocol.as_deref(), Some("handsup.v1"));
    assert_eq!(modern.next().await["response_type"], "hello");
    outbid_times(&node, 1).await;
    old.expect_alarm("outbid").await;
    modern.expect_alarm("outbid").await;
}

#[actix_web::test]
async fn an_alarm_confirmed_by_a_pong_is_not_sent_again() {
    let node = TestNode::start();
    let victim = node.user(2);
    let mut socket = victim.socket().await;
    outbid_times(&node, 2).await;
    let (_, last) = (socket.expect_alarm("outbid").await, socket.expect_alarm("outbid").await);
    // Behind the frames comes a ping that names the last of them. Answering it confirms receipt.
    while socket.next_ping().await != alarm_id(&last).to_string() {}
    socket.send(Message::Pong(alarm_id(&last).to_string().into())).await;
    socket.close().await;
    node.wait_for_receipt(2, alarm_id(&last)).await;
    outbid_times(&node, 1).await;
    let next = victim.socket().await.expect_alarm("outbid").await;
    assert!(alarm_id(&next) > alarm_id(&last), "only new alarms arrive");
    let node = node.restart();
    assert_eq!(
        alarm_id(&node.user(2).socket().await.expect_alarm("outbid").await),
        alarm_id(&next),
        "the receipt is on disk"
    );
}

#[actix_web::test]
async fn an_alarm_confirmed_right_before_the_node_stops_is_not_sent_again() {
    let node = TestNode::start();
    outbid_times(&node, 1).await;
    let mut socket = node.user(2).socket().await;
    let had = socket.expect_alarm("outbid").await;
    socket.send_json(&json!({"type": "ack", "up_to": alarm_id(&had)})).await;
    // The answer comes after the ack was processed.
    socket.send_json(&json!({"type": "ping"})).await;
    while socket.next().await["response_type"] != "pong" {}
    // Dropped at once, so that the node does not wait for it.
    drop(socket);
    let node = node.restart();
    outbid_times(&node, 1).await;
    assert!(alarm_id(&node.user(2).socket().await.expect_alarm("outbid").await) > alarm_id(&had));
}

#[actix_web::test]
async fn an_acknowledged_alarm_is_not_sent_again_and_an_unsent_one_cannot_be_acknowledged() {
    let node = TestNode::start();
    outbid_times(&node, 3).await;
    let victim = node.user(2);
    let mut silent = victim.socket().await;
    silent.answers_pings = false;
    let first = silent.expect_alarm("outbid").await;
    silent.send_json(&json!({"type": "ack", "up_to": alarm_id(&first)})).await;
    // The answer comes after the ack was processed.
    silent.send_json(&json!({"type": "ping"})).await;
    while silent.next().await["response_type"] != "pong" {}
    silent.close().await;
    node.wait_for_receipt(2, alarm_id(&first)).await;
    let mut second = victim.socket().await;
    second.answers_pings = false;
    assert_eq!(alarm_id(&second.next().await), alarm_id(&first) + 1);
    // An ack of a future id counts as one of the last alarm sent.
    second.expect_alarm("outbid").await;
    second.send_json(&json!({"type": "ack", "up_to": 1_000_000})).await;
    second.send_json(&json!({"type": "ping"})).await;
    while second.next().await["response_type"] != "pong" {}
    second.close().await;
    node.wait_for_receipt(2, alarm_id(&first) + 2).await;
    outbid_times(&node, 1).await;
    victim.socket().await.expect_alarm("outbid").await;
}

/// `POST /alarms/ack` is for clients that read the inbox or a stream.
#[actix_web::test]
async fn alarms_acknowledged_over_http_are_not_sent_again_and_later_ones_are() {
    let node = TestNode::start();
    outbid_times(&node, 2).await;
    let victim = node.user(2);
    let ids: Vec<i64> = victim.inbox().await.iter().map(alarm_id).collect();
    let acknowledge = async |up_to: i64| {
        let answer = victim.post("/alarms/ack", &json!({"up_to": up_to})).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{up_to}");
    };
    acknowledge(ids[0]).await;
    let mut silent = victim.socket().await;
    silent.answers_pings = false;
    assert_eq!(alarm_id(&silent.next().await), ids[1]);
    silent.close().await;
    // An id above the newest counts as the newest, and the cursor never goes back.
    for up_to in [i64::MAX, ids[0], 0] {
        acknowledge(up_to).await;
    }
    assert_eq!(victim.get("/alarms/unread").await.body["unread"], 2, "received, but not read");
    outbid_times(&node, 1).await;
    assert!(alarm_id(&victim.socket().await.next().await) > ids[1]);
    let node = node.restart();
    outbid_times(&node, 1).await;
    assert!(alarm_id(&node.user(2).socket().await.next().await) > ids[1], "it is on disk");
}

#[actix_web::test]
async fn a_session_that_skips_alarms_confirms_none_of_them() {
    let node = TestNode::start();
    outbid_times(&node, 2).await;
    let victim = node.user(2);
    let mut skipping = victim.socket_since(9_000_000).await;
    assert_eq!(skipping.next().await["response_type"], "hello");
    // A pong to whatever ping the server may send, and a request whose answer comes after the pong was processed.
    skipping.send(Message::Pong("2".into())).await;
    skipping.send_json(&json!({"type": "ping"})).await;
    while skipping.next().await["response_type"] != "pong" {}
    skipping.close().await;
    let mut old = victim.socket().await;
    assert_eq!([alarm_id(&old.expect_alarm("outbid").await), alarm_id(&old.expect_alarm("outbid").await)], [1, 2]);
}

#[actix_web::test]
async fn the_newest_hundred_alarms_are_replayed_and_the_rest_stays_in_the_inbox() {
    let node = TestNode::start();
    outbid_times(&node, 130).await;
    let victim = node.user(2);
    let ids: Vec<i64> = victim.inbox().await.iter().map(alarm_id).collect();
    assert_eq!(ids.len(), 130);
    let mut socket = victim.socket().await;
    for expected in &ids[30..] {
        assert_eq!(alarm_id(&socket.expect_alarm("outbid").await), *expected);
    }
}

#[actix_web::test]
async fn a_backlog_and_live_alarms_come_once_and_in_order() {
    let node = TestNode::start();
    outbid_times(&node, 450).await;
    let victim = node.user(2);
    let (live, before) = (outbid_times(&node, 100), victim.inbox().await.len());
    let reading = async {
        let mut socket = victim.socket_since(0).await;
        assert_eq!(socket.next().await["response_type"], "hello");
        let mut ids = Vec::new();
        while ids.len() < before + 100 {
            ids.push(alarm_id(&socket.next().await));
        }
        ids
    };
    let (ids, _) = futures_util::join!(reading, live);
    assert_eq!(ids, victim.inbox().await.iter().map(alarm_id).collect::<Vec<_>>());
}

#[actix_web::test]
async fn both_paths_are_one_endpoint_with_and_without_the_trailing_slash() {
    let node = TestNode::start();
    let victim = node.user(2);
    let mut sockets = Vec::new();
    for path in ["/ws/alram/", "/ws/alram", "/ws/alarms/", "/ws/alarms"] {
        sockets.push(Socket::open(&node.base(), path, &[], Some(victim.token())).await.unwrap());
    }
    outbid_times(&node, 1).await;
    for socket in &mut sockets {
        socket.expect_alarm("outbid").await;
    }
}

#[actix_web::test]
async fn a_socket_over_the_users_limit_closes_the_oldest_one() {
    let node = TestNode::with(|settings| settings.session.max_per_user = 2);
    let user = node.user(2);
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut socket = user.socket_since(0).await;
        socket.expect_frame("hello").await;
        open.push(socket);
    }
    let too_many = Closed { code: Some(4409), reason: "too many sockets of this user".to_owned() };
    for mut oldest in open.drain(..2) {
        assert_eq!(oldest.closed().await, too_many);
    }
    let mut evicted = 0;
    for admin in node.admins() {
        evicted += admin.get("/admin/health").await.body["checks"]["alarm_hub"]["evicted"].as_i64().unwrap();
    }
    assert_eq!(evicted, 2);
    outbid_times(&node, 1).await;
    for socket in &mut open {
        socket.expect_alarm("outbid").await;
    }
    // A closed socket leaves its place free: the next one closes no other.
    open.remove(1).close().await;
    let admins = node.admins();
    eventually("the place is free", || async { (session_figures(&admins).await["sessions"] == 1).then_some(()) }).await;
    user.socket_since(0).await.expect_frame("hello").await;
    open[0].send_json(&json!({"type": "ping"})).await;
    open[0].expect_frame("pong").await;
}

#[actix_web::test]
async fn a_node_refuses_sockets_over_its_limit() {
    // Each node has its own limit.
    let node = TestNode::alone(|settings| settings.session.max = 3);
    let _open = [node.user(2).socket().await, node.user(3).socket().await, node.user(4).socket().await];
    let path = format!("/ws/alarms/?token={}", node.user(5).token());
    assert_eq!(Socket::open(&node.base(), &path, &[], None).await.err(), Some(503));
}

#[actix_web::test]
async fn a_silent_client_is_closed_and_one_that_answers_stays() {
    let node = TestNode::with(|settings| {
        settings.session.heartbeat_s = 1;
        settings.session.timeout_s = 2;
    });
    let mut silent = node.user(2).socket().await;
    silent.answers_pings = false;
    let mut answering = node.user(3).socket().await;
    let staying = async {
        // Three answered heartbeats take longer than the timeout.
        for _ in 0..3 {
            let ping = answering.next_ping().await;
            answering.send(Message::Pong(ping.into())).await;
        }
        answering.send_json(&json!({"type": "ping"})).await;
        answering.next().await
    };
    let (closed, pong) = futures_util::join!(silent.closed(), staying);
    assert_eq!(closed.code, Some(4408));
    assert_eq!(pong["response_type"], "pong");
}

#[actix_web::test]
async fn a_node_that_stops_asks_its_sockets_to_come_back_later() {
    let mut node = TestNode::start();
    let mut sockets = Vec::new();
    for user in 2..22 {
        sockets.push(node.user(user).socket().await);
    }
    let stopping = std::thread::spawn(move || node.stop());
    let mut waits = Vec::new();
    for socket in &mut sockets {
        let closed = socket.closed().await;
        assert_eq!(closed.code, Some(1012));
        let reason: serde_json::Value = serde_json::from_str(&closed.reason).unwrap();
        waits.push(reason["retry_ms"].as_u64().unwrap());
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 10, "spread: {waits:?}");
    assert!(waits.iter().all(|wait| (1000..=6000).contains(wait)), "{waits:?}");
    stopping.join().unwrap();
}

/// The least delay that this node asks of its sockets when it stops.
async fn least_wait(mut node: TestNode) -> (TestNode, u64) {
    let mut sockets = Vec::new();
    for user in 2..52 {
        sockets.push(node.user(user).socket().await);
    }
    let stopping = std::thread::spawn(move || {
        node.stop();
        node
    });
    let mut least = u64::MAX;
    for socket in &mut sockets {
        let reason: serde_json::Value = serde_json::from_str(&socket.closed().await.reason).unwrap();
        least = least.min(reason["retry_ms"].as_u64().unwrap());
    }
    (stopping.join().unwrap(), least)
}

/// A node measures how long the last restart took and asks clients to stay away that long.
#[actix_web::test]
async fn after_a_slow_restart_clients_are_asked_to_stay_away_as_long() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::alone_with_time(time.clone(), |_| {});
    let (node, unknown) = least_wait(node).await;
    assert!((1000..2500).contains(&unknown), "{unknown}");
    time.advance_ms(9000);
    let (node, slow) = least_wait(node.restart()).await;
    assert!((9000..10_500).contains(&slow), "{slow}");
    time.advance_ms(1);
    let (node, quick) = least_wait(node.restart()).await;
    assert!((1000..2500).contains(&quick), "{quick}");
    // A pause this long was not a restart.
    time.advance_ms(3_600_000);
    let (_, long) = least_wait(node.restart()).await;
    assert!((1000..2500).contains(&long), "{long}");
}
