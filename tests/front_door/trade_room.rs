//! The trade chat: for seller and buyer of sold goods and nobody else. No message is lost.

use futures_util::future::join_all;
use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::{Value, json};

use crate::support::{
    Client, ManualTime, Process, Socket, TestNode, count, eventually, goods_body, keys, line_frame, noon_in_seoul,
    session_figures, sold_goods, trade_frame, wait_for_end,
};

const SELLER: i64 = 1;
const BUYER: i64 = 2;

/// Goods that user 2 has bought from user 1, on a node with one worker: see [`TestNode::with_one_worker`].
async fn sold() -> (i64, TestNode) {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |settings| settings.server.workers = Some(1));
    (sold_goods(&node, &time).await, node)
}

/// A trade socket after its `goods_info`.
pub async fn trade(client: &Client, goods: i64) -> Socket {
    let mut socket = client.try_trade(goods).await.expect("a socket");
    socket.expect_frame("goods_info").await;
    socket
}

/// A user's alarm socket, which gets only new alarms.
async fn alarms(client: &Client) -> Socket {
    let last = client.get("/alarms/unread").await.body["last_id"].as_i64().unwrap();
    let mut socket = client.socket_since(last).await;
    socket.expect_frame("hello").await;
    socket
}

/// The chat alarms of a user's inbox.
async fn chat_alarms(client: &Client) -> Vec<Value> {
    client.inbox().await.into_iter().filter(|alarm| alarm["kind"] == "chat").collect()
}

/// Fault 13: in the origin anybody reads and writes in any trade chat.
#[actix_web::test]
async fn fault_13_only_seller_and_buyer_of_sold_goods_have_a_trade_chat() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |_| {});
    let scheduled = node.goods(SELLER, 3_600_000, 60).await;
    let live = node.goods(SELLER, 0, 7200).await;
    assert_eq!(node.user(BUYER).bid(live, 1000).await.status, 201);
    let unsold = node.goods(SELLER, 0, 30).await;
    let sold = node.goods(SELLER, 0, 60).await;
    assert_eq!(node.user(3).bid(sold, 1000).await.status, 201);
    assert_eq!(node.user(BUYER).bid(sold, 7000).await.status, 201);
    time.advance_ms(60_000);
    wait_for_end(&node, sold).await;
    wait_for_end(&node, unsold).await;
    let open = async |user: i64, goods: i64| node.user(user).try_trade(goods).await.err();
    for user in [SELLER, BUYER, 3] {
        assert_eq!(open(user, scheduled).await, Some(403), "before the start");
        assert_eq!(open(user, live).await, Some(403), "before the end, the leader too");
        assert_eq!(open(user, unsold).await, Some(403), "nobody bought them");
        assert_eq!(open(user, 999).await, Some(404));
    }
    assert_eq!(open(3, sold).await, Some(403), "who was outbid");
    assert_eq!(open(4, sold).await, Some(403), "who has nothing to do with it");
    assert_eq!(node.admin().try_trade(sold).await.err(), Some(403), "an admin is no trader");
    assert_eq!(node.visitor().try_trade(sold).await.err(), Some(401));
    assert_eq!(open(SELLER, sold).await, None);
    assert_eq!(open(BUYER, sold).await, None);
    // Making goods with a trade room in the body opens no trade chat.
    let own = json!({
        "starts_at": node.now(), "trade_room": 1, "trade_room_id": 1, "status": false, "buyer": 4, "high_price": 9000,
    });
    let made = node.user(4).post("/goods/", &goods_body(&own)).await;
    assert_eq!(open(4, made.body["id"].as_i64().unwrap()).await, Some(403));
}

/// Fault 13, the other way in: a line in the auction room of sold goods is not a trade message.
#[actix_web::test]
async fn fault_13_the_auction_room_of_sold_goods_gives_no_access() {
    let (goods, node) = sold().await;
    let mut seller = trade(&node.user(SELLER), goods).await;
    let mut stranger = node.user(3).room(goods).await;
    stranger.expect_frame("enter").await;
    stranger.send_json(&line_frame(goods, 3, "as a line")).await;
    stranger.expect_frame("message").await;
    stranger.send_json(&trade_frame(goods, 3, "as a trade message")).await;
    assert_eq!(stranger.expect_frame("alert").await["code"], "invalid_body");
    seller.send_json(&trade_frame(goods, SELLER, "hi")).await;
    assert_eq!(seller.next().await["message"], "hi", "the first frame here");
    stranger.send_json(&line_frame(goods, 3, "another line")).await;
    assert_eq!(stranger.expect_frame("message").await["message"], "another line", "and it does not arrive there");
    assert_eq!(count(&node.database(), "trade_messages"), 1);
}

