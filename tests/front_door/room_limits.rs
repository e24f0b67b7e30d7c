//! What closes a socket of a room or refuses it, and the rates of bids and lines there.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{
    Closed, DEADLINE, ManualTime, Socket, TestNode, bid_frame, claims, count, eventually, line_frame, noon_in_seoul,
    session_figures, signed, sold_goods, stalled_room_socket, trade_frame,
};

/// How many may pass since `begun` at this rate: a burst of twice the rate, and what is refilled meanwhile.
fn at_most(rate: u32, begun: Instant) -> usize {
    2 * rate as usize + 1 + (begun.elapsed().as_secs_f64() * f64::from(rate)) as usize
}

/// Reads so many frames; returns how many were of this type. Asserts that the others are alerts of the rate.
async fn passed(socket: &mut Socket, frames: usize, response_type: &str) -> usize {
    let mut passed = 0;
    for _ in 0..frames {
        let frame = socket.next().await;
        if frame["response_type"] == response_type {
            passed += 1;
        } else {
            let alert = json!({
                "response_type": "alert", "message": "너무 빨라요. 잠시 후 다시 시도해 주세요.",
                "code": "too_many_requests",
            });
            assert_eq!(frame, alert);
        }
    }
    passed
}

#[actix_web::test]
async fn lines_have_a_rate_per_user_and_a_user_over_it_stays() {
    // Each node has its own rates.
    let node = TestNode::alone(|settings| {
        settings.limits.lines_per_second = 5;
        settings.server.workers = Some(1);
    });
    let goods = node.live_goods(1).await;
    let mut witness = node.visitor().room(goods).await;
    let mut a = node.user(2).room(goods).await;
    a.expect_frame("enter").await;
    witness.expect_frame("enter").await;
    let mut alarms = node.user(2).socket_since(0).await;
    alarms.expect_frame("hello").await;
    let mut tab = node.user(2).room(goods).await;
    let begun = Instant::now();
    for nth in 0..10 {
        a.send_json(&line_frame(goods, 2, &nth.to_string())).await;
    }
    for nth in 0..10 {
        assert_eq!(a.expect_frame("message").await["message"], nth.to_string(), "a burst of twice the rate passes");
    }
    for nth in 10..30 {
        a.send_json(&line_frame(goods, 2, &nth.to_string())).await;
    }
    let more = passed(&mut a, 20, "message").await;
    assert!(10 + more <= at_most(5, begun), "{more} more passed");
    assert_eq!(alarms.expect_frame("alert").await["code"], "too_many_requests");
    // The user's bids, and other users, have rates of their own; the user's other tab shares this one.
    a.send_json(&bid_frame(goods, 2, 1000)).await;
    assert_eq!(a.expect_frame("bid").await["seq"], 1);
    let mut third = node.user(3).room(goods).await;
    third.expect_frame("enter").await;
    third.send_json(&line_frame(goods, 3, "hi")).await;
    assert_eq!(third.expect_frame("message").await["message"], "hi");
    for _ in 0..15 {
        tab.send_json(&line_frame(goods, 2, "tab")).await;
    }
    let refused = async {
        loop {
            if tab.next().await["code"] == "too_many_requests" {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("an alert");
    // Soon the user may write again on the same socket. The attempts are slow enough to be no flood.
    let again = async {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            a.send_json(&line_frame(goods, 2, "again")).await;
            loop {
                let frame = a.next().await;
                if frame["message"] == "again" {
                    return;
                }
                if frame["code"] == "too_many_requests" {
                    break;
                }
            }
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("a line that passes");
}

#[actix_web::test]
async fn bids_have_one_rate_over_http_and_sockets() {
    // Each node has its own rates.
    let node = TestNode::alone(|settings| {
        settings.limits.bids_per_second = 2;
        settings.server.workers = Some(1);
    });
    let goods = node.live_goods(1).await;
    let (by_socket, by_http) = (node.user(2), node.user(3));
    let mut a = by_socket.room(goods).await;
    a.expect_frame("enter").await;
    let begun = Instant::now();
    for nth in 0..4 {
        a.send_json(&bid_frame(goods, 2, 1000 + nth)).await;
        assert_eq!(a.expect_frame("bid").await["seq"], nth + 1);
    }
    let mut more = 0;
    let refused = loop {
        let answer = by_socket.bid(goods, 2000 + more).await;
        if answer.status != 201 {
            break answer;
        }
        more += 1;
    };
    assert_eq!((refused.status, refused.code()), (429, "too_many_requests"));
    assert!(4 + more as usize <= at_most(2, begun), "{more} more over HTTP");
    // The same the other way round. Invalid bids count too.
    let mut b = by_http.room(goods).await;
    b.expect_frame("enter").await;
    let begun = Instant::now();
    for nth in 0..4 {
        assert_eq!(by_http.bid(goods, 3000 + nth).await.status, 201);
        b.expect_frame("bid").await;
    }
    for sent in 0.. {
        assert!(sent <= at_most(2, begun), "no alert");
        b.send_json(&json!({"is_money": true, "message": null})).await;
        let code = b.expect_frame("alert").await["code"].clone();
        if code == "too_many_requests" {
            break;
        }
        assert_eq!(code, "invalid_value");
    }
    // Lines have another rate.
    b.send_json(&line_frame(goods, 3, "hi")).await;
    assert_eq!(b.expect_frame("message").await["message"], "hi");
}

#[actix_web::test]
async fn a_user_who_floods_a_room_is_closed_with_4429_and_nobody_else() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |settings| {
        settings.limits.lines_per_second = 2;
        settings.limits.bids_per_second = 2;
    });
    let sold = sold_goods(&node, &time).await;
    let goods = node.live_goods(1).await;
    let mut witness = node.visitor().room(goods).await;
    let closed = Closed { code: Some(4429), reason: "too many messages".to_owned() };
    let mut flooders = Vec::new();
    for user in [5, 6, 7] {
        flooders.push((user, node.user(user).room(goods).await));
        assert_eq!(witness.expect_frame("enter").await["user_id"], user);
    }
    let frames = [line_frame(goods, 5, "x"), bid_frame(goods, 6, 1), json!([])];
    for ((_, socket), frame) in flooders.iter_mut().zip(frames) {
        // More than twice five times the rate, at once.
        for _ in 0..30 {
            socket.try_send_json(&frame).await;
        }
    }
    for (user, mut socket) in flooders {
        assert_eq!(socket.closed().await, closed, "user {user}");
    }
    let mut trader = node.user(2).try_trade(sold).await.unwrap();
    for _ in 0..30 {
        trader.try_send_json(&trade_frame(sold, 2, "x")).await;
    }
    assert_eq!(trader.close_code().await, 4429);
    let mut outs = Vec::new();
    let mut lines = 0;
    // Lines from before the flood are stored and sent, perhaps after the user has left.
    while outs.len() < 3 || lines < 4 {
        let frame = witness.next().await;
        match frame["response_type"].as_str().unwrap() {
            "out" => outs.push(frame["user_id"].as_i64().unwrap()),
            "message" => lines += 1,
            _ => panic!("{frame}"),
        }
    }
    outs.sort_unstable();
    assert_eq!(outs, [5, 6, 7]);
    assert!(count(&node.database(), "trade_messages") <= 8);
    // A flood from a visitor. The witness has the same address; its socket stays open as long as it sends nothing.
    let mut visitor = node.visitor().room(goods).await;
    for _ in 0..30 {
        visitor.try_send_json(&json!({})).await;
    }
    assert_eq!(visitor.close_code().await, 4429);
    assert_eq!(node.user(8).bid(goods, 1000).await.status, 201);
    let mut frame = witness.next().await;
    while frame["response_type"] == "message" {
        lines += 1;
        frame = witness.next().await;
    }
    assert_eq!((&frame["response_type"], &frame["sender"]), (&json!("bid"), &json!(8)));
    assert!((4..=8).contains(&lines), "{lines} lines passed");
}

#[actix_web::test]
async fn sockets_of_all_kinds_count_together_and_the_oldest_leaves_its_room() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |settings| {
        settings.session.max_per_user = 3;
        settings.server.workers = Some(1);
    });
    let sold = sold_goods(&node, &time).await;
    let (first, second) = (node.live_goods(1).await, node.live_goods(1).await);
    let user = node.user(2);
    let mut alarms = user.socket_since(0).await;
    alarms.expect_frame("hello").await;
    alarms.expect_alarm("auction_won").await;
    let mut witness = node.visitor().room(first).await;
    let mut room = user.room(first).await;
    room.expect_frame("enter").await;
    assert_eq!(witness.expect_frame("enter").await["user_id"], 2);
    let mut trade = user.try_trade(sold).await.unwrap();
    trade.expect_frame("goods_info").await;
    let mut other = user.room(second).await;
    assert_eq!(other.expect_frame("enter").await["participants_count"], 1);
    assert_eq!(alarms.close_code().await, 4409);
    let mut again = user.try_trade(sold).await.unwrap();
    again.expect_frame("goods_info").await;
    assert_eq!(room.close_code().await, 4409);
    assert_eq!(witness.expect_frame("out").await["user_id"], 2, "the user has left that room");
    let mut alarms = user.socket_since(0).await;
    alarms.expect_frame("hello").await;
    assert_eq!(trade.close_code().await, 4409);
    // A stream gets no place while all are taken, and closes no other socket.
    assert_eq!(user.get("/alarms/stream").await.status, 204);
    other.send_json(&line_frame(second, 2, "hi")).await;
    assert_eq!(other.expect_frame("message").await["message"], "hi");
    alarms.expect_alarm("auction_won").await;
    alarms.send_json(&json!({"type": "ping"})).await;
    assert_eq!(alarms.expect_frame("pong").await["response_type"], "pong");
    again.close().await;
}

