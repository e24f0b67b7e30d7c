//! Trades over HTTP: the list with its counts and newest messages, the messages and whether they are read, and who is
//! refused.

use serde_json::{Value, json};

use crate::{
    lists::ids,
    support::{Client, Market, TestNode, database::Locked, eventually, has_exactly},
};

fn user(id: i64) -> Value {
    json!({
        "id": id, "username": format!("name{id}"), "profile_image": "/media/default.jpeg", "rating_score": 40,
        "is_active": true,
    })
}

/// The contents of a trade's messages, and whether they are read. The request reads those of the other side.
pub async fn read_messages(client: &Client, path: &str) -> Vec<(String, bool)> {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    let messages = answer.body.as_array().unwrap().iter();
    messages.map(|m| (m["content"].as_str().unwrap().to_owned(), m["is_read"].as_bool().unwrap())).collect()
}

fn said(messages: &[(&str, bool)]) -> Vec<(String, bool)> {
    messages.iter().map(|(text, is_read)| ((*text).to_owned(), *is_read)).collect()
}

/// The number of unread messages in the only trade of the list.
async fn waiting(client: &Client) -> Value {
    client.get("/chat/").await.body[0]["wait_cnt"].clone()
}

#[actix_web::test]
async fn the_list_of_trades_has_the_origins_shape() {
    let market = Market::open();
    let silent = market.ended_with(1, Some(2), |goods| goods.title = "silent".to_owned());
    market.time.advance_ms(1000);
    let sold = market.ended_with(1, Some(2), |goods| {
        goods.images = vec!["/media/goods/a.png".into(), "/media/goods/b.png".into()];
    });
    market.message(sold, 2, "first");
    market.message(sold, 1, "second");
    market.message(sold, 1, "third");
    let node = market.serve();
    for path in ["/chat/", "/chat", "/chat/?page=", "/chat/?page=1"] {
        let answer = node.user(2).get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.headers.get("content-type").unwrap(), "application/json");
        let expected = json!([
            {
                "id": sold, "seller": user(1), "buyer": user(2), "image": "/media/goods/a.png", "wait_cnt": 2,
                "title": "camera", "high_price": 7000,
                "last_message": {"message": "third", "created_at": "2026-11-22T17:29:31.865026"},
            },
            {
                "id": silent, "seller": user(1), "buyer": user(2), "image": null, "wait_cnt": 0, "title": "silent",
                "high_price": 7000,
                "last_message": {"message": "거래를 시작해 주세요!", "created_at": "2026-11-22T17:29:27.865026"},
            },
        ]);
        assert_eq!(answer.body, expected, "{path}");
    }
    let of_seller = node.user(1).get("/chat/").await.body;
    assert_eq!((&of_seller[0]["wait_cnt"], &of_seller[1]["wait_cnt"]), (&json!(1), &json!(0)));
    assert_eq!(node.user(2).get("/chat/?page=2").await.code(), "not_found");
    assert_eq!(node.user(2).get("/chat/?page=0").await.code(), "invalid_value");
}

#[actix_web::test]
async fn the_trade_with_the_latest_activity_comes_first() {
    let market = Market::open();
    let (first, second, third) = (market.ended(1, Some(2)), market.ended(2, Some(3)), market.ended(4, Some(2)));
    // All three were opened at one moment, so the newest room comes first.
    let time = market.time.clone();
    let node = market.serve();
    assert_eq!(ids(&node.user(2).get("/chat/").await.body), [third, second, first]);
    let market = Market::of(node, &time);
    market.message(second, 3, "hello");
    market.message(first, 2, "hello");
    let node = market.serve();
    assert_eq!(ids(&node.user(2).get("/chat/").await.body), [first, second, third], "as seller and as buyer");
    assert_eq!(ids(&node.user(3).get("/chat/").await.body), [second]);
    assert_eq!(node.user(5).get("/chat/").await.text, "[]");
}

#[actix_web::test]
async fn a_list_of_trades_is_limited() {
    let market = Market::open();
    let trades: Vec<i64> = (0..202).map(|_| market.ended(1, Some(2))).collect();
    let node = market.serve();
    let newest: Vec<i64> = trades.into_iter().rev().collect();
    assert_eq!(ids(&node.user(2).get("/chat/").await.body), newest[..200]);
    assert_eq!(ids(&node.user(2).get("/chat/?page=2").await.body), newest[200..]);
    assert_eq!(node.user(2).get("/chat/?page=3").await.code(), "not_found");
}

