//! A user's goods: `GET /goods/user/{id}/`, the like that is toggled, goods deleted before their start.

use awc::http::Method;
use serde_json::{Value, json};

use crate::{
    lists::{LIST_FIELDS, ids},
    support::{ManualTime, Market, TestNode, eventually, goods_body, has_exactly},
};

#[actix_web::test]
async fn a_users_goods_are_those_that_they_sell_buy_or_like() {
    let market = Market::open();
    let (scheduled, live) = (market.scheduled(1), market.live(1));
    let (sold, unsold) = (market.ended(1, Some(2)), market.ended(1, None));
    let of_another = market.ended(3, Some(4));
    market.bid(live, 2, 2000, market.now());
    market.seed().likes(&[scheduled, of_another], [2]);
    let node = market.serve();
    let viewer = node.user(2);
    let all = [unsold, sold, live, scheduled];
    for (path, expected) in [
        ("/goods/user/1/", &all[..]),
        ("/goods/user/1", &all),
        ("/goods/user/1/?status=&page=", &all),
        ("/goods/user/1/?status=sell&page=1", &all),
        ("/goods/user/1/?status=null", &[scheduled]),
        ("/goods/user/1/?status=true", &[live]),
        ("/goods/user/1/?status=false", &[unsold, sold]),
        ("/goods/user/1/?status=buy", &[]),
        ("/goods/user/1/?status=like", &[]),
        // A leader has not bought yet.
        ("/goods/user/2/?status=buy", &[sold]),
        ("/goods/user/2/?status=like", &[of_another, scheduled]),
        ("/goods/user/2/?status=sell", &[]),
        ("/goods/user/4/?status=buy", &[of_another]),
    ] {
        let answer = viewer.get(path).await;
        assert_eq!((answer.status, &ids(&answer.body)[..]), (200, expected), "{path}: {}", answer.text);
        for goods in answer.body.as_array().unwrap() {
            has_exactly(goods, LIST_FIELDS.to_vec());
            assert_eq!(goods["is_like"], [scheduled, of_another].contains(&goods["id"].as_i64().unwrap()));
        }
    }
    // The marketplace has users that this service has not seen yet: they have no goods.
    assert_eq!(viewer.get("/goods/user/77/?status=sell").await.body, json!([]));
    assert_eq!(viewer.get("/goods/user/77/?page=2").await.code(), "not_found");
    for unknown in ["0", "x", "-1", "01", "99999999999999999999"] {
        for query in ["", "?status=buy", "?page=2"] {
            let answer = viewer.get(&format!("/goods/user/{unknown}/{query}")).await;
            assert_eq!((answer.status, answer.code()), (404, "not_found"), "{unknown}{query}");
        }
    }
    assert_eq!(viewer.get("/goods/user/1/?page=2").await.code(), "not_found");
}

#[actix_web::test]
async fn a_users_goods_come_in_pages_of_ten() {
    let market = Market::open();
    let goods: Vec<i64> = (0..11).map(|_| market.scheduled(1)).collect();
    market.seed().likes(&goods, [5]);
    let node = market.serve();
    for path in ["/goods/user/1/?", "/goods/user/5/?status=like&"] {
        let first = node.visitor().get(&format!("{path}page=1")).await.body;
        assert_eq!(ids(&first), goods.iter().rev().take(10).copied().collect::<Vec<_>>(), "{path}");
        assert_eq!(ids(&node.visitor().get(&format!("{path}page=2")).await.body), goods[..1], "{path}");
        assert_eq!(node.visitor().get(&format!("{path}page=3")).await.code(), "not_found", "{path}");
        let all = node.visitor().get(path.trim_end_matches(['?', '&'])).await.body;
        assert_eq!(ids(&all).len(), 11, "the existing client names no page and needs all of them");
    }
}