#[actix_web::test]
async fn fault_14_a_room_socket_ends_when_its_token_does() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |settings| settings.server.workers = Some(1));
    let sold = sold_goods(&node, &time).await;
    let goods = node.live_goods(1).await;
    let short = signed(&claims(&json!(2), node.now(), &json!({"exp": node.now().secs() + 60})));
    let short = node.client(Some(short));
    let mut witness = node.user(3).room(goods).await;
    witness.expect_frame("enter").await;
    let mut room = short.room(goods).await;
    room.expect_frame("enter").await;
    witness.expect_frame("enter").await;
    let mut trade = short.try_trade(sold).await.unwrap();
    trade.expect_frame("goods_info").await;
    time.advance_ms(59_999);
    room.send_json(&line_frame(goods, 2, "still here")).await;
    assert_eq!(witness.expect_frame("message").await["message"], "still here");
    time.advance_ms(1);
    // Sent when the token has expired, whether the server has noticed or not.
    room.try_send_json(&bid_frame(goods, 2, 5000)).await;
    trade.try_send_json(&trade_frame(sold, 2, "too late")).await;
    let ended = Closed { code: Some(4401), reason: "token expired or refused".to_owned() };
    assert_eq!(room.closed().await, ended);
    assert_eq!(trade.closed().await, ended);
    assert_eq!(witness.next().await, json!({"response_type": "out", "participants_count": 1, "user_id": 2}));
    assert_eq!(node.visitor().history(goods).await, Vec::<Value>::new());
    assert_eq!(count(&node.database(), "trade_messages"), 0);
}

