//! The auction room: who is there, what everybody gets, and what only the author of a refused frame gets.

use handsup::test_support::domain::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;

use super::support::{
    ManualTime, Socket, TestNode, bid_frame as bid, eventually, is_instant, keys, line_frame as line, without_time,
};

#[actix_web::test]
async fn everybody_gets_joins_and_leaves_visitors_too() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut visitor = node.visitor().room(goods).await;
    let mut a = node.user(2).room(goods).await;
    let entered = json!({
        "response_type": "enter", "sender": 2, "sender_name": "name2", "participants_count": 1, "user_id": 2,
    });
    assert_eq!(a.next().await, entered, "the user gets it too");
    assert_eq!(visitor.next().await, entered);
    let b = node.user(3).room(goods).await;
    for socket in [&mut visitor, &mut a] {
        let frame = socket.expect_frame("enter").await;
        assert_eq!((&frame["user_id"], &frame["participants_count"]), (&json!(3), &json!(2)));
    }
    let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    assert_eq!(page["participants_count"], 2);
    assert_eq!(page["participants"], json!([{"id": 2, "user": "name2"}, {"id": 3, "user": "name3"}]));
    b.close().await;
    let out = json!({"response_type": "out", "participants_count": 1, "user_id": 3});
    assert_eq!((a.next().await, visitor.next().await), (out.clone(), out));
    visitor.close().await;
    a.close().await;
    eventually("an empty room", || async {
        let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
        (page["participants"] == json!([]) && page["participants_count"] == 0).then_some(())
    })
    .await;
}

/// Fault 8: the origin counts tabs, and keeps users whom it forgets to remove.
#[actix_web::test]
async fn fault_8_two_tabs_are_one_participant_and_broken_connections_leave_no_ghost() {
    let node = TestNode::with_one_worker();
    let goods = node.live_goods(1).await;
    let mut visitor = node.visitor().room(goods).await;
    let first = node.user(2).room(goods).await;
    assert_eq!(visitor.expect_frame("enter").await["participants_count"], 1);
    let mut second = node.user(2).room(goods).await;
    first.close().await;
    // A third user joins: no frame about the second tab or the end of the first came before.
    let third = node.user(3).room(goods).await;
    for socket in [&mut visitor, &mut second] {
        let frame = socket.expect_frame("enter").await;
        assert_eq!((&frame["user_id"], &frame["participants_count"]), (&json!(3), &json!(2)));
    }
    // No close frame: the connection just ends.
    drop(second);
    assert_eq!(visitor.next().await, json!({"response_type": "out", "participants_count": 1, "user_id": 2}));
    drop(third);
    assert_eq!(visitor.next().await, json!({"response_type": "out", "participants_count": 0, "user_id": 3}));
}

#[actix_web::test]
async fn a_bid_over_http_or_a_socket_reaches_the_whole_room() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut visitor = node.visitor().room(goods).await;
    let mut a = node.user(2).room(goods).await;
    visitor.expect_frame("enter").await;
    a.expect_frame("enter").await;
    a.send_json(&bid(goods, 2, 5000)).await;
    let received = visitor.expect_frame("bid").await;
    assert_eq!(
        keys(&received),
        [
            "bid_id",
            "ends_at",
            "goods_id",
            "high_price",
            "response_type",
            "sender",
            "sender_image",
            "sender_name",
            "seq",
            "server_time",
        ]
    );
    assert_eq!(
        (
            &received["sender"],
            &received["sender_name"],
            &received["sender_image"],
            &received["goods_id"],
            &received["high_price"]
        ),
        (&json!(2), &json!("name2"), &json!("/media/default.jpeg"), &json!(goods), &json!(5000)),
    );
    let mut own = a.expect_frame("bid").await;
    assert!(is_instant(&own["server_time"]));
    // Each node sends its own time.
    own["server_time"] = received["server_time"].clone();
    assert_eq!(own, received, "the same for the bidder");
    let over_http = node.user(3).bid(goods, 6000).await;
    assert_eq!(over_http.status, 201);
    for socket in [&mut visitor, &mut a] {
        let received = socket.expect_frame("bid").await;
        assert_eq!((&received["seq"], &received["sender"]), (&json!(2), &json!(3)));
        assert_eq!(
            (&received["bid_id"], &received["ends_at"]),
            (&over_http.body["bid_id"], &over_http.body["ends_at"])
        );
    }
    // The received bids are the stored ones.
    let history = node.visitor().history(goods).await;
    assert_eq!(history.iter().map(|bid| bid["price"].as_i64().unwrap()).collect::<Vec<_>>(), [5000, 6000]);
    assert_eq!(node.user(2).inbox_kinds().await, [("outbid".to_owned(), goods)]);
    // A price may be a string of digits.
    a.send_json(&json!({"is_money": true, "message": "7000"})).await;
    assert_eq!(visitor.expect_frame("bid").await["high_price"], 7000);
}

