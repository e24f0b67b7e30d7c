//! `GET /goods/`, `GET /goods/recommend/`, `GET /goods/{id}/chat/`: shapes, pages, filters and refusals.

use handsup::test_support::domain::{GoodsId, NewGoods, UserId};
use handsup::test_support::store::writes::{Like, SetLike};
use serde_json::{Value, json};

use crate::support::{Client, Market, TestNode, goods_body, has_exactly, is_instant};

/// The origin's fields and the new ones (`docs/protocol.md#goods`).
pub const LIST_FIELDS: [&str; 26] = [
    "id",
    "seller",
    "buyer",
    "is_like",
    "images",
    "participants_count",
    "watchers",
    "title",
    "content",
    "category",
    "status",
    "predict_price",
    "start_price",
    "high_price",
    "start_date",
    "start_time",
    "created_at",
    "trade_room",
    "like",
    "starts_at",
    "ends_at",
    "min_increment",
    "bid_seq",
    "external_id",
    "like_count",
    "server_time",
];

pub fn ids(list: &Value) -> Vec<i64> {
    list.as_array().expect("a bare array").iter().map(|goods| goods["id"].as_i64().unwrap()).collect()
}

/// The ids of a page.
async fn page(client: &Client, path: &str) -> Vec<i64> {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    ids(&answer.body)
}

fn titled(title: &str) -> impl FnOnce(&mut NewGoods) {
    let title = title.to_owned();
    |goods| goods.title = title
}

fn user(id: i64) -> Value {
    json!({
        "id": id, "username": format!("name{id}"), "profile_image": "/media/default.jpeg", "rating_score": 40,
        "is_active": true,
    })
}

#[actix_web::test]
async fn a_list_has_the_origins_shape_and_the_new_fields() {
    let market = Market::open();
    let scheduled = market.goods_at(1, market.now().plus_ms(3_600_000), |_| {});
    let live = market.live(1);
    market.bid(live, 2, 5000, market.now());
    let sold = market.ended_with(1, Some(3), |goods| {
        goods.images = vec!["/media/goods/a.png".into(), "/media/goods/b.png".into()];
    });
    market.seed().likes(&[sold], [2, 3]);
    let node = market.serve();
    let answer = node.user(2).get("/goods/?page=1&category=&status=&search=").await;
    assert_eq!(
        (answer.status, answer.headers.get("content-type").unwrap().as_bytes()),
        (200, &b"application/json"[..])
    );
    let expected = |id: i64, own: Value| {
        let mut goods = json!({
            "id": id, "seller": user(1), "buyer": null, "is_like": false, "images": null, "participants_count": 0, "watchers": 0,
            "title": "camera", "content": "a camera", "category": "기타", "status": null, "predict_price": 20000,
            "start_price": 1000, "high_price": 0, "start_date": "2026-11-22", "start_time": "17:29",
            "created_at": "2026-11-22T17:29:27.865026", "trade_room": null, "like": [],
            "starts_at": "2026-11-22T08:29:27.865Z", "ends_at": "2026-11-22T09:29:27.865Z", "min_increment": 1,
            "bid_seq": 0, "external_id": null, "like_count": 0, "server_time": "2026-11-22T08:29:27.865Z",
        });
        own.as_object().unwrap().iter().for_each(|(field, value)| goods[field] = value.clone());
        goods
    };
    let expected = json!([
        expected(
            sold,
            json!({
                "buyer": user(3), "is_like": true, "images": {"image": "/media/goods/a.png"}, "status": false,
                "high_price": 7000, "start_time": "16:29", "trade_room": 1, "like": [2, 3],
                "starts_at": "2026-11-22T07:29:27.865Z", "ends_at": "2026-11-22T08:29:27.865Z", "bid_seq": 1,
                "like_count": 2,
            }),
        ),
        expected(live, json!({"buyer": user(2), "status": true, "high_price": 5000, "bid_seq": 1})),
        expected(
            scheduled,
            json!({
                "start_time": "18:29", "starts_at": "2026-11-22T09:29:27.865Z", "ends_at": "2026-11-22T10:29:27.865Z",
            }),
        ),
    ]);
    assert_eq!(answer.body, expected);
    for goods in answer.body.as_array().unwrap() {
        has_exactly(goods, LIST_FIELDS.to_vec());
        assert!(["starts_at", "ends_at", "server_time"].iter().all(|field| is_instant(&goods[field])));
    }
    assert!(answer.text.contains("\"category\":\"기타\""), "compact, raw UTF-8: {}", answer.text);
    // The page of one goods item says the same, with all pictures and bids.
    let shown = node.user(2).get(&format!("/goods/{sold}/")).await.body;
    for field in LIST_FIELDS.iter().filter(|field| **field != "images") {
        assert_eq!(shown[field], expected[0][field], "{field}");
    }
}

