//! A user's sessions when their token expires, when they are refused, and when they send too often.

use awc::http::Method;
use handsup::test_support::domain::Timestamp;
use serde_json::{Value, json};

use crate::support::{Client, Closed, ManualTime, Raw, Socket, TestNode, claims, signed};

fn start_of_test() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-22T08:00:00.000Z").unwrap()
}

/// A token that is valid for so many seconds.
fn holding(user: i64, now: Timestamp, seconds: i64) -> String {
    signed(&claims(&json!(user), now, &json!({"exp": now.secs() + seconds})))
}

async fn open(node: &TestNode, token: &str) -> Socket {
    let mut socket = Socket::open(&node.base(), "/ws/alarms/?since=0", &[], Some(token)).await.expect("a socket");
    assert_eq!(socket.next().await["response_type"], "hello");
    socket
}

async fn is_open(socket: &mut Socket) {
    socket.send_json(&json!({"type": "ping"})).await;
    assert_eq!(socket.next().await["response_type"], "pong");
}

/// Fault 14: in the origin an expired token keeps its socket for ever.
#[actix_web::test]
async fn fault_14_a_socket_ends_when_its_token_expires() {
    let time = ManualTime::at(start_of_test());
    let node = TestNode::with_time(time.clone(), |_| {});
    let mut short = open(&node, &holding(7, node.now(), 60)).await;
    let mut long = open(&node, &holding(7, node.now(), 3600)).await;
    time.advance_ms(59_999);
    is_open(&mut short).await;
    time.advance_ms(1);
    let reason = "token expired or refused".to_owned();
    assert_eq!(short.closed().await, Closed { code: Some(4401), reason });
    is_open(&mut long).await;
    // Also far behind the first check of the clock.
    time.advance_ms(3_540_000);
    assert_eq!(long.closed().await.code, Some(4401));
}

#[actix_web::test]
async fn fault_14_an_expired_token_is_refused_on_the_next_request() {
    let time = ManualTime::at(start_of_test());
    let node = TestNode::with_time(time.clone(), |_| {});
    let client = node.client(Some(holding(7, node.now(), 60)));
    time.advance_ms(59_999);
    assert_eq!(client.get("/alarms").await.status, 200);
    time.advance_ms(1);
    assert_eq!(client.get("/alarms").await.code(), "unauthorized");
}

#[actix_web::test]
async fn a_fresh_token_keeps_the_socket_open() {
    let time = ManualTime::at(start_of_test());
    let node = TestNode::with_time(time.clone(), |_| {});
    let mut renewed = open(&node, &holding(7, node.now(), 60)).await;
    let mut witness = open(&node, &holding(7, node.now(), 60)).await;
    let fresh = holding(7, node.now(), 120);
    renewed.send_json(&json!({"type": "auth", "token": fresh})).await;
    let answer = renewed.next().await;
    assert_eq!(answer, json!({"response_type": "auth", "exp": start_of_test().secs() + 120}));
    time.advance_ms(60_000);
    assert_eq!(witness.closed().await.code, Some(4401));
    is_open(&mut renewed).await;
    time.advance_ms(60_000);
    assert_eq!(renewed.closed().await.code, Some(4401), "the fresh token ends too");
}

/// A token that expires sooner counts too: the newest token decides.
#[actix_web::test]
async fn a_token_that_expires_sooner_shortens_the_session() {
    let time = ManualTime::at(start_of_test());
    let node = TestNode::with_time(time.clone(), |_| {});
    let mut socket = open(&node, &holding(7, node.now(), 3600)).await;
    socket.send_json(&json!({"type": "auth", "token": holding(7, node.now(), 30)})).await;
    assert_eq!(socket.next().await["response_type"], "auth");
    time.advance_ms(30_000);
    assert_eq!(socket.closed().await.code, Some(4401));
}

#[actix_web::test]
async fn another_users_token_or_an_invalid_one_ends_the_socket() {
    let node = TestNode::start();
    let now = node.now();
    let mut bystander = open(&node, &holding(7, now, 3600)).await;
    let refresh = signed(&claims(&json!(7), now, &json!({"token_type": "refresh"})));
    for bad in [holding(8, now, 3600), holding(7, now, -1), refresh, "garbage".into(), String::new()] {
        let mut socket = open(&node, &holding(7, now, 3600)).await;
        socket.send_json(&json!({"type": "auth", "token": bad})).await;
        assert_eq!(socket.closed().await.code, Some(4401), "{bad}");
    }
    is_open(&mut bystander).await;
}

