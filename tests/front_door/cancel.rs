//! `POST /admin/goods/{id}/cancel`: an auction ends before its time, without a buyer.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    audit::audit,
    nodes_rooms::next_event,
    support::{Answer, Client, ManualTime, Market, TestNode, eventually, noon_in_seoul, without_time},
};

async fn cancel(admin: &Client, goods: i64) -> Answer {
    admin.post(&format!("/admin/goods/{goods}/cancel"), &json!({"reason": "a fake"})).await
}

fn ended() -> Value {
    json!({"response_type": "ended", "buyer_id": null, "buyer_name": null, "high_price": 0, "reason": "cancelled"})
}

/// The alarms about these goods in a user's inbox.
async fn alarms(user: &Client, goods: i64) -> Vec<Value> {
    user.inbox().await.into_iter().filter(|alarm| alarm["goods_id"] == goods).collect()
}

async fn kinds(user: &Client, goods: i64) -> Vec<String> {
    alarms(user, goods).await.iter().map(|alarm| alarm["kind"].as_str().unwrap().to_owned()).collect()
}

#[actix_web::test]
async fn a_cancelled_auction_ends_at_once_without_a_buyer() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    // The seller likes their own goods, a bidder too: each still gets one alarm.
    for liker in [1, 2, 4] {
        node.user(liker).like(goods).await;
    }
    let mut room = node.visitor().room(goods).await;
    assert_eq!(node.user(2).bid(goods, 1000).await.status, 201);
    assert_eq!(node.user(3).bid(goods, 2000).await.status, 201);
    for seq in [1, 2] {
        assert_eq!(next_event(&mut room).await["seq"], seq);
    }
    let answer = cancel(&node.admin(), goods).await;
    assert_eq!((answer.status, &answer.body["goods_id"]), (200, &json!(goods)), "{}", answer.text);
    assert_eq!(without_time(next_event(&mut room).await), ended());
    let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    for (field, value) in [
        ("status", json!(false)),
        ("buyer", json!(null)),
        ("high_price", json!(0)),
        ("trade_room", json!(null)),
        ("bid_seq", json!(2)),
        ("ends_at", answer.body["ends_at"].clone()),
    ] {
        assert_eq!(page[field], value, "{field}");
    }
    assert_eq!(node.visitor().history(goods).await.len(), 2, "the bids stay");
    for user in 1..=4 {
        let kinds = kinds(&node.user(user), goods).await;
        let cancelled = kinds.iter().filter(|kind| *kind == "auction_cancelled").count();
        assert_eq!(cancelled, 1, "user {user}: {kinds:?}");
        assert_eq!(kinds.last().unwrap(), "auction_cancelled", "user {user}");
    }
    let inbox = alarms(&node.user(2), goods).await;
    assert_eq!((&inbox[0]["kind"], &inbox[0]["superseded"]), (&json!("outbid"), &json!(true)));
    assert_eq!(inbox[1]["message"], "경매가 취소됐어요");
    assert_eq!(kinds(&node.user(5), goods).await, [""; 0]);
    for price in [1, 1500, 9000] {
        assert_eq!(node.user(4).bid(goods, price).await.code(), "auction_ended", "{price}");
    }
    assert_eq!(node.user(1).bid(goods, 9000).await.code(), "seller_cannot_bid");
    assert_eq!(node.user(3).try_trade(goods).await.err(), Some(403));
    let trades = node.user(3).get("/chat/").await;
    assert_eq!(trades.body, json!([]));
    assert_eq!(node.user(3).get("/goods/user/3/?status=buy").await.body, json!([]));
    assert_eq!(node.visitor().get("/goods/recommend/").await.body, json!([]));
    let again = cancel(&node.admin(), goods).await;
    assert_eq!((again.status, again.code()), (409, "auction_ended"));
    let audit = audit(&node).await;
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!((&audit[0]["action"], &audit[0]["target_id"]), (&json!("goods.cancel"), &json!(goods)));
    assert!(!json!(audit).to_string().contains("fake"));
    let node = node.restart();
    let after = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    assert_eq!((&after["status"], &after["ends_at"]), (&page["status"], &page["ends_at"]));
    assert_eq!(node.user(4).bid(goods, 9000).await.code(), "auction_ended");
}