/// The session's timer fires late: what the token's user sends meanwhile is refused anyway.
#[actix_web::test]
async fn fault_14_frames_of_a_user_whose_token_has_expired_are_refused() {
    let time = crate::support::SilentTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.goods(1, 0, 1200).await;
    let short = signed(&claims(&json!(2), node.now(), &json!({"exp": node.now().secs() + 60})));
    let mut room = node.client(Some(short)).room(goods).await;
    room.expect_frame("enter").await;
    time.set(noon_in_seoul().plus_ms(60_000));
    room.send_json(&bid_frame(goods, 2, 5000)).await;
    assert_eq!(room.closed().await.code, Some(4401));
    let mut other = node.user(3).room(goods).await;
    other.expect_frame("enter").await;
    assert_eq!(node.visitor().history(goods).await, Vec::<Value>::new());
    time.wake();
}

/// Fault 14: in the origin inactive users go on as if nothing had happened.
#[actix_web::test]
async fn fault_14_an_inactive_user_is_out_of_all_rooms_at_once() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |settings| settings.server.workers = Some(1));
    let sold = sold_goods(&node, &time).await;
    let goods = node.live_goods(1).await;
    let mut witness = node.user(3).room(goods).await;
    witness.expect_frame("enter").await;
    let mut tabs = [node.user(2).room(goods).await, node.user(2).room(goods).await];
    tabs[0].expect_frame("enter").await;
    witness.expect_frame("enter").await;
    let mut trade = node.user(2).try_trade(sold).await.unwrap();
    trade.expect_frame("goods_info").await;
    let mut seller = node.user(1).try_trade(sold).await.unwrap();
    seller.expect_frame("goods_info").await;
    let changed = node.admin().put("/admin/users/2", &json!({"is_active": false})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    // Refused at once after the answer to the admin; on other nodes as soon as the event arrives.
    if node.nodes() > 1 {
        for user in node.on_each_node(node.user(2).token()) {
            eventually("the user is out", || async { (user.get("/alarms").await.status == 401).then_some(()) }).await;
        }
    }
    for tab in &mut tabs {
        tab.try_send_json(&bid_frame(goods, 2, 5000)).await;
        tab.try_send_json(&line_frame(goods, 2, "still here?")).await;
    }
    trade.try_send_json(&trade_frame(sold, 2, "still here?")).await;
    for socket in tabs.iter_mut().chain([&mut trade]) {
        assert_eq!(socket.closed().await.code, Some(4401));
    }
    assert_eq!(witness.next().await, json!({"response_type": "out", "participants_count": 1, "user_id": 2}));
    assert_eq!(node.visitor().history(goods).await, Vec::<Value>::new());
    assert_eq!(count(&node.database(), "room_lines") + count(&node.database(), "trade_messages"), 0);
    assert_eq!(node.user(2).try_room(goods).await.err(), Some(401));
    assert_eq!(node.user(2).try_trade(sold).await.err(), Some(401));
    // The other side is unaffected, and so is the user when they may come back.
    seller.send_json(&trade_frame(sold, 1, "where are you?")).await;
    seller.expect_frame("message").await;
    assert_eq!(node.admin().put("/admin/users/2", &json!({"is_active": true})).await.status, 200);
    let back = || async { node.user(2).try_room(goods).await.ok() };
    node.soon("the user is back", back).await.expect_frame("enter").await;
}

