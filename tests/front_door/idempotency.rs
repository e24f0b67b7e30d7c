//! `Idempotency-Key`: a repeated request bids once and gets the same answer.

use awc::http::Method;
use futures_util::future::join_all;
use handsup::test_support::domain::Timestamp;
use serde_json::json;

use crate::support::{Answer, Client, ManualTime, TestNode};

pub async fn bid(user: &Client, goods: i64, price: i64, key: &str) -> Answer {
    let body = json!({"price": price}).to_string().into_bytes();
    user.send_with(Method::POST, &format!("/goods/{goods}/bids"), Some(body), &[("Idempotency-Key", key)]).await
}

fn replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

#[actix_web::test]
async fn a_repetition_gets_the_first_answer_even_after_a_restart_or_a_higher_bid() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let first = bid(&node.user(2), goods, 1000, "k-1").await;
    assert_eq!((first.status, replayed(&first)), (201, false));
    assert_eq!(node.user(3).bid(goods, 5000).await.status, 201);
    let node = node.restart();
    for key in ["k-1", "\"k-1\""] {
        let again = bid(&node.user(2), goods, 1000, key).await;
        assert_eq!((again.status, replayed(&again), &again.body), (201, true, &first.body));
    }
    assert_eq!(node.visitor().history(goods).await.len(), 2);
}

#[actix_web::test]
async fn refusals_by_the_bid_rule_are_kept() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let seller = bid(&node.user(1), goods, 1000, "s").await;
    assert_eq!(seller.code(), "seller_cannot_bid");
    let user = node.user(2);
    let low = bid(&user, goods, 10, "low").await;
    assert_eq!(low.code(), "bid_too_low");
    assert_eq!(user.bid(goods, 2000).await.status, 201);
    for (again, first) in
        [(bid(&node.user(1), goods, 1000, "s").await, seller), (bid(&user, goods, 10, "low").await, low)]
    {
        assert_eq!((again.status, replayed(&again), &again.body), (first.status, true, &first.body));
    }
}

#[actix_web::test]
async fn the_refusal_before_the_start_is_not_kept() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let user = node.user(2);
    let goods = node.goods(1, 1000, 60).await;
    for _ in 0..2 {
        let early = bid(&user, goods, 1000, "k").await;
        assert_eq!((early.code(), replayed(&early)), ("auction_not_started", false));
    }
    time.advance_ms(1000);
    let accepted = bid(&user, goods, 1000, "k").await;
    assert_eq!((accepted.status, replayed(&accepted)), (201, false));
    assert_eq!(bid(&user, goods, 1000, "k").await.body, accepted.body);
}

#[actix_web::test]
async fn answers_other_than_verdicts_of_the_bid_rule_are_not_kept() {
    let node = TestNode::start();
    let user = node.user(2);
    assert_eq!(bid(&user, 1, 1000, "k").await.status, 404);
    assert_eq!(bid(&user, 1, 0, "k").await.status, 422);
    let goods = node.live_goods(1).await;
    assert_eq!(goods, 1);
    let answer = bid(&user, goods, 1000, "k").await;
    assert_eq!((answer.status, replayed(&answer)), (201, false));
}

#[actix_web::test]
async fn a_key_belongs_to_one_bid_of_one_user() {
    let node = TestNode::start();
    let (goods, other) = (node.live_goods(1).await, node.live_goods(1).await);
    let user = node.user(2);
    assert_eq!(bid(&user, goods, 1000, "k").await.status, 201);
    for (goods, price) in [(goods, 2000), (other, 1000)] {
        let reused = bid(&user, goods, price, "k").await;
        assert_eq!((reused.status, reused.code()), (422, "idempotency_key_reused"));
    }
    assert_eq!(bid(&node.user(3), goods, 2000, "k").await.status, 201, "another user's key of that name");
    for bad in ["", "\"\"", &"x".repeat(65)] {
        let refused = bid(&user, goods, 9000, bad).await;
        assert_eq!((refused.status, &refused.body["field"]), (422, &json!("Idempotency-Key")), "{bad:?}");
    }
    assert_eq!(bid(&user, goods, 9000, &"x".repeat(64)).await.status, 201);
}

#[actix_web::test]
async fn two_concurrent_requests_with_one_key_are_one_bid() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    for round in 0..20 {
        let (price, key) = (1000 + 10 * round, format!("k{round}"));
        let users: Vec<_> = (0..8).map(|_| node.user(2)).collect();
        let answers = join_all(users.iter().map(|user| bid(user, goods, price, &key))).await;
        assert_eq!(answers.iter().filter(|answer| !replayed(answer)).count(), 1);
        assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
    }
    assert_eq!(node.visitor().history(goods).await.len(), 20);
    assert_eq!(node.user(2).inbox_kinds().await, []);
}

#[actix_web::test]
async fn a_key_is_kept_for_a_day() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.goods(1, 0, 2 * 86_400).await;
    assert_eq!(bid(&node.user(2), goods, 1000, "k").await.status, 201);
    time.advance_ms(86_400_000 - 1);
    assert!(replayed(&bid(&node.user(2), goods, 1000, "k").await));
    time.advance_ms(1);
    let fresh = bid(&node.user(2), goods, 2000, "k").await;
    assert_eq!((fresh.status, replayed(&fresh)), (201, false));
}
