//! Users whose row cannot be written: they read like anybody else, and the operator's page needs no row.

use std::time::{Duration, Instant};

use awc::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    events::Stream,
    support::{
        Client, SLOW_DEADLINE, TestNode, claims, count,
        database::{self, Locked, Stopped},
        eventually, goods_body, line_frame, signed,
    },
};

/// An admin who is known only by their token.
fn unseen_admin(node: &TestNode) -> Client {
    node.client(Some(signed(&claims(&json!(4711), node.now(), &json!({"admin": true})))))
}

#[actix_web::test]
async fn a_new_user_reads_while_their_row_cannot_be_written() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let new = node.user(77);
    let locked = Locked::by_another_connection(node.folder());
    let page = format!("/goods/{goods}");
    let pages = [
        "/goods/",
        &page,
        &format!("{page}/bids"),
        &format!("{page}/chat/"),
        "/goods/recommend/",
        "/goods/user/1/",
        "/chat/",
        "/alarms",
        "/alarms/unread",
        "/alarms/preferences",
        "/media/default.jpeg",
    ];
    let begun = Instant::now();
    for (answer, page) in join_all(pages.map(|page| new.send(Method::HEAD, page, None))).await.iter().zip(pages) {
        assert_eq!(answer.status, 200, "{page}: {}", answer.text);
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(new.socket_since(0).await.next().await["response_type"], "hello");
    assert_eq!(Stream::open(&node, new.token(), "/alarms/stream?since=0", "").data()["response_type"], "hello");

    // Writing needs the row, and some GETs write.
    for (method, path) in [(Method::PUT, format!("{page}/like")), (Method::GET, format!("/goods/like/{goods}/"))] {
        let answer = new.send(method, &path, None).await;
        assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{path}");
    }
    drop(locked);
    let made = || async {
        let made = new.post("/goods/", &goods_body(&json!({"starts_at": node.now()}))).await;
        (made.status == 201).then_some(made)
    };
    assert_eq!(eventually("goods are taken again", made).await.body["seller"]["username"], "name77");
}

#[actix_web::test]
async fn a_new_user_watches_an_auction_and_may_speak_as_soon_as_their_row_is_written() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let locked = Locked::by_another_connection(node.folder());
    let mut room = node.user(77).room(goods).await;
    assert_eq!(room.expect_frame("enter").await["sender_name"], "name77");
    let (line, bid) = (line_frame(goods, 77, "hi"), json!({"is_money": true, "message": 1000}));
    for frame in [&line, &bid] {
        room.send_json(frame).await;
        assert_eq!(room.expect_frame("alert").await["code"], "unavailable");
    }
    drop(locked);
    // Each refusal is followed by another attempt to write the row.
    let give_up = Instant::now() + SLOW_DEADLINE;
    let said = loop {
        assert!(Instant::now() < give_up, "the row is never written");
        room.send_json(&line).await;
        match room.next().await {
            alert if alert["response_type"] == "alert" => assert_eq!(alert["code"], "unavailable"),
            said => break said,
        }
    };
    assert_eq!((&said["response_type"], &said["sender_name"]), (&json!("message"), &json!("name77")));
    // Lists that contain their name need the row.
    let lines = node.visitor().get(&format!("/goods/{goods}/chat/")).await.body;
    assert_eq!(lines[0]["author"], "name77");
}

fn has_all_checks(health: &Value) {
    for part in ["database", "ledger", "alarm_hub", "auction_clock", "bid_actors", "bus", "sessions"] {
        assert!(health["checks"][part]["status"].is_string(), "{part}: {health}");
    }
}

#[actix_web::test]
async fn the_operators_page_needs_no_row_of_the_admin() {
    let node = TestNode::start();
    let admin = unseen_admin(&node);
    let healthy = admin.get("/admin/health").await;
    assert_eq!((healthy.status, &healthy.body["status"]), (200, &json!("pass")));
    assert_eq!(count(&node.database(), "users WHERE id = 4711"), 0, "it is not made either");
    let locked = Locked::by_another_connection(node.folder());
    let failing = admin.get("/admin/health").await;
    assert_eq!((failing.status, &failing.body["status"]), (503, &json!("fail")), "{}", failing.text);
    has_all_checks(&failing.body);
    drop(locked);
}

#[actix_web::test]
async fn the_operators_page_is_served_while_the_database_is_down() {
    if !database::on_postgres_only() {
        return;
    }
    let node = TestNode::start();
    let dismissed = node.client(Some(signed(&claims(&json!(12), node.now(), &json!({"admin": true})))));
    for admin in node.admins() {
        assert_eq!(admin.put("/admin/users/12", &json!({"is_active": false})).await.status, 200);
    }
    let stopped = Stopped::server_of(node.folder());
    let begun = Instant::now();
    let failing = unseen_admin(&node).get("/admin/health").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!((failing.status, &failing.body["checks"]["database"]["status"]), (503, &json!("fail")));
    has_all_checks(&failing.body);
    assert_eq!(node.visitor().get("/goods/").await.status, 503);
    if node.nodes() == 1 {
        assert_eq!(dismissed.get("/admin/health").await.code(), "unauthorized", "what is remembered counts");
    }
    drop(stopped);
}

#[actix_web::test]
async fn the_operators_page_is_refused_to_an_admin_who_is_not_active() {
    let node = TestNode::start();
    let admin = unseen_admin(&node);
    assert_eq!(node.admin().put("/admin/users/4711", &json!({"is_active": false})).await.status, 200);
    let refused = || async { (admin.get("/admin/health").await.status == 401).then_some(()) };
    node.soon("the refusal", refused).await;
    assert_eq!(node.user(4711).get("/admin/health").await.status, 401, "refused before the admin check");
    assert_eq!(node.user(4712).get("/admin/health").await.status, 403);
    assert_eq!(node.visitor().get("/admin/health").await.status, 401);
}