#[actix_web::test]
async fn a_cancelled_auction_never_starts_and_never_ends_again() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |_| {});
    let (goods, other) = (node.goods(1, 60_000, 600).await, node.goods(1, 60_000, 600).await);
    node.user(2).like(goods).await;
    node.user(2).like(other).await;
    let mut room = node.visitor().room(goods).await;
    assert_eq!(cancel(&node.admin(), goods).await.status, 200);
    assert_eq!(without_time(next_event(&mut room).await), ended());
    assert_eq!(node.user(3).bid(goods, 1000).await.code(), "auction_ended");
    assert_eq!(node.user(1).delete(&format!("/goods/{goods}/")).await.code(), "auction_started");
    for after_ms in [60_000, 61_000, 600_000, 660_000, 661_000] {
        time.set(noon_in_seoul().plus_ms(after_ms));
    }
    let is_over =
        || async { (node.visitor().get(&format!("/goods/{other}/")).await.body["status"] == false).then_some(()) };
    eventually("the other auction is over", is_over).await;
    assert_eq!(kinds(&node.user(2), goods).await, ["auction_cancelled"]);
    assert_eq!(kinds(&node.user(1), goods).await, ["auction_cancelled"]);
    assert_eq!(kinds(&node.user(1), other).await, ["auction_unsold"]);
    let line = json!({"is_money": false, "message": "hello"});
    let mut author = node.user(3).room(goods).await;
    author.expect_frame("enter").await;
    author.send_json(&line).await;
    assert_eq!(next_event(&mut room).await["message"], "hello", "nothing came in between");
}

#[actix_web::test]
async fn what_has_ended_by_its_time_cannot_be_cancelled() {
    let market = Market::open();
    let (sold, due) = (market.ended(1, Some(2)), market.live(1));
    market.bid(due, 2, 2000, market.now());
    market.time.advance_ms(3_600_000);
    let node = market.serve();
    for goods in [sold, due] {
        let answer = cancel(&node.admin(), goods).await;
        assert_eq!((answer.status, answer.code()), (409, "auction_ended"));
        let page = || async {
            let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
            (page["status"] == false).then_some(page)
        };
        let page = eventually("the end", page).await;
        assert_eq!(page["buyer"]["id"], 2);
    }
    assert_eq!(audit(&node).await, [Value::Null; 0]);
}

/// Contract, promise 3: what is judged before the cancel counts and is in the history, what is judged later is refused
/// as too late, whatever it offers.
#[actix_web::test]
async fn bids_race_a_cancel_and_each_comes_before_or_after_it() {
    let node = TestNode::start();
    for round in 0..5 {
        let goods = node.live_goods(1).await;
        let mut room = node.visitor().room(goods).await;
        let bidders: Vec<Client> = (2..10).map(|user| node.user(user)).collect();
        let bids = bidders.iter().enumerate().map(|(at, bidder)| async move {
            let mut answers = Vec::new();
            for turn in 0..12 {
                answers.push(bidder.bid(goods, 1000 + turn * 10 + at as i64).await);
            }
            answers
        });
        let (admin, page) = (node.admin(), format!("/goods/{goods}/"));
        let cancel = async {
            let has_bids = || async { (admin.get(&page).await.body["bid_seq"] != 0).then_some(()) };
            eventually("a bid", has_bids).await;
            cancel(&admin, goods).await
        };
        let (answers, cancelled) = futures_util::join!(join_all(bids), cancel);
        assert_eq!(cancelled.status, 200, "{}", cancelled.text);
        let history = node.visitor().history(goods).await;
        let mut accepted = 0;
        for answers in &answers {
            let mut is_over = false;
            for answer in answers {
                match answer.status {
                    201 => accepted += 1,
                    _ => assert!(["bid_too_low", "auction_ended"].contains(&answer.code()), "{}", answer.text),
                }
                assert!(!is_over || answer.status != 201 && answer.code() == "auction_ended", "{}", answer.text);
                is_over |= answer.status != 201 && answer.code() == "auction_ended";
            }
        }
        assert_eq!(history.len(), accepted, "round {round}");
        for _ in 0..accepted {
            let frame = next_event(&mut room).await;
            assert_eq!(frame["response_type"], "bid", "{frame}");
        }
        assert_eq!(without_time(next_event(&mut room).await), ended());
        for (user, bidder) in (2..).zip(&bidders) {
            let has_bid = history.iter().any(|bid| bid["user_id"] == user);
            let kinds = kinds(bidder, goods).await;
            assert_eq!(kinds.iter().filter(|kind| *kind == "auction_cancelled").count(), usize::from(has_bid));
            assert!(!kinds.iter().any(|kind| ["auction_won", "auction_lost"].contains(&kind.as_str())), "{kinds:?}");
        }
    }
}

