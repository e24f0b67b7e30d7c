//! Bids over HTTP: the bid rule, its refusals, and what concurrency must not break.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::TestNode;

#[actix_web::test]
async fn a_bid_is_answered_with_all_fields_of_the_contract() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let answer = node.user(2).bid(goods, 1000).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let body = answer.body;
    for (field, value) in
        [("goods_id", goods), ("user_id", 2), ("price", 1000), ("high_price", 1000), ("seq", 1), ("bid_id", 1)]
    {
        assert_eq!(body[field], json!(value), "{field}");
    }
    assert!(body["created_at"].as_str().unwrap().ends_with('Z'));
    assert!(body["ends_at"].as_str().unwrap() > body["created_at"].as_str().unwrap());
    assert_eq!(body.as_object().unwrap().len(), 8);
}

/// Fault 1: in the origin the final price differed from the highest accepted in 20 of 20 tries.
#[actix_web::test]
async fn fault_1_fifty_concurrent_bidders_never_break_the_order() {
    let node = TestNode::start();
    for round in 0..20i64 {
        let goods = node.live_goods(1).await;
        let bidders: Vec<_> = (0..50).map(|i| node.user(100 + i)).collect();
        // Every price twice and out of order, so that equal and lower bids race.
        let bids = bidders.iter().enumerate().map(|(i, bidder)| {
            let price = 1000 + (i as i64 * 37 + round) % 25 * 10;
            async move { (bidder.bid(goods, price).await, price) }
        });
        let answers = join_all(bids).await;
        let accepted: Vec<i64> = answers.iter().filter(|(a, _)| a.status == 201).map(|(_, price)| *price).collect();
        for (answer, price) in &answers {
            match answer.status {
                201 => assert_eq!(answer.body["price"], json!(price)),
                409 => {
                    assert_eq!(answer.code(), "bid_too_low");
                    assert!(answer.body["minimum"].as_i64().unwrap() > *price);
                    assert!(answer.body["high_price"].as_i64().unwrap() >= *price);
                }
                other => panic!("{other}: {}", answer.text),
            }
        }
        let history = node.visitor().history(goods).await;
        let prices: Vec<i64> = history.iter().map(|bid| bid["price"].as_i64().unwrap()).collect();
        assert!(prices.windows(2).all(|pair| pair[0] < pair[1]), "strictly rising: {prices:?}");
        let seqs: Vec<i64> = history.iter().map(|bid| bid["seq"].as_i64().unwrap()).collect();
        assert_eq!(seqs, (1..=prices.len() as i64).collect::<Vec<_>>(), "no gaps");
        let mut sorted = accepted.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, prices, "every 201 is in the history, and nothing else");
        let shown = node.visitor().get(&format!("/goods/{goods}/")).await.body;
        assert_eq!(shown["high_price"].as_i64(), prices.last().copied(), "the final price is the highest accepted");
        // One `outbid` for each change of the leader, and no other.
        let leaders: Vec<i64> = history.iter().map(|bid| bid["user_id"].as_i64().unwrap()).collect();
        let mut expected: Vec<i64> = leaders.windows(2).filter(|p| p[0] != p[1]).map(|p| p[0]).collect();
        expected.sort_unstable();
        let mut received = Vec::new();
        for (i, bidder) in (100..).zip(&bidders) {
            let inbox = bidder.inbox_kinds().await;
            let of_goods = inbox.iter().filter(|(_, about)| *about == goods);
            for (kind, _) in of_goods {
                assert_eq!(kind, "outbid");
                received.push(i);
            }
        }
        assert_eq!(received, expected);
    }
}

#[actix_web::test]
async fn where_no_price_is_high_enough_the_minimum_is_null_and_the_text_says_so() {
    let node = TestNode::with(|settings| settings.limits.max_price = 1_000_000);
    let goods = node.live_goods(1).await;
    let mut room = node.user(4).room(goods).await;
    room.expect_frame("enter").await;
    assert_eq!(node.user(2).bid(goods, 1_000_000).await.status, 201);
    room.expect_frame("bid").await;
    let key = [("Idempotency-Key", "k")];
    for headers in [&[][..], &key, &key] {
        let body = json!({"price": 1_000_000}).to_string().into_bytes();
        let path = format!("/goods/{goods}/bids");
        let refused = node.user(3).send_with(awc::http::Method::POST, &path, Some(body), headers).await;
        assert_eq!((refused.code(), &refused.body["high_price"]), ("bid_too_low", &json!(1_000_000)));
        assert_eq!(refused.body.get("minimum"), Some(&Value::Null), "{}", refused.text);
        assert_eq!(refused.body["detail"], "no higher bid is possible: a price is at most 1000000");
    }
    room.send_json(&json!({"is_money": true, "message": 1_000_000})).await;
    let alert = room.expect_frame("alert").await;
    assert_eq!((&alert["code"], &alert["high_price"]), (&json!("bid_too_low"), &json!(1_000_000)));
    assert_eq!(alert["message"], "더 높은 금액으로는 입찰할 수 없어요.");
}