#[actix_web::test]
async fn pages_have_ten_goods_newest_first_and_end_with_404() {
    let market = Market::open();
    let goods: Vec<i64> = (0..20).map(|_| market.scheduled(1)).collect();
    let node = market.serve();
    let newest: Vec<i64> = goods.iter().rev().copied().collect();
    let visitor = node.visitor();
    for first in ["/goods/", "/goods", "/goods/?page=1", "/goods?page=", "/goods?page=0001"] {
        assert_eq!(page(&visitor, first).await, newest[..10], "{first}");
    }
    assert_eq!(page(&visitor, "/goods/?page=2").await, newest[10..]);
    for past in ["3", "99", "9007199254740993", "9223372036854775807", "99999999999999999999999"] {
        let answer = visitor.get(&format!("/goods/?page={past}")).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{past}");
    }
    for wrong in ["0", "-1", "x", "1.0", "%2B1", "1e1", "%00", "%D9%A3", "1%202"] {
        let answer = visitor.get(&format!("/goods/?page={wrong}")).await;
        assert_eq!((answer.status, answer.code(), &answer.body["field"]), (422, "invalid_value", &json!("page")));
    }
}

#[actix_web::test]
async fn a_market_without_goods_has_an_empty_list() {
    let node = TestNode::start();
    for path in ["/goods/", "/goods/?page=1&category=&status=&search=", "/goods/?category=nope", "/goods/recommend/"] {
        let answer = node.visitor().get(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "[]"), "{path}");
    }
    assert_eq!(node.visitor().get("/goods/?page=2").await.code(), "not_found");
}

#[actix_web::test]
async fn filters_combine() {
    let market = Market::open();
    let of = |title: &str, content: &str, category: &str| {
        let (title, content, category) = (title.to_owned(), content.to_owned(), category.to_owned());
        market.goods_at(1, market.now().plus_ms(3_600_000), |goods| {
            (goods.title, goods.content, goods.category) = (title, content, category);
        })
    };
    let phone = of("iPhone 15", "거의 새것", "디지털");
    let case = of("케이스", "for an IPHONE", "기타");
    let percent = of("50% off", "a_b \\ c", "기타");
    let french = of("École", "ÜBER", "책 & <글>");
    let live = market.goods_at(1, market.now(), titled("iphone 3"));
    let ended = market.ended_with(1, None, titled("old iphone"));
    let node = market.serve();
    let list = |query: &str| {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query.split('|').map(|pair| pair.split_once('=').unwrap()))
            .finish();
        let visitor = node.visitor();
        async move { page(&visitor, &format!("/goods/?{query}")).await }
    };
    assert_eq!(list("search=iphone").await, [ended, live, case, phone], "in title and content, in any case");
    assert_eq!(list("search=IPHONE|category=기타").await, [ended, live, case]);
    assert_eq!(list("search=새것").await, [phone]);
    assert_eq!(list("search=éCOLE").await, [french], "letters beyond ASCII have cases too");
    assert_eq!(list("search=über").await, [french]);
    assert_eq!(list("category=책 & <글>").await, [french]);
    for (text, found) in [("%", &[percent][..]), ("_", &[percent]), ("\\", &[percent]), ("50% o", &[percent])] {
        assert_eq!(list(&format!("search={text}")).await, found, "{text:?} is a text, not a pattern");
    }
    for nothing in ["search=%%", "search=i_hone", "search=' OR 1=1 --", "search=[a-z]", "search=*", "category=기"] {
        assert_eq!(list(nothing).await, [0i64; 0], "{nothing}");
    }
    assert_eq!(list(&format!("search={}", "가".repeat(256))).await, [0i64; 0]);
    assert_eq!(list("status=false").await, [ended]);
    assert_eq!(list("status=null|search=iphone").await, [case, phone]);
    assert_eq!(list("status=null|search=iphone|category=디지털|page=1").await, [phone]);
    assert_eq!(list("status=|search=iphone|category=|page=").await, [ended, live, case, phone], "empty means any");
    let past = node.visitor().get("/goods/?search=iphone&page=2").await;
    assert_eq!(past.code(), "not_found");
}