/// Fault 6: the origin broadcasts a refused bid as a bid at the old price, and the bidder learns nothing.
#[actix_web::test]
async fn fault_6_a_refusal_goes_to_its_author_alone() {
    let node = TestNode::with_one_worker();
    let goods = node.live_goods(1).await;
    assert_eq!(node.user(3).bid(goods, 5000).await.status, 201);
    let mut other = node.user(3).room(goods).await;
    other.expect_frame("enter").await;
    node.wait_for_participants(goods, 1).await;
    let mut alarms = node.user(2).socket_since(0).await;
    alarms.expect_frame("hello").await;
    let mut a = node.user(2).room(goods).await;
    a.expect_frame("enter").await;
    other.expect_frame("enter").await;
    node.wait_for_participants(goods, 2).await;
    let mut tab = node.user(2).room(goods).await;
    a.send_json(&bid(goods, 2, 5000)).await;
    let alert = json!({
        "response_type": "alert", "message": "현재 입찰가보다 낮거나 종료된 경매입니다.",
        "code": "bid_too_low", "high_price": 5000,
    });
    assert_eq!(a.next().await, alert);
    assert_eq!(alarms.next().await, alert);
    let mut seller = node.user(1).room(goods).await;
    for socket in [&mut seller, &mut a, &mut tab, &mut other] {
        assert_eq!(socket.expect_frame("enter").await["user_id"], 1, "nobody else, and no other tab, got the refusal");
    }
    seller.send_json(&bid(goods, 1, 9000)).await;
    let alert = seller.next().await;
    assert_eq!(
        alert,
        json!({"response_type": "alert", "message": "주최자는 입찰을 못 합니다.", "code": "seller_cannot_bid"})
    );
    other.send_json(&bid(goods, 3, 6000)).await;
    for socket in [&mut seller, &mut a, &mut tab, &mut other] {
        assert_eq!(socket.expect_frame("bid").await["high_price"], 6000);
    }
    assert_eq!(node.visitor().history(goods).await.len(), 2);
}

#[actix_web::test]
async fn lines_are_stored_and_sent_unchanged() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut visitor = node.visitor().room(goods).await;
    let mut a = node.user(2).room(goods).await;
    a.expect_frame("enter").await;
    visitor.expect_frame("enter").await;
    let texts = ["안녕 <b>hi</b> \"q\"", &"가".repeat(100), "a\nb & c"];
    for text in texts {
        a.send_json(&line(goods, 2, text)).await;
        let received = visitor.expect_frame("message").await;
        assert_eq!(
            keys(&received),
            ["goods_id", "id", "message", "response_type", "sender", "sender_name", "time"],
            "a line has no picture"
        );
        assert_eq!(
            (&received["message"], &received["sender"], &received["sender_name"], &received["goods_id"]),
            (&json!(text), &json!(2), &json!("name2"), &json!(goods)),
        );
        let time = received["time"].as_str().unwrap();
        assert!(time.starts_with("오전 ") || time.starts_with("오후 "), "{time}");
        assert_eq!(a.expect_frame("message").await, received);
    }
    // Nobody got an alarm.
    assert_eq!(node.user(2).inbox().await.len() + node.user(1).inbox().await.len(), 0);
    a.send_json(&json!({"is_money": false, "message": "no ids"})).await;
    assert_eq!(visitor.expect_frame("message").await["message"], "no ids");
}

#[actix_web::test]
async fn the_start_and_the_end_are_sent_to_the_room() {
    let node = TestNode::start();
    let (sold, unsold) = (node.goods(1, 1500, 2).await, node.goods(1, 1500, 2).await);
    let mut room = node.visitor().room(sold).await;
    let mut empty = node.visitor().room(unsold).await;
    let mut a = node.user(2).room(sold).await;
    room.expect_frame("enter").await;
    a.expect_frame("enter").await;
    a.send_json(&bid(sold, 2, 1000)).await;
    assert_eq!(a.next().await["code"], "auction_not_started");
    assert_eq!(without_time(room.next().await), json!({"response_type": "started"}));
    assert_eq!(without_time(empty.next().await), json!({"response_type": "started"}));
    a.expect_frame("started").await;
    a.send_json(&bid(sold, 2, 1500)).await;
    assert_eq!(room.expect_frame("bid").await["seq"], 1);
    a.expect_frame("bid").await;
    let ended =
        json!({"response_type": "ended", "buyer_id": 2, "buyer_name": "name2", "high_price": 1500, "reason": "sold"});
    assert_eq!((without_time(room.next().await), without_time(a.next().await)), (ended.clone(), ended));
    let unsold =
        json!({"response_type": "ended", "buyer_id": null, "buyer_name": null, "high_price": 0, "reason": "no_bids"});
    assert_eq!(without_time(empty.next().await), unsold);
    a.send_json(&bid(sold, 2, 9000)).await;
    assert_eq!(a.next().await["code"], "auction_ended");
    // Lines are still allowed after the end.
    a.send_json(&line(sold, 2, "축하")).await;
    assert_eq!(room.expect_frame("message").await["message"], "축하");
}