#[actix_web::test]
async fn a_like_is_toggled_by_a_get_without_a_content_type() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let user = node.user(2);
    for (path, like) in [(format!("/goods/like/{goods}/"), json!([2])), (format!("/goods/like/{goods}"), json!([]))] {
        let answer = user.get(&path).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""));
        assert!(answer.headers.get("content-type").is_none(), "{:?}", answer.headers);
        let page = user.get(&format!("/goods/{goods}/")).await.body;
        let count = json!(like.as_array().unwrap().len());
        assert_eq!((&page["like"], &page["like_count"], &page["is_like"]), (&like, &count, &json!(count == 1)));
    }
    for none in ["99", "0", "x", "9007199254740992"] {
        assert_eq!(user.get(&format!("/goods/like/{none}/")).await.code(), "not_found", "{none}");
    }
}

#[actix_web::test]
async fn fault_18_an_anonymous_like_is_401() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    for client in [node.visitor(), node.client(Some("bad".into()))] {
        let answer = client.get(&format!("/goods/like/{goods}/")).await;
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"));
    }
    assert_eq!(node.visitor().get(&format!("/goods/{goods}/")).await.body["like"], json!([]));
}

#[actix_web::test]
async fn only_the_seller_may_delete_goods_and_only_before_the_start() {
    let time = ManualTime::at(handsup::test_support::domain::Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let (seller, other) = (node.user(1), node.user(2));
    let own = json!({"starts_at": node.now().plus_ms(60_000), "images": ["/media/a.png"]});
    let mut goods = Vec::new();
    for _ in 0..3 {
        goods.push(seller.post("/goods/", &goods_body(&own)).await.body["id"].as_i64().unwrap());
    }
    other.like(goods[0]).await;
    let path = |goods: i64| format!("/goods/{goods}/");
    let refused = |answer: crate::support::Answer| (answer.status, answer.code().to_owned());
    assert_eq!(refused(node.visitor().delete(&path(goods[0])).await), (401, "unauthorized".into()));
    assert_eq!(refused(other.delete(&path(goods[0])).await), (403, "forbidden".into()));
    assert_eq!(refused(node.admin().delete(&path(goods[0])).await), (403, "forbidden".into()));
    for none in ["99", "0", "x", "recommendations"] {
        assert_eq!(refused(seller.delete(&format!("/goods/{none}")).await), (404, "not_found".into()), "{none}");
    }
    for path in [path(goods[0]), format!("/goods/{}", goods[1])] {
        let answer = seller.delete(&path).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
        assert_eq!(refused(seller.delete(&path).await), (404, "not_found".into()), "gone is gone");
        assert_eq!(node.visitor().get(&path).await.code(), "not_found");
    }
    assert_eq!(ids(&node.visitor().get("/goods/").await.body), goods[2..]);
    assert_eq!(node.visitor().get("/goods/user/2/?status=like").await.text, "[]");
    // The time decides, not the clock's tick; and goods that have started cannot be deleted.
    time.advance_ms(60_000);
    assert_eq!(refused(seller.delete(&path(goods[2])).await), (409, "auction_started".into()));
    eventually("the start", || async {
        (node.visitor().get(&path(goods[2])).await.body["status"] == true).then_some(())
    })
    .await;
    assert_eq!(refused(other.delete(&path(goods[2])).await), (403, "forbidden".into()), "the seller is checked first");
    time.advance_ms(1200 * 1000);
    eventually("the end", || async {
        (node.visitor().get(&path(goods[2])).await.body["status"] == false).then_some(())
    })
    .await;
    assert_eq!(refused(seller.delete(&path(goods[2])).await), (409, "auction_started".into()));
    assert_eq!(node.visitor().get(&path(goods[2])).await.status, 200);
}

#[actix_web::test]
async fn paths_with_words_in_place_of_ids_have_their_own_handlers() {
    let node = TestNode::start();
    node.live_goods(1).await;
    for (method, path) in [
        (Method::DELETE, "/goods/recommend"),
        (Method::PUT, "/goods/like/1"),
        (Method::POST, "/goods/user/1"),
        (Method::PUT, "/goods/1"),
        (Method::POST, "/goods/1/chat"),
        (Method::DELETE, "/chat"),
        (Method::POST, "/chat/goods/1"),
    ] {
        let answer = node.user(1).send(method, path, None).await;
        assert_eq!((answer.status, answer.code()), (405, "method_not_allowed"), "{path}");
    }
    assert_eq!(node.user(1).get("/goods/1/").await.body["like"], Value::Array(Vec::new()));
}