#[actix_web::test]
async fn fault_18_an_invalid_value_is_the_clients_error_and_named() {
    let market = Market::open();
    market.live(1);
    let node = market.serve();
    let long = format!("search={}", "x".repeat(257));
    for (path, field) in [
        ("/goods/?status=xyz", "status"),
        ("/goods/?status=True", "status"),
        ("/goods/?status=0", "status"),
        ("/goods/?status=null%00", "status"),
        ("/goods/?search=a%00b", "search"),
        (&format!("/goods/?{long}"), "search"),
        ("/goods/?category=%00", "category"),
        ("/goods/user/1/?status=xyz", "status"),
        ("/goods/user/1/?status=SELL", "status"),
        ("/goods/user/1/?page=x", "page"),
        ("/goods/1/chat/?page=0", "page"),
    ] {
        let answer = node.visitor().get(path).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_value"), "{path}: {}", answer.text);
        assert_eq!(answer.body["field"], field, "{path}");
    }
    // Bytes that are no valid text are searched for like any other.
    assert_eq!(node.visitor().get("/goods/?search=%ff%fe&category=%80").await.text, "[]");
}

#[actix_web::test]
async fn a_list_is_public_but_an_invalid_token_is_refused() {
    let market = Market::open();
    let goods = market.live(1);
    market.seed().likes(&[goods], [2]);
    let node = market.serve();
    for (client, is_like) in [(node.visitor(), false), (node.user(2), true), (node.user(3), false)] {
        for path in ["/goods/", "/goods/recommend/", "/goods/user/1/"] {
            assert_eq!(client.get(path).await.body[0]["is_like"], is_like, "{path}");
        }
    }
    let bad = node.client(Some("not-a-token".into()));
    for path in ["/goods/", "/goods/recommend/", "/goods/user/1/", &format!("/goods/{goods}/chat/")] {
        assert_eq!(bad.get(path).await.code(), "unauthorized", "{path}");
    }
}

#[actix_web::test]
async fn a_list_has_200_likers_with_the_viewer_among_them() {
    let market = Market::open();
    let goods = [market.live(1), market.live(1)];
    market.seed().users(1000..1250);
    market.seed().likes(&goods[..1], 1000..1250);
    market.seed().likes(&goods[1..], [1249]);
    // A user who has removed their like does not count.
    let off = SetLike { user: UserId::from_stored(1000), goods: GoodsId::from_stored(goods[0]), like: Like::Off };
    market.seed().write([off]);
    let node = market.serve();
    for (client, last) in [(node.visitor(), 1200), (node.user(1249), 1249), (node.user(1001), 1200)] {
        let list = client.get("/goods/").await.body;
        let mut expected: Vec<i64> = (1001..1200).collect();
        expected.push(last);
        assert_eq!(list[1]["like"], json!(expected));
        assert_eq!((&list[1]["like_count"], &list[0]["like_count"]), (&json!(249), &json!(1)));
        assert_eq!(list[0]["like"], json!([1249]));
        let page = client.get(&format!("/goods/{}/", goods[0])).await.body;
        assert_eq!((&page["like"], &page["like_count"]), (&list[1]["like"], &list[1]["like_count"]));
    }
}

#[actix_web::test]
async fn fault_16_lists_hold_no_markup() {
    let market = Market::open();
    let evil = "</script><img src=x onerror=alert(1)>&";
    let goods = market.goods_at(1, market.now(), titled(evil));
    market.lines(goods, 2, [evil.to_owned()]);
    let node = market.serve();
    let paths = ["/goods/".to_owned(), "/goods/recommend/".into(), "/goods/user/1/".into()];
    for path in paths.into_iter().chain([format!("/goods/{goods}/"), format!("/goods/{goods}/chat/")]) {
        let answer = node.visitor().get(&path).await;
        assert!(!answer.text.contains(['<', '>', '&']), "{path}: {}", answer.text);
        assert_eq!(answer.headers.get("x-content-type-options").unwrap(), "nosniff", "{path}");
        assert!(answer.body.to_string().contains(evil), "{path}: read back, it is as it was");
    }
    let refused = node.visitor().get("/goods/?status=%3Cscript%3E").await;
    assert_eq!(refused.headers.get("x-content-type-options").unwrap(), "nosniff");
    assert!(!refused.text.contains(['<', '>']), "{}", refused.text);
}