#[actix_web::test]
async fn a_bid_in_the_soft_close_moves_the_end_and_the_room_gets_the_new_one() {
    let noon = Timestamp::parse_rfc3339("2026-11-22T03:00:00Z").unwrap();
    let time = ManualTime::at(noon);
    let node = TestNode::with_time(time.clone(), |settings| settings.auction.soft_close_s = 30);
    let goods = node.goods(1, 0, 120).await;
    let mut room = node.visitor().room(goods).await;
    // Before the last 30 seconds a bid does not move the end.
    time.advance_ms(89_000);
    let early = node.user(2).bid(goods, 1000).await.body;
    assert_eq!(early["ends_at"], "2026-11-22T03:02:00.000Z");
    let mut frame = room.next().await;
    if frame["response_type"] == "started" {
        frame = room.next().await;
    }
    assert_eq!((&frame["response_type"], &frame["ends_at"]), (&json!("bid"), &early["ends_at"]));
    time.advance_ms(21_000);
    let late = node.user(3).bid(goods, 2000).await.body;
    assert_eq!(late["ends_at"], "2026-11-22T03:02:20.000Z", "30 s after its arrival");
    assert_eq!(room.expect_frame("bid").await["ends_at"], late["ends_at"]);
    assert_eq!(without_time(room.next().await), json!({"response_type": "extended", "ends_at": late["ends_at"]}));
    assert_eq!(node.visitor().get(&format!("/goods/{goods}/")).await.body["ends_at"], late["ends_at"]);
    // At the old end it goes on, …
    time.set(noon.plus_ms(120_500));
    let last = node.user(2).bid(goods, 3000).await;
    assert_eq!((last.status, &last.body["ends_at"]), (201, &json!("2026-11-22T03:02:30.500Z")));
    room.expect_frame("bid").await;
    room.expect_frame("extended").await;
    // … and at the new one it ends.
    time.set(noon.plus_ms(150_500));
    let ended =
        json!({"response_type": "ended", "buyer_id": 2, "buyer_name": "name2", "high_price": 3000, "reason": "sold"});
    assert_eq!(without_time(room.next().await), ended);
}

#[actix_web::test]
async fn seqs_show_a_gap_that_can_be_fetched() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    for price in [1000, 2000, 3000] {
        assert_eq!(node.user(2).bid(goods, price).await.status, 201);
    }
    let mut late = node.visitor().room(goods).await;
    assert_eq!(node.user(3).bid(goods, 4000).await.status, 201);
    let seq = late.expect_frame("bid").await["seq"].as_i64().unwrap();
    assert_eq!(seq, 4, "the first frame after joining");
    let missed = node.visitor().get(&format!("/goods/{goods}/bids?after_seq=0&limit={}", seq - 1)).await.body;
    assert_eq!(missed["results"].as_array().unwrap().len(), 3);
}

#[actix_web::test]
async fn bids_over_many_sockets_reach_everybody_in_order() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut watchers = Vec::new();
    for _ in 0..4 {
        watchers.push(node.visitor().room(goods).await);
    }
    let bidders = (2..10).map(|user| {
        let client = node.user(user);
        async move {
            let mut socket: Socket = client.room(goods).await;
            for round in 0..20 {
                socket.send_json(&bid(goods, user, 1000 + round * 100 + user)).await;
            }
            socket
        }
    });
    let sockets = futures_util::future::join_all(bidders).await;
    let history = eventually("the last bid", || async {
        let history = node.visitor().history(goods).await;
        (history.last().is_some_and(|bid| bid["price"] == 1000 + 1900 + 9)).then_some(history)
    })
    .await;
    for watcher in &mut watchers {
        let mut received = Vec::new();
        while received.len() < history.len() {
            let frame = watcher.next().await;
            if frame["response_type"] == "bid" {
                received.push((frame["seq"].clone(), frame["high_price"].clone(), frame["sender"].clone()));
            }
        }
        let stored = history.iter().map(|bid| (bid["seq"].clone(), bid["price"].clone(), bid["user_id"].clone()));
        assert_eq!(received, stored.collect::<Vec<_>>(), "every bid once, in order");
    }
    drop(sockets);
}