/// A user who is made inactive during a handshake must not get in behind the order to close their sockets.
#[actix_web::test]
async fn fault_14_no_user_gets_in_while_they_are_made_inactive() {
    let node = TestNode::with(|settings| settings.session.max_per_user = 1000);
    let goods = node.live_goods(1).await;
    for user in 100..120 {
        let (client, admin) = (node.user(user), node.admin());
        client.room(goods).await.expect_frame("enter").await;
        let opening = join_all((0..8).map(|_| client.try_room(goods)));
        let path = format!("/admin/users/{user}");
        let inactive = json!({"is_active": false});
        let (opened, changed) = join(opening, admin.put(&path, &inactive)).await;
        assert_eq!(changed.status, 200);
        for socket in opened {
            match socket {
                Ok(mut socket) => assert_eq!(socket.close_code().await, 4401),
                Err(status) => assert_eq!(status, 401),
            }
        }
    }
    let admins = node.admins();
    eventually("an empty room", || async { (session_figures(&admins).await["in_rooms"] == 0).then_some(()) }).await;
}

#[actix_web::test]
async fn a_silent_client_leaves_the_room() {
    let node = TestNode::with(|settings| {
        settings.session.heartbeat_s = 1;
        settings.session.timeout_s = 2;
    });
    let goods = node.live_goods(1).await;
    let mut witness = node.visitor().room(goods).await;
    let mut silent = node.user(2).room(goods).await;
    silent.expect_frame("enter").await;
    witness.expect_frame("enter").await;
    let mut silent_visitor = node.visitor().room(goods).await;
    (silent.answers_pings, silent_visitor.answers_pings) = (false, false);
    let leaving = async {
        // Reading answers the server's pings.
        assert_eq!(witness.next().await, json!({"response_type": "out", "participants_count": 0, "user_id": 2}));
    };
    let closed = join(silent.closed(), silent_visitor.closed());
    let ((), (closed, visitor)) = join(leaving, closed).await;
    let too_long = Closed { code: Some(4408), reason: "silent too long".to_owned() };
    assert_eq!((&closed, &visitor), (&too_long, &too_long));
    assert_eq!(node.user(3).bid(goods, 1000).await.status, 201);
    assert_eq!(witness.expect_frame("bid").await["seq"], 1, "who answers stays");
}