#[actix_web::test]
async fn goods_info_comes_first_and_to_the_new_socket_alone() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |_| {});
    let plain = sold_goods(&node, &time).await;
    let own = json!({
        "starts_at": node.now(), "duration_s": 60, "title": "<b>카메라</b> & 렌즈",
        "images": ["/media/goods/a.png", "/media/goods/b.png"],
    });
    let made = node.user(SELLER).post("/goods/", &goods_body(&own)).await;
    let pictured = made.body["id"].as_i64().expect("goods");
    assert_eq!(node.user(BUYER).bid(pictured, 9000).await.status, 201);
    time.advance_ms(60_000);
    wait_for_end(&node, pictured).await;
    let mut first = node.user(SELLER).try_trade(plain).await.unwrap();
    let info = json!({
        "response_type": "goods_info", "image": null, "high_price": 7000, "title": "camera", "goods_id": plain,
    });
    assert_eq!(first.next().await, info);
    let mut tab = node.user(SELLER).try_trade(plain).await.unwrap();
    let mut buyer = node.user(BUYER).try_trade(plain).await.unwrap();
    for socket in [&mut tab, &mut buyer] {
        assert_eq!(socket.next().await, info);
    }
    drop(tab);
    buyer.send_json(&trade_frame(plain, BUYER, "hi")).await;
    for socket in [&mut first, &mut buyer] {
        assert_eq!(socket.next().await["response_type"], "message", "no comings, goings or infos of others");
    }
    let info = json!({
        "response_type": "goods_info", "image": "/media/goods/a.png", "high_price": 9000,
        "title": "<b>카메라</b> & 렌즈", "goods_id": pictured,
    });
    assert_eq!(node.user(BUYER).try_trade(pictured).await.unwrap().next().await, info);
}

#[actix_web::test]
async fn a_message_reaches_all_sockets_of_both_sides_and_its_alarm_only_the_other_side() {
    let (goods, node) = sold().await;
    let (seller, buyer) = (node.user(SELLER), node.user(BUYER));
    assert_eq!(node.admin().put("/admin/users/2", &json!({"profile_image": "/media/p/2.png"})).await.status, 200);
    let mut sockets = [
        trade(&buyer, goods).await,
        trade(&buyer, goods).await,
        trade(&seller, goods).await,
        trade(&seller, goods).await,
    ];
    let mut of_seller = [alarms(&seller).await, alarms(&seller).await];
    let mut of_buyer = alarms(&buyer).await;
    sockets[0].send_json(&trade_frame(goods, BUYER, "직거래 <b>가능?</b>")).await;
    for socket in &mut sockets {
        let received = socket.next().await;
        assert_eq!(
            keys(&received),
            ["goods_id", "message", "response_type", "sender", "sender_image", "sender_name", "time"]
        );
        let expected = json!({
            "response_type": "message", "message": "직거래 <b>가능?</b>", "sender": BUYER,
            "sender_image": "/media/p/2.png", "sender_name": "name2", "goods_id": goods, "time": "오후 12:01",
        });
        assert_eq!(received, expected);
    }
    let alarm = of_seller[0].next().await;
    assert_eq!(
        keys(&alarm),
        ["created_at", "goods_id", "goods_title", "id", "kind", "message", "response_type", "sender", "sender_name"]
    );
    assert_eq!(of_seller[1].next().await, alarm, "every tab");
    let expected = json!({
        "response_type": "chat_alram", "id": alarm["id"], "kind": "chat", "message": "직거래 <b>가능?</b>",
        "goods_id": goods, "goods_title": "camera", "created_at": "2026-11-22T03:01:00.000Z", "sender": BUYER,
        "sender_name": "name2",
    });
    assert_eq!(alarm, expected);
    let mut listed = alarm;
    listed["read"] = json!(false);
    assert_eq!(chat_alarms(&seller).await, [listed]);
    // The other direction; ids as strings, or missing.
    for (nth, frame) in [
        json!({"user_id": SELLER.to_string(), "goods_id": goods.to_string(), "message": "네"}),
        json!({"message": "네"}),
        json!({"user_id": SELLER, "goods_id": goods, "message": "네", "is_money": "whatever", "sender": 3}),
    ]
    .iter()
    .enumerate()
    {
        sockets[2].send_json(frame).await;
        for socket in &mut sockets {
            let received = socket.next().await;
            assert_eq!((&received["sender"], &received["goods_id"]), (&json!(SELLER), &json!(goods)), "ints");
            assert_eq!(
                (&received["message"], &received["sender_image"]),
                (&json!("네"), &json!("/media/default.jpeg"))
            );
        }
        assert_eq!(of_buyer.expect_alarm("chat").await["sender"], SELLER, "the first alarm of the buyer");
        assert_eq!(chat_alarms(&buyer).await.len(), nth + 1);
    }
    assert_eq!(chat_alarms(&seller).await.len(), 1, "no alarm of their own message");
    assert_eq!(count(&node.database(), "trade_messages"), 4);
}