/// Fault 14: in the origin inactive users go on as if nothing had happened.
#[actix_web::test]
async fn fault_14_an_inactive_user_is_out_at_once_and_may_come_back() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let user = node.user(7);
    let mut tabs = [user.socket_since(0).await, user.socket_since(0).await];
    let mut other = node.user(8).socket_since(0).await;
    assert_eq!(other.next().await["response_type"], "hello");
    let changed = node.admin().put("/admin/users/7", &json!({"is_active": false})).await;
    assert_eq!((changed.status, &changed.body["is_active"]), (200, &json!(false)));
    // Refused at once after the answer to the admin; on other nodes as soon as the event arrives.
    for user in node.on_each_node(user.token()) {
        let refused = || async { (user.get("/alarms").await.status == 401).then_some(()) };
        node.soon("the user is out", refused).await;
    }
    assert_eq!(user.bid(goods, 1000).await.code(), "unauthorized");
    for path in [format!("/goods/{goods}/"), format!("/goods/{goods}/bids"), "/alarms".into(), "/alarms/unread".into()]
    {
        assert_eq!(user.get(&path).await.code(), "unauthorized", "{path}");
    }
    for tab in &mut tabs {
        assert_eq!(tab.closed().await.code, Some(4401));
    }
    let bearer = format!("Bearer {}", user.token());
    let refused = Raw::connect(node.address()).handshake("/ws/alarms/", &[("Authorization", &bearer)]);
    assert_eq!((refused.status, refused.code().as_str()), (401, "unauthorized"));
    is_open(&mut other).await;
    assert_eq!(node.visitor().history(goods).await, Vec::<Value>::new());
    let changed = node.admin().put("/admin/users/7", &json!({"is_active": true})).await;
    assert_eq!((changed.status, &changed.body["is_active"]), (200, &json!(true)));
    let back = || async { (user.bid(goods, 1000).await.status == 201).then_some(()) };
    node.soon("the user is back", back).await;
}

#[actix_web::test]
async fn an_inactive_user_stays_refused_over_a_restart_and_with_new_tokens() {
    let node = TestNode::start();
    assert_eq!(node.user(7).get("/alarms").await.status, 200);
    assert_eq!(node.admin().put("/admin/users/7", &json!({"is_active": false})).await.status, 200);
    // A user who has never been here can be refused, too.
    assert_eq!(node.admin().put("/admin/users/70", &json!({"is_active": false})).await.status, 200);
    let node = node.restart();
    let now = node.now();
    for user in [7, 70] {
        let renamed = signed(&claims(&json!(user), now, &json!({"username": "new", "iat": now.secs() + 60})));
        for token in [holding(user, now, 3600), renamed] {
            assert_eq!(node.client(Some(token)).get("/alarms").await.code(), "unauthorized", "{user}");
        }
    }
    assert_eq!(node.user(8).get("/alarms").await.status, 200);
}

#[actix_web::test]
async fn an_admins_changes_to_a_user_are_what_others_see() {
    let node = TestNode::start();
    let goods = node.live_goods(7).await;
    let said = json!({"username": "김철수", "profile_image": "/media/people/7.png", "rating_score": 45});
    let changed = node.admin().put("/admin/users/7/", &said).await;
    let expected = json!({
        "id": 7, "username": "김철수", "profile_image": "/media/people/7.png", "rating_score": 45, "is_active": true,
    });
    assert_eq!((changed.status, &changed.body), (200, &expected));
    assert_eq!(node.visitor().get(&format!("/goods/{goods}/")).await.body["seller"], expected);
    // Only the given fields change. An earlier token does not set the name back.
    let older = signed(&claims(&json!(7), node.now(), &json!({"username": "old", "iat": node.now().secs() - 60})));
    assert_eq!(node.client(Some(older)).get("/alarms").await.status, 200);
    assert_eq!(node.admin().put("/admin/users/7", &json!({})).await.body, expected);
}

/// Sends until it is refused; returns how many passed. Asserts that the refusal says when to come back.
async fn passed_before_429(client: &Client, method: Method, path: &str, body: Option<&str>) -> usize {
    for passed in 0..1000 {
        let answer = client.send(method.clone(), path, body.map(|body| body.as_bytes().to_vec())).await;
        if answer.status == 429 {
            assert_eq!(answer.code(), "too_many_requests");
            let wait: u64 = answer.headers.get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
            assert!((1..=2).contains(&wait), "{wait}");
            return passed;
        }
        assert!(answer.status < 500, "{}", answer.text);
    }
    panic!("no 429");
}