#[actix_web::test]
async fn a_new_name_is_used_in_the_room_from_then_on() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut a = node.user(2).room(goods).await;
    assert_eq!(a.expect_frame("enter").await["sender_name"], "name2");
    let renamed = node.admin().put("/admin/users/2", &json!({"username": "새이름"})).await;
    assert_eq!(renamed.status, 200, "{}", renamed.text);
    let a = Mutex::new(a);
    let said = || async {
        let mut a = a.lock().await;
        a.send_json(&line(goods, 2, "hi")).await;
        (a.expect_frame("message").await["sender_name"] == "새이름").then_some(())
    };
    node.soon("the new name", said).await;
    let mut a = a.into_inner();
    a.send_json(&bid(goods, 2, 1000)).await;
    assert_eq!(a.expect_frame("bid").await["sender_name"], "새이름");
    // The page, too, has the current names of the participants.
    let named = || async {
        let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
        (page["participants"] == json!([{"id": 2, "user": "새이름"}])).then_some(())
    };
    node.soon("the new name on the page", named).await;
}

/// In a large room joins and leaves are gathered: a page must fit the frames that follow it.
#[actix_web::test]
async fn in_a_large_room_every_leave_is_of_a_user_on_the_page() {
    // A page fits the frames of the node that made it.
    let node = TestNode::alone(|_| {});
    let goods = node.live_goods(1).await;
    let mut watchers = Vec::new();
    for _ in 0..400 {
        watchers.push(node.visitor().room(goods).await);
    }
    // The gathered frames may be sent before the page is made; then the page is newer, and this round shows nothing.
    let mut shown = 0;
    for user in 100..150 {
        let leaves = node.user(user).room(goods).await;
        // The user's join has been sent; their leave is gathered when the newcomer is there.
        while watchers[0].next().await["user_id"] != user {}
        drop(leaves);
        let mut newcomer = node.user(3).room(goods).await;
        let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
        let mut there: Vec<i64> =
            page["participants"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect();
        let is_shown = there.contains(&user);
        shown += usize::from(is_shown);
        // The newcomer's own join is sent last, behind everything that was gathered before it.
        loop {
            let frame = newcomer.next().await;
            let id = frame["user_id"].as_i64();
            match frame["response_type"].as_str().unwrap() {
                "enter" if id == Some(3) => break,
                "enter" => there.push(id.unwrap()),
                "out" if id == Some(user) && !is_shown => {}
                "out" => {
                    let at = there.iter().position(|one| Some(*one) == id);
                    there.remove(at.unwrap_or_else(|| panic!("{frame} for somebody who was never there: {there:?}")));
                }
                _ => {}
            }
        }
        newcomer.close().await;
        eventually("an empty room", || async {
            let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
            (page["participants_count"] == 0).then_some(())
        })
        .await;
        if shown == 5 {
            return;
        }
    }
    panic!("no page shows a user whose leave is still pending: {shown}");
}

#[actix_web::test]
async fn deleting_goods_ends_their_room_and_leaves_nothing() {
    let node = TestNode::start();
    let goods = node.goods(1, 3_600_000, 60).await;
    let mut room = node.visitor().room(goods).await;
    let mut a = node.user(2).room(goods).await;
    assert_eq!(node.user(2).bid(goods, 1000).await.code(), "auction_not_started");
    assert_eq!(node.user(1).delete(&format!("/goods/{goods}/")).await.status, 204);
    assert_eq!((room.closed().await.code, a.closed().await.code), (Some(4404), Some(4404)));
    assert_eq!(node.user(2).try_room(goods).await.err(), Some(404));
    eventually("no such goods", || async { (node.user(2).bid(goods, 1000).await.status == 404).then_some(()) }).await;
    // Sockets that open while their goods are deleted close too, or do not open.
    for _ in 0..5 {
        let goods = node.goods(1, 3_600_000, 60).await;
        let (visitor, seller) = (node.visitor(), node.user(1));
        let path = format!("/goods/{goods}/");
        let (opened, deleted) = futures_util::join!(visitor.try_room(goods), seller.delete(&path));
        assert_eq!(deleted.status, 204);
        match opened {
            Ok(mut socket) => assert_eq!(socket.closed().await.code, Some(4404)),
            Err(status) => assert_eq!(status, 404),
        }
    }
}

#[actix_web::test]
async fn a_refused_user_has_no_room_socket_left_whenever_it_was_opened() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let admin = node.admin();
    for round in 0..10 {
        let user = node.user(100 + round);
        let mut open = user.room(goods).await;
        let (path, refuse) = (format!("/admin/users/{}", 100 + round), json!({"is_active": false}));
        let (opened, refused) = futures_util::join!(user.try_room(goods), admin.put(&path, &refuse));
        assert_eq!(refused.status, 200);
        assert_eq!(open.closed().await.code, Some(4401));
        match opened {
            Ok(mut socket) => assert_eq!(socket.closed().await.code, Some(4401)),
            Err(status) => assert_eq!(status, 401),
        }
    }
}