#[actix_web::test]
async fn a_chat_alarm_waits_for_an_offline_user_and_can_be_muted() {
    let (goods, node) = sold().await;
    let (seller, buyer) = (node.user(SELLER), node.user(BUYER));
    let mut socket = trade(&buyer, goods).await;
    let from = seller.get("/alarms/unread").await.body["last_id"].as_i64().unwrap();
    for text in ["one", "two"] {
        socket.send_json(&trade_frame(goods, BUYER, text)).await;
        socket.expect_frame("message").await;
    }
    let mut later = seller.socket_since(from).await;
    later.expect_frame("hello").await;
    assert_eq!(later.expect_alarm("chat").await["message"], "one");
    assert_eq!(later.expect_alarm("chat").await["message"], "two");
    let mut existing_client = seller.socket().await;
    assert_eq!(existing_client.expect_alarm("auction_sold").await["goods_id"], goods);
    assert_eq!(existing_client.expect_alarm("chat").await["message"], "one");
    // Muted: the alarm is stored as read, listed and not sent. The message itself is sent as ever.
    assert_eq!(seller.put("/alarms/preferences", &json!({"muted": ["chat"]})).await.status, 200);
    let mut of_seller = trade(&seller, goods).await;
    socket.send_json(&trade_frame(goods, BUYER, "three")).await;
    assert_eq!(of_seller.expect_frame("message").await["message"], "three");
    assert_eq!(seller.put("/alarms/preferences", &json!({"muted": []})).await.status, 200);
    socket.send_json(&trade_frame(goods, BUYER, "four")).await;
    assert_eq!(later.expect_alarm("chat").await["message"], "four");
    let stored: Vec<(Value, Value)> =
        chat_alarms(&seller).await.iter().map(|alarm| (alarm["message"].clone(), alarm["read"].clone())).collect();
    let expected = [("one", false), ("two", false), ("three", true), ("four", false)];
    assert_eq!(stored, expected.map(|(text, read)| (json!(text), json!(read))));
}