#[actix_web::test]
async fn all_of_a_large_audience_get_the_alarm_once() {
    let market = Market::open();
    let (goods, before) = (market.live(1), market.now());
    // The first chunk has 250 users.
    for bidder in 10..20 {
        market.bid(goods, bidder, 1000 + bidder, before);
    }
    market.seed().users(10..900);
    market.seed().likes(&[goods], (1..2).chain(15..900));
    let node = market.serve();
    assert_eq!(cancel(&node.admin(), goods).await.status, 200);
    for user in [1, 10, 14, 15, 19, 20, 259, 260, 261, 500, 898, 899] {
        let client = node.user(user);
        let got = || async { kinds(&client, goods).await.contains(&"auction_cancelled".to_owned()).then_some(()) };
        eventually("the alarm", got).await;
    }
    let is_done = || async {
        let figures = join_all(node.admins().iter().map(|admin| admin.get("/admin/health"))).await;
        figures.iter().all(|health| health.body["checks"]["ledger"]["open_fanouts"] == 0).then_some(())
    };
    let database = node.database();
    eventually("the end of the fan-out", is_done).await;
    let cancelled = "inbox JOIN alarms ON alarms.id = inbox.alarm_id WHERE kind = 'auction_cancelled'";
    assert_eq!(crate::support::count(&database, cancelled), 1 + 10 + 880);
}

#[actix_web::test]
async fn a_cancel_that_is_wrong_in_any_way_changes_nothing() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let path = format!("/admin/goods/{goods}/cancel");
    let admin = node.admin();
    assert_eq!(node.visitor().post(&path, &json!({})).await.code(), "unauthorized");
    assert_eq!(node.user(1).post(&path, &json!({})).await.code(), "forbidden");
    for id in ["0", "-1", "x", "01", "9007199254740992", "99", "%00", "1.0"] {
        let answer = admin.post(&format!("/admin/goods/{id}/cancel"), &json!({})).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{id}");
    }
    for reason in [json!(""), json!(1), json!([]), json!({}), json!(true), json!("x".repeat(257)), json!("a\0b")] {
        let answer = admin.post(&path, &json!({"reason": reason})).await;
        assert_eq!((answer.status, &answer.body["field"]), (422, &json!("reason")), "{reason}");
    }
    for body in ["[]", "null", "{", "x", "\"reason\"", "{\"reason\":\"x\"}y"] {
        let answer = admin.send(awc::http::Method::POST, &path, Some(body.as_bytes().to_vec())).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_body"), "{body}");
    }
    let long = json!({"reason": "x".repeat(70_000)});
    assert_eq!(admin.post(&path, &long).await.code(), "payload_too_large");
    assert_eq!(admin.get(&path).await.code(), "method_not_allowed");
    assert_eq!(node.visitor().get(&format!("/goods/{goods}/")).await.body["status"], true);
    assert_eq!(audit(&node).await, [Value::Null; 0]);
    // No body, and the longest reason, are fine.
    assert_eq!(admin.send(awc::http::Method::POST, &path, None).await.status, 200);
    let goods = node.live_goods(1).await;
    let longest = json!({"reason": "이".repeat(256)});
    assert_eq!(admin.post(&format!("/admin/goods/{goods}/cancel/"), &longest).await.status, 200);
}
