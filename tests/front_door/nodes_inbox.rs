//! Inboxes over several nodes: receipts, reads and muted kinds that one node stores hold on all.

use serde_json::json;

use crate::{
    clock::{SELLER, accepted, noon},
    nodes_alarms::{socket_since, sockets_since},
    support::{
        Client, DEADLINE, ManualTime, Nodes, TestNode, bid_frame, can_run_several_nodes, claims, database, eventually,
        signed,
    },
};

/// User 2 is outbid at this node.
async fn outbid(node: &TestNode) -> i64 {
    let goods = node.live_goods(SELLER).await;
    accepted(&node.user(2), goods, 1000).await;
    accepted(&node.user(3), goods, 1001).await;
    goods
}

#[actix_web::test]
async fn an_alarm_received_at_one_node_is_not_replayed_at_another() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    for at in [0, 1, 0] {
        outbid(&nodes[at]).await;
    }
    let mut first = nodes[1].user(2).socket().await;
    let mut last = 0;
    for _ in 0..3 {
        last = first.expect_alarm("outbid").await["id"].as_i64().unwrap();
    }
    // Its pongs confirm receipt.
    first.next_ping().await;
    first.send_json(&json!({"type": "ack", "up_to": last})).await;
    let database = nodes.database();
    let received = format!("count(*) FROM users WHERE id = 2 AND received_up_to = {last}");
    eventually("the receipt is on disk", || async { (database::number(&database, &received) == 1).then_some(()) })
        .await;
    let mut second = nodes[0].user(2).socket().await;
    outbid(&nodes[1]).await;
    assert!(second.expect_alarm("outbid").await["id"].as_i64().unwrap() > last, "only what is new");
}

#[actix_web::test]
async fn an_outbid_superseded_at_another_node_is_not_replayed() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let [a, b] = [&nodes[0], &nodes[1]];
    let goods = outbid(a).await;
    accepted(&b.user(2), goods, 2000).await;
    let still = outbid(b).await;
    for node in nodes.iter() {
        let inbox = node.user(2).inbox().await;
        assert_eq!((&inbox[0]["superseded"], &inbox[0]["read"]), (&json!(true), &json!(true)));
        assert_eq!((inbox[1].get("superseded"), &inbox[1]["read"]), (None, &json!(false)));
        assert_eq!(node.user(2).socket().await.expect_alarm("outbid").await["goods_id"], still);
        let mut all = socket_since(&node.user(2), 0).await;
        assert_eq!(all.expect_alarm("outbid").await["superseded"], true);
        assert_eq!(all.expect_alarm("outbid").await["goods_id"], still);
    }
}

#[actix_web::test]
async fn a_kind_muted_at_one_node_is_sent_by_none() {
    if !can_run_several_nodes() {
        return;
    }
    let time = ManualTime::at(noon());
    let nodes = Nodes::with_time(2, time.clone(), |_| {}).await;
    let mut sockets = sockets_since(&nodes, 2, 0).await;
    let muted = nodes[0].user(2).put("/alarms/preferences", &json!({"muted": ["outbid"]})).await;
    assert_eq!(muted.status, 200);
    for at in [0, 1] {
        outbid(&nodes[at]).await;
        let goods = nodes[at].goods(2, 0, 60).await;
        accepted(&nodes[1 - at].user(3), goods, 1000).await;
        time.advance_ms(60_000);
        time.advance_ms(1500);
        for socket in &mut sockets {
            assert_eq!(socket.expect_alarm("auction_sold").await["goods_id"], goods);
        }
    }
    let unread = nodes[1].user(2).get("/alarms/unread").await.body;
    assert_eq!(unread["unread"], 2, "the muted ones count as read");
    assert_eq!(nodes[1].user(2).inbox().await.len(), 4);
}

#[actix_web::test]
async fn reading_at_one_node_is_sent_to_sessions_at_all_nodes() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(3).await;
    let mut sockets = sockets_since(&nodes, 2, 0).await;
    for at in 0..3 {
        outbid(&nodes[at]).await;
    }
    let mut ids = Vec::new();
    for socket in &mut sockets {
        ids.clear();
        for _ in 0..3 {
            ids.push(socket.expect_alarm("outbid").await["id"].as_i64().unwrap());
        }
    }
    sockets[2].send_json(&json!({"type": "read", "up_to": ids[0]})).await;
    let unread_frame = |unread: i64| json!({"response_type": "unread", "unread": unread, "last_id": ids[2]});
    for socket in &mut sockets {
        assert_eq!(socket.next().await, unread_frame(2));
    }
    let answer = nodes[1].user(2).post("/alarms/read", &json!({"ids": [ids[1]]})).await;
    assert_eq!(answer.body, json!({"unread": 1}));
    for socket in &mut sockets {
        assert_eq!(socket.next().await, unread_frame(1));
    }
}

#[actix_web::test]
async fn a_refusal_reaches_its_authors_alarm_sockets_on_all_nodes_and_nobody_else() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    accepted(&nodes[1].user(3), goods, 5000).await;
    let mut of_author = sockets_since(&nodes, 2, 0).await;
    let mut of_other = sockets_since(&nodes, 3, 0).await;
    let mut room = nodes[0].user(2).room(goods).await;
    room.expect_frame("enter").await;
    room.send_json(&bid_frame(goods, 2, 5000)).await;
    let alert = room.expect_frame("alert").await;
    assert_eq!((&alert["code"], &alert["high_price"]), (&json!("bid_too_low"), &json!(5000)));
    for socket in &mut of_author {
        assert_eq!(socket.next().await, alert);
    }
    accepted(&nodes[0].user(2), goods, 6000).await;
    for socket in &mut of_other {
        assert_eq!(socket.next().await["kind"], "outbid", "the first frame at the other node");
    }
    assert_eq!(room.expect_frame("bid").await["high_price"], 6000);
}

#[actix_web::test]
async fn a_name_changed_at_one_node_is_the_name_at_all() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut room = nodes[1].visitor().room(goods).await;
    // An earlier token: one of this second would set the old name again.
    let now = nodes[1].now();
    let earlier = json!({"iat": now.secs() - 60, "username": "name2"});
    let bidder = Client::new(nodes[1].base(), Some(signed(&claims(&json!(2), now, &earlier))));
    accepted(&bidder, goods, 1000).await;
    assert_eq!(room.expect_frame("bid").await["sender_name"], "name2");
    let renamed = nodes[0].admin().put("/admin/users/2", &json!({"username": "새이름"})).await;
    assert_eq!(renamed.status, 200);
    let give_up = std::time::Instant::now() + DEADLINE;
    for price in 2000.. {
        accepted(&bidder, goods, price).await;
        let frame = room.expect_frame("bid").await;
        assert_eq!(frame["sender"], 2);
        if frame["sender_name"] == "새이름" {
            return;
        }
        assert!(std::time::Instant::now() < give_up, "{frame}");
    }
}