/// The existing client shows every frame of this socket as a message.
#[actix_web::test]
async fn refusals_go_to_the_authors_alarm_sockets_and_nowhere_else() {
    let (goods, node) = sold().await;
    let other = node.live_goods(SELLER).await;
    let (seller, buyer) = (node.user(SELLER), node.user(BUYER));
    let mut sockets = [trade(&buyer, goods).await, trade(&buyer, goods).await, trade(&seller, goods).await];
    let mut of_buyer = [alarms(&buyer).await, alarms(&buyer).await];
    let mut of_seller = alarms(&seller).await;
    let with = |field: &str, value: Value| {
        let mut frame = json!({"message": "hi"});
        frame[field] = value;
        frame.to_string()
    };
    let deep = format!("{{\"message\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let refused = [
        (with("user_id", json!(SELLER)), "forbidden"),
        (with("user_id", json!("1")), "forbidden"),
        (with("user_id", json!(3)), "forbidden"),
        (with("goods_id", json!(other)), "forbidden"),
        (with("goods_id", json!("999")), "forbidden"),
        (with("user_id", json!(null)), "invalid_value"),
        (with("user_id", json!([2])), "invalid_value"),
        (with("goods_id", json!(1.5)), "invalid_value"),
        (trade_frame(goods, BUYER, "").to_string(), "invalid_value"),
        (trade_frame(goods, BUYER, &"a".repeat(501)).to_string(), "invalid_value"),
        (trade_frame(goods, BUYER, &"가".repeat(501)).to_string(), "invalid_value"),
        (trade_frame(goods, BUYER, &"👍".repeat(501)).to_string(), "invalid_value"),
        (trade_frame(goods, BUYER, "a\0b").to_string(), "invalid_value"),
        ("{\"message\":null}".to_owned(), "invalid_value"),
        ("{\"message\":5}".to_owned(), "invalid_value"),
        ("{\"message\":1e999}".to_owned(), "invalid_value"),
        ("{\"message\":[\"hi\"]}".to_owned(), "invalid_value"),
        (deep, "invalid_value"),
        ("{}".to_owned(), "invalid_body"),
        ("{\"message\":\"a\",\"message\":\"b\"}".to_owned(), "invalid_body"),
        ("[\"hi\"]".to_owned(), "invalid_body"),
        ("\"hi\"".to_owned(), "invalid_body"),
        ("null".to_owned(), "invalid_body"),
        ("5".to_owned(), "invalid_body"),
    ];
    for (text, code) in &refused {
        sockets[0].send_text(text).await;
        let expected = json!({"response_type": "alert", "message": "올바르지 않은 접근", "code": code});
        for socket in &mut of_buyer {
            assert_eq!(socket.next().await, expected, "{text:.100}");
        }
    }
    assert_eq!(count(&node.database(), "trade_messages"), 0);
    assert_eq!((chat_alarms(&seller).await, chat_alarms(&buyer).await), (vec![], vec![]));
    for good in ["a", "가", "👍"] {
        for times in [1, 500] {
            let text = good.repeat(times);
            sockets[0].send_json(&trade_frame(goods, BUYER, &text)).await;
            for socket in &mut sockets {
                assert_eq!(socket.expect_frame("message").await["message"], text, "the first that comes here");
            }
            assert_eq!(of_seller.expect_alarm("chat").await["message"], text, "whole, in the alarm too");
        }
    }
}

/// The number of read messages of users 1 and 2 that match.
fn read(node: &TestNode, what: &str) -> i64 {
    count(&node.database(), &format!("trade_messages WHERE is_read AND {what}"))
}

#[actix_web::test]
async fn only_messages_sent_to_an_open_socket_of_the_other_side_are_read() {
    let (goods, node) = sold().await;
    let (seller, buyer) = (node.user(SELLER), node.user(BUYER));
    let mut of_buyer = trade(&buyer, goods).await;
    let mut tab = trade(&buyer, goods).await;
    for text in ["before 1", "before 2"] {
        of_buyer.send_json(&trade_frame(goods, BUYER, text)).await;
        of_buyer.expect_frame("message").await;
        tab.expect_frame("message").await;
    }
    // The author's other tab is not the other side, nor is the seller elsewhere.
    let mut of_seller = trade(&seller, goods).await;
    of_seller.send_json(&trade_frame(goods, SELLER, "to the buyer")).await;
    eventually("it is read", || async { (read(&node, "content = 'to the buyer'") == 1).then_some(()) }).await;
    of_buyer.send_json(&trade_frame(goods, BUYER, "to the seller")).await;
    eventually("it is read", || async { (read(&node, "content = 'to the seller'") == 1).then_some(()) }).await;
    assert_eq!(read(&node, "content LIKE 'before%'"), 0, "the seller has not seen these");
    of_seller.close().await;
    let admins = node.admins();
    let in_rooms = || async { (session_figures(&admins).await["in_rooms"] == 2).then_some(()) };
    eventually("the seller is gone", in_rooms).await;
    of_buyer.send_json(&trade_frame(goods, BUYER, "after")).await;
    for _ in 0..3 {
        tab.expect_frame("message").await;
    }
    // A later message that is read shows that no read is pending for the earlier ones.
    let mut of_seller = trade(&seller, goods).await;
    of_buyer.send_json(&trade_frame(goods, BUYER, "seen again")).await;
    assert_eq!(of_seller.expect_frame("message").await["message"], "seen again");
    eventually("it is read", || async { (read(&node, "content = 'seen again'") == 1).then_some(()) }).await;
    assert_eq!(read(&node, "1 = 1"), 3);
    assert_eq!(chat_alarms(&seller).await.len(), 5, "the alarm is sent in any case");
}