#[actix_web::test]
async fn bids_have_a_rate_per_user() {
    // Each node has its own rates.
    let node = TestNode::alone(|settings| settings.limits.bids_per_second = 2);
    let goods = node.live_goods(1).await;
    let path = format!("/goods/{goods}/bids");
    let body = Some("{\"price\":1000}");
    let passed = passed_before_429(&node.user(2), Method::POST, &path, body).await;
    assert!(passed >= 4, "a burst of twice the rate passes, not {passed}");
    // Other users have their own rate, reading has another, and admins have none.
    assert_eq!(node.user(3).bid(goods, 2000).await.status, 201);
    assert_eq!(node.user(2).get(&path).await.status, 200);
    let admin = node.admin();
    for price in 3000..3030 {
        assert_eq!(admin.bid(goods, price).await.status, 201);
    }
}

#[actix_web::test]
async fn requests_have_a_rate_per_user_and_per_address() {
    // Each node has its own rates.
    let node = TestNode::alone(|settings| settings.limits.requests_per_second = 2);
    let path = format!("/goods/{}/", node.live_goods(1).await);
    assert!(passed_before_429(&node.visitor(), Method::GET, &path, None).await >= 4);
    assert!(passed_before_429(&node.user(2), Method::GET, "/alarms", None).await >= 4);
    assert_eq!(node.user(3).get("/alarms").await.status, 200);
    // A client cannot get another rate by naming another address.
    let forwarded = [("X-Forwarded-For", "203.0.113.7")];
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(node.visitor().send_with(Method::GET, &path, None, &forwarded).await.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    for _ in 0..30 {
        assert_eq!(node.visitor().get("/health/live").await.status, 200);
        assert_eq!(node.visitor().get("/health/ready").await.status, 200);
        assert_eq!(node.admin().get("/admin/health").await.status, 200);
    }
    // The handshake counts as a request, and is refused as handshakes are.
    let busy = node.user(4);
    passed_before_429(&busy, Method::GET, "/alarms", None).await;
    let bearer = format!("Bearer {}", busy.token());
    for (path, headers) in [("/ws/alarms/", vec![("Authorization", bearer.as_str())]), ("/ws/auction/1/", Vec::new())] {
        let answers: Vec<_> = (0..20).map(|_| Raw::connect(node.address()).handshake(path, &headers)).collect();
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 101).collect();
        assert!(!refused.is_empty(), "{path}");
        for answer in refused {
            assert!(
                answer.status == 503 && answer.head.to_ascii_lowercase().contains("retry-after: 1"),
                "{}",
                answer.head
            );
        }
    }
}

/// Contract 4: 401, 429, body, 404, seller, not started, ended, too low. Each bid here also has all the faults that
/// come later in this list.
#[actix_web::test]
async fn refusals_come_in_the_contracts_order() {
    let time = ManualTime::at(start_of_test());
    // Each node has its own rates.
    let node = TestNode::alone_with_time(time.clone(), |settings| settings.limits.bids_per_second = 2);
    let goods = node.goods(1, 60_000, 60).await;
    let (bids, nowhere) = (format!("/goods/{goods}/bids"), "/goods/99/bids".to_owned());
    let busy = node.user(2);
    passed_before_429(&busy, Method::POST, &nowhere, Some("{")).await;
    let expired = node.client(Some(holding(2, node.now(), -1)));
    let bad = Some(b"{".to_vec());
    assert_eq!(expired.send(Method::POST, &nowhere, bad.clone()).await.code(), "unauthorized", "before 429");
    passed_before_429(&busy, Method::POST, &nowhere, Some("{")).await;
    assert_eq!(node.user(3).send(Method::POST, &nowhere, bad).await.code(), "invalid_body", "before 404");
    assert_eq!(node.user(3).post(&nowhere, &json!({"price": 0})).await.code(), "invalid_value", "before 404");
    assert_eq!(node.user(1).post(&nowhere, &json!({"price": 1})).await.code(), "not_found");
    assert_eq!(node.user(1).post(&bids, &json!({"price": 1})).await.code(), "seller_cannot_bid", "before not started");
    assert_eq!(node.user(4).bid(goods, 1).await.code(), "auction_not_started", "before too low");
    time.advance_ms(60_000);
    let low = node.user(4).bid(goods, 999).await;
    assert_eq!((low.code(), &low.body["high_price"], &low.body["minimum"]), ("bid_too_low", &json!(0), &json!(1000)));
    time.advance_ms(60_000);
    assert_eq!(node.user(5).bid(goods, 1).await.code(), "auction_ended", "before too low");
    assert_eq!(node.user(1).bid(goods, 1).await.code(), "seller_cannot_bid", "before ended");
    assert_eq!(node.user(6).post(&bids, &json!({"price": "1"})).await.code(), "invalid_value", "before ended");
}