#[actix_web::test]
async fn requesting_messages_reads_those_of_the_other_side() {
    let market = Market::open();
    let goods = market.ended(1, Some(2));
    market.message(goods, 2, "are you there?");
    market.message(goods, 1, "yes");
    market.message(goods, 2, "fine");
    let node = market.serve();
    let (seller, buyer) = (node.user(1), node.user(2));
    let path = format!("/chat/goods/{goods}/");
    assert_eq!((waiting(&seller).await, waiting(&buyer).await), (json!(2), json!(1)));
    // The list does not mark anything as read.
    assert_eq!(waiting(&seller).await, json!(2));
    let answer = buyer.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers.get("content-type").unwrap(), "application/json");
    let first = json!({
        "content": "are you there?", "is_read": false, "created_at": "2026-11-22T17:29:28.865026", "author": user(2),
    });
    assert_eq!(answer.body[0], first);
    for message in answer.body.as_array().unwrap() {
        has_exactly(message, vec!["content", "is_read", "created_at", "author"]);
    }
    // The viewer's own messages stay unread until the other side reads them; this request reads the other side's.
    let seen = said(&[("are you there?", false), ("yes", true), ("fine", false)]);
    assert_eq!(read_messages(&buyer, &path).await, seen);
    assert_eq!((waiting(&seller).await, waiting(&buyer).await), (json!(2), json!(0)));
    let all_read = said(&[("are you there?", true), ("yes", true), ("fine", true)]);
    assert_eq!(read_messages(&seller, path.trim_end_matches('/')).await, all_read);
    assert_eq!(read_messages(&buyer, &path).await, all_read);
    assert_eq!(waiting(&seller).await, json!(0));
}

#[actix_web::test]
async fn repeated_requests_write_nothing() {
    let market = Market::open();
    let goods = market.ended(1, Some(2));
    market.message(goods, 1, "hello");
    market.message(goods, 2, "hello yourself");
    let node = market.serve();
    let (admins, buyer, path) = (node.admins(), node.user(2), format!("/chat/goods/{goods}/"));
    let entries = || async {
        let mut entries = 0;
        for admin in &admins {
            entries += admin.get("/admin/health").await.body["checks"]["ledger"]["entries"].as_i64().unwrap();
        }
        entries
    };
    read_messages(&buyer, &path).await;
    let (before, after_probe) = (entries().await, entries().await);
    for _ in 0..5 {
        read_messages(&buyer, &path).await;
        buyer.get("/chat/").await;
    }
    assert_eq!(entries().await - after_probe, after_probe - before, "nothing but what looking at the health takes");
}

#[actix_web::test]
async fn messages_are_shown_even_if_their_read_state_cannot_be_written() {
    let market = Market::open();
    let goods = market.ended(1, Some(2));
    market.message(goods, 1, "hello");
    let node = market.serve();
    let (buyer, path) = (node.user(2), format!("/chat/goods/{goods}/"));
    assert_eq!(waiting(&buyer).await, json!(1));
    let locked = Locked::by_another_connection(node.folder());
    assert_eq!(read_messages(&buyer, &path).await, said(&[("hello", false)]), "as it is stored");
    drop(locked);
    assert_eq!(read_messages(&buyer, &path).await, said(&[("hello", true)]));
    assert_eq!(waiting(&buyer).await, json!(0));
}

#[actix_web::test]
async fn the_newest_thousand_messages_come_first_and_older_ones_by_page() {
    let market = Market::open();
    let goods = market.ended(1, Some(2));
    market.messages(goods, 1, (1..=1003).map(|n| format!("message {n}")));
    let node = market.serve();
    let (buyer, path) = (node.user(2), format!("/chat/goods/{goods}/"));
    assert_eq!(waiting(&buyer).await, json!(1003), "all of them, not only a page");
    let texts = |talk: Vec<(String, bool)>| talk.into_iter().map(|(text, _)| text).collect::<Vec<_>>();
    let numbered = |from: i64, to: i64| (from..=to).map(|n| format!("message {n}")).collect::<Vec<_>>();
    assert_eq!(texts(read_messages(&buyer, &path).await), numbered(4, 1003));
    assert_eq!(texts(read_messages(&buyer, &format!("{path}?page=2")).await), numbered(1, 3));
    assert_eq!(buyer.get(&format!("{path}?page=3")).await.code(), "not_found");
    assert_eq!(buyer.get(&format!("{path}?page=x")).await.code(), "invalid_value");
    assert_eq!(waiting(&buyer).await, json!(0));
}