#[actix_web::test]
async fn recommended_are_ten_open_goods_with_names_of_people() {
    let market = Market::open();
    let live = market.goods_at(1, market.now(), |goods| goods.images = vec!["/media/goods/a.png".into()]);
    market.bid(live, 2, 5000, market.now());
    let scheduled = market.scheduled(3);
    market.ended(1, Some(2));
    market.ended(1, None);
    let node = market.serve();
    for path in ["/goods/recommend/", "/goods/recommend"] {
        let answer = node.user(2).get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(ids(&answer.body), [scheduled, live]);
        let mut fields: Vec<&str> = LIST_FIELDS.iter().copied().filter(|field| *field != "images").collect();
        fields.push("image");
        for goods in answer.body.as_array().unwrap() {
            has_exactly(goods, fields.clone());
        }
        let (first, second) = (&answer.body[0], &answer.body[1]);
        assert_eq!((&first["seller"], &first["buyer"], &first["image"]), (&json!("name3"), &Value::Null, &Value::Null));
        assert_eq!((&second["seller"], &second["buyer"]), (&json!("name1"), &json!("name2")));
        assert_eq!(second["image"], json!({"image": "/media/goods/a.png"}));
        assert_eq!((&second["status"], &second["high_price"]), (&json!(true), &json!(5000)));
        assert_eq!(second["created_at"], "2026-11-22T17:29:27.865026");
    }
}

#[actix_web::test]
async fn at_most_ten_goods_are_recommended() {
    let market = Market::open();
    let goods: Vec<i64> = (0..6).flat_map(|_| [market.live(1), market.scheduled(1)]).collect();
    let node = market.serve();
    let newest: Vec<i64> = goods.into_iter().rev().take(10).collect();
    assert_eq!(page(&node.visitor(), "/goods/recommend/").await, newest);
    let wrong = node.visitor().post("/goods/recommend", &json!({})).await;
    assert_eq!((wrong.status, wrong.code()), (405, "method_not_allowed"));
}

#[actix_web::test]
async fn room_lines_come_ten_a_page_newest_first() {
    let market = Market::open();
    let (goods, quiet, ended) = (market.live(1), market.scheduled(1), market.ended(1, None));
    market.lines(goods, 2, (1..=9).map(|n| format!("line {n}")));
    market.lines(ended, 1, ["other".to_owned()]);
    market.time.advance_ms(7 * 3_600_000);
    market.lines(goods, 3, (10..=11).map(|n| format!("line {n}")));
    let node = market.serve();
    let path = format!("/goods/{goods}/chat/");
    let first = node.visitor().get(&path).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let lines = first.body.as_array().unwrap();
    assert_eq!(lines.len(), 10);
    assert_eq!(
        lines[0],
        json!({"id": 12, "author": "name3", "created_at": "오전 12:29", "content": "line 11", "goods": goods})
    );
    assert_eq!(
        lines[2],
        json!({"id": 9, "author": "name2", "created_at": "오후 05:29", "content": "line 9", "goods": goods})
    );
    for line in lines {
        has_exactly(line, vec!["id", "author", "created_at", "content", "goods"]);
    }
    let second = node.visitor().get(&format!("/goods/{goods}/chat?page=2")).await.body;
    assert_eq!((second.as_array().unwrap().len(), &second[0]["content"]), (1, &json!("line 1")));
    assert_eq!(node.visitor().get(&format!("{path}?page=3")).await.code(), "not_found");
    assert_eq!(node.visitor().get(&format!("/goods/{quiet}/chat/")).await.text, "[]");
    assert_eq!(node.visitor().get(&format!("/goods/{quiet}/chat/?page=2")).await.code(), "not_found");
    for none in ["99", "0", "x", "9007199254740992"] {
        assert_eq!(node.visitor().get(&format!("/goods/{none}/chat/")).await.code(), "not_found", "{none}");
    }
    // The name is the author's current one.
    let renamed = json!({"username": "newer"});
    assert_eq!(node.admin().put("/admin/users/3", &renamed).await.status, 200);
    assert_eq!(node.visitor().get(&path).await.body[0]["author"], "newer");
}

/// Searches for the worst text in the worst texts, as often as a user may: others still can read.
#[actix_web::test]
async fn a_search_does_not_keep_others_from_reading() {
    let node = TestNode::start();
    let seller = node.user(1);
    for _ in 0..20 {
        let own = json!({"starts_at": node.now().plus_ms(3_600_000), "content": "a".repeat(60_000)});
        assert_eq!(seller.post("/goods/", &goods_body(&own)).await.status, 201);
    }
    let (search, visitor) = (format!("/goods/?search={}b", "a".repeat(255)), node.visitor());
    let searches = futures_util::future::join_all((0..30).map(|_| visitor.get(&search)));
    let others = async {
        for id in 1..=20 {
            let answer = visitor.get(&format!("/goods/{id}/")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    };
    let (searched, ()) = futures_util::join!(searches, others);
    for answer in searched {
        assert!(answer.body == json!([]) || answer.status == 503, "{}", answer.text);
    }
}
