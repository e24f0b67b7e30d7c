//! Trade chats whose two sides are at different nodes.

use serde_json::json;

use crate::{
    clock::{SELLER, accepted, noon},
    nodes_alarms::{move_past_end, socket_since},
    support::{ManualTime, Nodes, can_run_several_nodes, eventually, trade_frame},
    trade_room::trade,
    trades::read_messages,
};

const BUYER: i64 = 2;

/// Two nodes, and goods that user 2 has bought from user 1.
async fn sold() -> (Nodes, i64) {
    let time = ManualTime::at(noon());
    let nodes = Nodes::with_time(2, time.clone(), |_| {}).await;
    let goods = nodes[0].goods(SELLER, 0, 60).await;
    accepted(&nodes[1].user(BUYER), goods, 7000).await;
    move_past_end(&nodes, &time, goods, noon().plus_ms(60_000)).await;
    (nodes, goods)
}

#[actix_web::test]
async fn trade_messages_go_from_node_to_node_and_are_read_on_an_open_socket() {
    if !can_run_several_nodes() {
        return;
    }
    let (nodes, goods) = sold().await;
    let (seller, buyer) = (nodes[0].user(SELLER), nodes[1].user(BUYER));
    let unread = buyer.get("/alarms/unread").await.body["last_id"].as_i64().unwrap();
    let mut alarms = [socket_since(&nodes[0].user(BUYER), unread).await, socket_since(&buyer, unread).await];
    let mut here = trade(&seller, goods).await;
    here.send_json(&trade_frame(goods, SELLER, "nobody there")).await;
    here.expect_frame("message").await;
    for socket in &mut alarms {
        assert_eq!(socket.expect_alarm("chat").await["message"], "nobody there");
    }
    assert_eq!(nodes[0].user(SELLER).get(&format!("/chat/goods/{goods}/")).await.body[0]["is_read"], false);

    let mut there = trade(&buyer, goods).await;
    let mut tab = trade(&nodes[0].user(BUYER), goods).await;
    for turn in 0..5 {
        let (own, other) = (format!("from here {turn}"), format!("from there {turn}"));
        here.send_json(&trade_frame(goods, SELLER, &own)).await;
        for socket in [&mut here, &mut there, &mut tab] {
            let received = socket.expect_frame("message").await;
            assert_eq!((&received["message"], &received["sender"]), (&json!(own), &json!(SELLER)));
        }
        there.send_json(&trade_frame(goods, BUYER, &other)).await;
        for socket in [&mut here, &mut there, &mut tab] {
            let received = socket.expect_frame("message").await;
            assert_eq!((&received["message"], &received["sender"]), (&json!(other), &json!(BUYER)));
        }
        for socket in &mut alarms {
            assert_eq!(socket.expect_alarm("chat").await["message"], own);
        }
    }
    let read = |talk: &[(String, bool)], at: usize| {
        talk.iter()
            .filter(|(text, is_read)| *is_read && text.starts_with(if at == 0 { "from there" } else { "from here" }))
            .count()
    };
    eventually("what was received is read", || async {
        // Each side asks about its own messages, since asking reads those of the other side.
        let path = format!("/chat/goods/{goods}/");
        let (of_seller, of_buyer) = (read_messages(&seller, &path).await, read_messages(&buyer, &path).await);
        (read(&of_seller, 1) == 5 && read(&of_buyer, 0) == 5).then_some(())
    })
    .await;
}

/// Written while the bus is down: both sides get each message once and in order.
#[actix_web::test]
async fn a_trade_chat_goes_on_while_redis_is_down() {
    if !can_run_several_nodes() {
        return;
    }
    let (mut nodes, goods) = sold().await;
    let mut here = trade(&nodes[0].user(SELLER), goods).await;
    let mut there = trade(&nodes[1].user(BUYER), goods).await;
    nodes.redis.kill();
    let said = |turn: usize| format!("line {turn}");
    for turn in 0..4 {
        here.send_json(&trade_frame(goods, SELLER, &said(turn))).await;
        assert_eq!(here.expect_frame("message").await["message"], said(turn));
    }
    for turn in 0..4 {
        assert_eq!(there.expect_frame("message").await["message"], said(turn));
    }
    nodes.redis.start_again();
    nodes.wait_for_bus_status("pass").await;
    there.send_json(&trade_frame(goods, BUYER, "back")).await;
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.expect_frame("message").await["message"], "back");
    }
}