/// Everything that only the two sides may see, requested by everybody else.
#[actix_web::test]
async fn fault_13_nobody_else_reads_a_trade() {
    let market = Market::open();
    let goods = market.ended(1, Some(2));
    market.bid(market.live(1), 3, 1000, market.now());
    market.message(goods, 1, "the key is under the mat");
    let node = market.serve();
    let path = format!("/chat/goods/{goods}/");
    for id in [3, 4, 77] {
        let answer = node.user(id).get(&path).await;
        assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{id}");
        assert!(!answer.text.contains("mat"));
        assert_eq!(node.user(id).get("/chat/").await.text, "[]", "{id}");
    }
    // An admin's token allows the admin calls, not other people's messages.
    assert_eq!(node.admin().get(&path).await.code(), "forbidden");
    for client in [node.visitor(), node.client(Some("bad".into()))] {
        for path in [path.as_str(), "/chat/", "/chat", "/chat/goods/99/", "/chat/goods/x"] {
            let answer = client.get(path).await;
            assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{path}");
        }
    }
    // A trade room in the body of new goods gives no access to it.
    let own = crate::support::goods_body(&json!({"starts_at": node.now(), "trade_room": 1, "trade_room_id": 1}));
    let mine = node.user(4).post("/goods/", &own).await.body["id"].as_i64().unwrap();
    assert_eq!(node.user(4).get(&format!("/chat/goods/{mine}/")).await.code(), "forbidden");
    assert_eq!(
        read_messages(&node.user(2), &path).await,
        said(&[("the key is under the mat", true)]),
        "unread until now"
    );
}

#[actix_web::test]
async fn fault_18_a_request_for_goods_without_a_trade_is_refused() {
    let market = Market::open();
    let (scheduled, live, unsold) = (market.scheduled(1), market.live(1), market.ended(1, None));
    market.bid(live, 2, 1000, market.now());
    let node = market.serve();
    for goods in [scheduled, live, unsold] {
        for user in [1, 2] {
            let answer = node.user(user).get(&format!("/chat/goods/{goods}/")).await;
            assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{goods} of {user}");
        }
    }
    for none in ["99", "0", "x", "-1", "9007199254740992"] {
        assert_eq!(node.user(1).get(&format!("/chat/goods/{none}/")).await.code(), "not_found", "{none}");
    }
    assert_eq!(node.user(1).get("/chat/").await.text, "[]");
}

#[actix_web::test]
async fn fault_16_messages_hold_no_markup() {
    let market = Market::open();
    let goods = market.ended(1, Some(2));
    let evil = "</script><img src=x onerror=alert(1)>&";
    market.message(goods, 1, evil);
    let node = market.serve();
    for path in ["/chat/".to_owned(), format!("/chat/goods/{goods}/")] {
        let answer = node.user(2).get(&path).await;
        assert!(!answer.text.contains(['<', '>', '&']), "{path}: {}", answer.text);
        assert!(answer.body.to_string().contains(evil), "{path}: read back, it is as it was");
    }
}

#[actix_web::test]
async fn an_empty_trade_is_an_empty_list() {
    let market = Market::open();
    let goods = market.ended(1, Some(2));
    let node: TestNode = market.serve();
    for user in [1, 2] {
        assert_eq!(node.user(user).get(&format!("/chat/goods/{goods}/")).await.text, "[]");
        assert_eq!(node.user(user).get(&format!("/chat/goods/{goods}/?page=2")).await.code(), "not_found");
    }
}

/// A message that a socket was sent is read, even if the socket closes right after.
#[actix_web::test]
async fn a_message_sent_to_a_socket_is_read_however_soon_it_closes() {
    let node = TestNode::start();
    let goods = node.goods(1, 0, 2).await;
    let (seller, buyer) = (node.user(1), node.user(2));
    assert_eq!(buyer.bid(goods, 1000).await.status, 201);
    eventually("the end", || async {
        (buyer.get(&format!("/goods/{goods}/")).await.body["status"] == false).then_some(())
    })
    .await;
    let mut writes = buyer.try_trade(goods).await.unwrap();
    writes.expect_frame("goods_info").await;
    // Written before the other side has opened a socket, and not read by later messages.
    writes.send_json(&json!({"message": "early"})).await;
    writes.expect_frame("message").await;
    let mut reads = seller.try_trade(goods).await.unwrap();
    reads.expect_frame("goods_info").await;
    for text in ["one", "two", "three"] {
        writes.send_json(&json!({"message": text})).await;
        assert_eq!(reads.expect_frame("message").await["message"], text);
    }
    drop(reads);
    eventually("three of four read", || async { (seller.get("/chat/").await.body[0]["wait_cnt"] == 1).then_some(()) })
        .await;
}