/// Reads are stored in batches. A socket that ends between two of them has still shown its last messages.
#[actix_web::test]
async fn messages_sent_to_a_socket_just_before_its_end_are_read() {
    let (goods, node) = sold().await;
    let (seller, buyer) = (node.user(SELLER), node.user(BUYER));
    let mut of_buyer = trade(&buyer, goods).await;
    for round in 1..=5 {
        let mut of_seller = trade(&seller, goods).await;
        for _ in 0..4 {
            of_buyer.send_json(&trade_frame(goods, BUYER, "hi")).await;
            assert_eq!(of_seller.expect_frame("message").await["message"], "hi");
        }
        drop(of_seller);
        let all = round * 4;
        eventually("all are read", || async { (read(&node, "1 = 1") == all).then_some(()) }).await;
    }
}

#[actix_web::test]
async fn both_sides_at_once_see_the_same_conversation() {
    const EACH: usize = 50;
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = sold_goods(&node, &time).await;
    let mut sockets = Vec::new();
    for user in [SELLER, BUYER, SELLER, BUYER] {
        sockets.push((user, trade(&node.user(user), goods).await));
    }
    let talking = sockets.iter_mut().map(|(user, socket)| async move {
        for nth in 0..EACH {
            socket.send_json(&trade_frame(goods, *user, &nth.to_string())).await;
        }
        let mut received = Vec::new();
        while received.len() < 4 * EACH {
            let frame = socket.expect_frame("message").await;
            received.push((frame["sender"].clone(), frame["message"].clone()));
        }
        received
    });
    let mut received = join_all(talking).await;
    if node.nodes() > 1 {
        // A node's own messages are shown there at once, before those that come from other nodes.
        for one in &mut received {
            one.sort_by_key(|(sender, message)| (sender.as_i64(), message.as_str().map(str::to_owned)));
        }
    }
    assert!(received.iter().all(|one| *one == received[0]), "everybody gets the same, in the same order");
    for user in [SELLER, BUYER] {
        assert_eq!(chat_alarms(&node.user(user)).await.len(), 2 * EACH);
    }
    eventually("all is read", || async { (read(&node, "1 = 1") == 4 * EACH as i64).then_some(()) }).await;
}

#[actix_web::test]
async fn a_message_that_was_seen_before_a_kill_is_stored_with_its_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("x.db");
    let mut process = Process::start_with(&database, &[("limits.lines_per_second", "10000")]);
    let seller = process.user(SELLER);
    let own = json!({"starts_at": SystemTime.now(), "duration_s": 1});
    let goods = seller.post("/goods/", &goods_body(&own)).await.body["id"].as_i64().unwrap();
    assert_eq!(process.user(BUYER).bid(goods, 1000).await.status, 201);
    let mut seen = Vec::new();
    for round in 0..3 {
        let (seller, buyer) = (process.user(SELLER), process.user(BUYER));
        let open = || async { seller.try_trade(goods).await.ok() };
        let mut of_seller = eventually("the end", open).await;
        of_seller.expect_frame("goods_info").await;
        let mut of_buyer = trade(&buyer, goods).await;
        for nth in 0..20 {
            of_buyer.send_json(&trade_frame(goods, BUYER, &format!("{round}.{nth}"))).await;
        }
        // Killed in the middle of them: as soon as the last of these is seen.
        for _ in 0..=round * 5 {
            seen.push(of_seller.expect_frame("message").await["message"].as_str().unwrap().to_owned());
        }
        process.kill();
        for frame in of_seller.until_gone().await {
            seen.push(frame["message"].as_str().unwrap().to_owned());
        }
        process = Process::start_with(&database, &[("limits.lines_per_second", "10000")]);
        let alarms = chat_alarms(&process.user(SELLER)).await;
        assert_eq!(count(&database, "trade_messages"), alarms.len() as i64, "each with its alarm");
        let stored: Vec<&str> = alarms.iter().map(|alarm| alarm["message"].as_str().unwrap()).collect();
        let mut rest = stored.iter();
        assert!(seen.iter().all(|text| rest.any(|stored| stored == text)), "{seen:?} in {stored:?}");
    }
}