#[actix_web::test]
async fn a_node_that_stops_asks_its_rooms_to_come_back_later() {
    let time = ManualTime::at(noon_in_seoul());
    let mut node = TestNode::with_time(time.clone(), |_| {});
    let sold = sold_goods(&node, &time).await;
    let goods = node.live_goods(1).await;
    let mut sockets = vec![node.visitor().room(goods).await, node.user(2).try_trade(sold).await.unwrap()];
    for user in 3..23 {
        sockets.push(node.user(user).room(goods).await);
    }
    let stopping = std::thread::spawn(move || node.stop());
    let mut waits = Vec::new();
    for closed in join_all(sockets.iter_mut().map(Socket::closed)).await {
        assert_eq!(closed.code, Some(1012), "{closed:?}");
        let reason: Value = serde_json::from_str(&closed.reason).expect("JSON");
        assert_eq!(reason.as_object().unwrap().len(), 1);
        waits.push(reason["retry_ms"].as_u64().expect("a number"));
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 10, "spread: {waits:?}");
    stopping.join().unwrap();
}

#[actix_web::test]
async fn a_slow_reader_in_a_room_is_closed_and_the_others_get_everything() {
    const ROUNDS: usize = 60;
    const AT_ONCE: usize = 20;
    // A client's queued frames are in one node.
    let node = TestNode::alone(|settings| {
        settings.session.max_pending = 64;
        settings.server.workers = Some(1);
    });
    let goods = node.live_goods(1).await;
    let mut slow = stalled_room_socket(node.address(), goods, node.user(2).token()).await;
    let mut author = node.user(3).room(goods).await;
    assert_eq!(author.expect_frame("enter").await["participants_count"], 2);
    let mut watchers = [node.visitor().room(goods).await, node.visitor().room(goods).await];
    let long = "👍".repeat(90);
    for round in 0..ROUNDS {
        let texts: Vec<String> = (0..AT_ONCE).map(|nth| format!("{}{long}", round * AT_ONCE + nth)).collect();
        for text in &texts {
            author.send_json(&line_frame(goods, 3, text)).await;
        }
        for text in &texts {
            for socket in [&mut author].into_iter().chain(&mut watchers) {
                assert_eq!(socket.expect_frame("message").await["message"], *text);
            }
        }
    }
    let health = node.admin().get("/admin/health").await.body;
    assert_eq!(health["checks"]["alarm_hub"]["outbox_overflows"], 1);
    assert_eq!(health["checks"]["alarm_hub"]["undelivered"], 0, "what waited for it is dropped");
    // Once it reads again, its last frame is the close, and it has left the room.
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, slow.read_to_end(&mut rest)).await.expect("the connection ends").unwrap();
    let close = [&[0x88, 2 + 32], &4413u16.to_be_bytes()[..], b"too slow, resume from the cursor"].concat();
    assert!(rest.ends_with(&close), "{:?}", String::from_utf8_lossy(&rest[rest.len().saturating_sub(80)..]));
    for socket in [&mut author].into_iter().chain(&mut watchers) {
        assert_eq!(socket.next().await, json!({"response_type": "out", "participants_count": 1, "user_id": 2}));
    }
}

#[actix_web::test]
async fn a_node_with_all_its_sockets_open_refuses_the_next_at_the_handshake() {
    let time = ManualTime::at(noon_in_seoul());
    // Each node has its own limit.
    let node = TestNode::alone_with_time(time.clone(), |settings| {
        settings.session.max = 3;
        settings.server.workers = Some(1);
    });
    let sold = sold_goods(&node, &time).await;
    let goods = node.live_goods(1).await;
    let open =
        [node.visitor().room(goods).await, node.user(3).room(goods).await, node.user(2).try_trade(sold).await.unwrap()];
    assert_eq!(node.visitor().try_room(goods).await.err(), Some(503));
    assert_eq!(node.user(4).try_room(goods).await.err(), Some(503));
    assert_eq!(node.user(1).try_trade(sold).await.err(), Some(503));
    let [visitor, mut room, _trade] = open;
    room.expect_frame("enter").await;
    visitor.close().await;
    let mut next = eventually("a free place", || async { node.user(4).try_room(goods).await.ok() }).await;
    assert_eq!(next.expect_frame("enter").await["participants_count"], 2);
    assert_eq!(room.expect_frame("enter").await["user_id"], 4, "who was refused was never there");
    tokio::time::timeout(Duration::from_secs(5), room.close()).await.expect("an end");
}
