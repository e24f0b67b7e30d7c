//! The goods' page, likes, pages of bids and alarms, and health: shapes exactly as in the contract and the origin.

use awc::http::Method;
use futures_util::future::join_all;
use handsup::test_support::domain::Timestamp;
use serde_json::{Value, json};

use crate::support::{Client, ManualTime, TestNode, eventually, goods_body, has_exactly, is_instant};

/// 08:29:27.865026 in UTC, 17:29 in Seoul.
fn some_time() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-22T08:29:27.865026Z").unwrap()
}

const PAGE: [&str; 28] = [
    "id",
    "seller",
    "buyer",
    "is_like",
    "images",
    "participants_count",
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
    "bids",
    "participants",
    "starts_at",
    "ends_at",
    "min_increment",
    "bid_seq",
    "external_id",
    "like_count",
    "watchers",
    "server_time",
];

#[actix_web::test]
async fn the_page_of_new_goods_has_the_origins_shape_and_the_new_fields() {
    let node = TestNode::with_time(ManualTime::at(some_time()), |_| {});
    let own = json!({
        "starts_at": "2026-11-22T15:30:00Z", "duration_s": 3600, "min_increment": 500, "content": "거의 새것",
        "images": ["/media/goods/a.png", "/media/goods/b.png"],
    });
    let made = node.user(1).post("/goods/", &goods_body(&own)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.headers.get("location").unwrap(), "/goods/1/");
    let expected = json!({
        "id": 1,
        "seller": {
            "id": 1, "username": "name1", "profile_image": "/media/default.jpeg", "rating_score": 40, "is_active": true,
        },
        "buyer": null, "is_like": false,
        "images": [{"image": "/media/goods/a.png"}, {"image": "/media/goods/b.png"}],
        "participants_count": 0, "watchers": 0, "title": "camera", "content": "거의 새것", "category": "기타", "status": null,
        "predict_price": 20000, "start_price": 1000, "high_price": 0,
        // Half past midnight of the next day in Seoul.
        "start_date": "2026-11-23", "start_time": "00:30", "created_at": "2026-11-22T17:29:27.865026",
        "trade_room": null, "like": [], "bids": [], "participants": [],
        "starts_at": "2026-11-22T15:30:00.000Z", "ends_at": "2026-11-22T16:30:00.000Z", "min_increment": 500,
        "bid_seq": 0, "external_id": null, "like_count": 0, "server_time": "2026-11-22T08:29:27.865Z",
    });
    assert_eq!(made.body, expected);
    has_exactly(&made.body, PAGE.to_vec());
    let shown = node.visitor().get("/goods/1/").await;
    assert_eq!((shown.status, &shown.body), (200, &expected));
    assert_eq!(shown.headers.get("content-type").unwrap(), "application/json");
    assert!(shown.text.contains("\"category\":\"기타\""), "compact, raw UTF-8: {}", shown.text);
}

#[actix_web::test]
async fn the_page_follows_the_auction() {
    let time = ManualTime::at(some_time());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.goods(1, 1000, 60).await;
    let page = || async { node.visitor().get(&format!("/goods/{goods}/")).await.body };
    time.advance_ms(1000);
    for (user, price) in [(2, 1000), (3, 1500), (2, 1700)] {
        assert_eq!(node.user(user).bid(goods, price).await.status, 201);
    }
    let live = page().await;
    has_exactly(&live, PAGE.to_vec());
    assert_eq!(live["status"], json!(true));
    assert_eq!((&live["high_price"], &live["bid_seq"], &live["trade_room"]), (&json!(1700), &json!(3), &Value::Null));
    has_exactly(&live["buyer"], vec!["id", "username", "profile_image", "rating_score", "is_active"]);
    assert_eq!((&live["buyer"]["id"], &live["buyer"]["username"]), (&json!(2), &json!("name2")));
    let bids: Vec<_> = live["bids"].as_array().unwrap().iter().map(|bid| (&bid["user"], &bid["price"])).collect();
    let (two, three) = (json!("name2"), json!("name3"));
    assert_eq!(bids, [(&two, &json!(1700)), (&three, &json!(1500)), (&two, &json!(1000))], "highest first");
    for (bid, id) in live["bids"].as_array().unwrap().iter().zip([3, 2, 1]) {
        has_exactly(bid, vec!["id", "user", "price", "goods"]);
        assert_eq!((&bid["id"], &bid["goods"]), (&json!(id), &json!(goods)));
    }
    time.advance_ms(60_000);
    let ended = eventually("the end", || async { Some(page().await).filter(|page| page["status"] == false) }).await;
    has_exactly(&ended, PAGE.to_vec());
    assert_eq!((&ended["buyer"]["id"], &ended["high_price"]), (&json!(2), &json!(1700)));
    assert!(ended["trade_room"].as_i64().unwrap() >= 1);
}

#[actix_web::test]
async fn times_have_three_digits_and_are_truncated() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:29:27.999999Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.goods(1, 0, 60).await;
    let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    for field in ["starts_at", "ends_at", "server_time"] {
        assert!(is_instant(&page[field]), "{field}: {}", page[field]);
    }
    assert_eq!(
        (&page["server_time"], &page["created_at"]),
        (&json!("2026-11-22T08:29:27.999Z"), &json!("2026-11-22T17:29:27.999999"))
    );
    let bid = node.user(2).bid(goods, 1000).await.body;
    assert_eq!(bid["created_at"], "2026-11-22T08:29:27.999Z");
    assert!(is_instant(&bid["ends_at"]));
    assert_eq!(node.user(3).bid(goods, 2000).await.status, 201);
    assert_eq!(node.visitor().history(goods).await[0]["created_at"], "2026-11-22T08:29:27.999Z");
    let alarm = &node.user(2).inbox().await[0];
    assert!(is_instant(&alarm["created_at"]) && is_instant(&alarm["ends_at"]), "{alarm}");
    let mut socket = node.user(2).socket_since(0).await;
    assert!(is_instant(&socket.next().await["server_time"]));
    // Whole milliseconds keep their zeros; microseconds always have six digits.
    time.set(Timestamp::parse_rfc3339("2026-11-22T08:30:00Z").unwrap());
    let page = node.visitor().get(&format!("/goods/{}/", node.goods(1, 0, 60).await)).await.body;
    assert_eq!(
        (&page["server_time"], &page["created_at"]),
        (&json!("2026-11-22T08:30:00.000Z"), &json!("2026-11-22T17:30:00.000000"))
    );
}

#[actix_web::test]
async fn local_times_are_in_the_zone_of_the_settings() {
    let node = TestNode::with_time(ManualTime::at(some_time()), |settings| {
        settings.auction.time_zone = "America/New_York".into()
    });
    let own = json!({"start_date": "2026-11-22", "start_time": "05:00"});
    let made = node.user(1).post("/goods/", &goods_body(&own)).await.body;
    assert_eq!(made["starts_at"], "2026-11-22T10:00:00.000Z");
    assert_eq!((&made["start_date"], &made["start_time"]), (&json!("2026-11-22"), &json!("05:00")));
    assert_eq!(made["created_at"], "2026-11-22T03:29:27.865026");
}

#[actix_web::test]
async fn goods_without_a_duration_get_that_of_the_settings() {
    let node = TestNode::with(|settings| settings.auction.duration_s = 77);
    let made = node.user(1).post("/goods/", &goods_body(&json!({"starts_at": "2030-01-01T00:00:00Z"}))).await.body;
    assert_eq!((&made["ends_at"], &made["min_increment"]), (&json!("2030-01-01T00:01:17.000Z"), &json!(1)));
}

#[actix_web::test]
async fn a_like_counts_once_and_may_be_removed_twice() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (mina, joon) = (node.user(2), node.user(3));
    let like = format!("/goods/{goods}/like");
    let page = |client: Client| async move {
        let page = client.get(&format!("/goods/{goods}/")).await.body;
        (page["like"].clone(), page["like_count"].clone(), page["is_like"].clone())
    };
    for path in [&like, &format!("{like}/")] {
        let answer = mina.put(path, &Value::Null).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    joon.like(goods).await;
    assert_eq!(page(node.user(2)).await, (json!([2, 3]), json!(2), json!(true)));
    assert_eq!(page(node.user(4)).await, (json!([2, 3]), json!(2), json!(false)));
    assert_eq!(page(node.visitor()).await, (json!([2, 3]), json!(2), json!(false)));
    for _ in 0..2 {
        let answer = mina.delete(&like).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    assert_eq!(page(node.user(2)).await, (json!([3]), json!(1), json!(false)));
    mina.like(goods).await;
    assert_eq!(page(node.user(2)).await, (json!([2, 3]), json!(2), json!(true)));
    // Sellers may like their own goods. Likes of ended or unknown goods are tested here too.
    node.user(1).like(goods).await;
    assert_eq!(node.user(2).put("/goods/99/like", &Value::Null).await.code(), "not_found");
    assert_eq!(node.user(2).delete("/goods/99/like").await.code(), "not_found");
}

#[actix_web::test]
async fn a_page_lists_200_likers_with_the_viewer_among_them() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let likers: Vec<Client> = (1000..1210).map(|id| node.user(id)).collect();
    join_all(likers.iter().map(|liker| liker.like(goods))).await;
    let path = format!("/goods/{goods}/");
    let (seen, last) = (node.visitor().get(&path).await.body, node.user(1209).get(&path).await.body);
    for page in [&seen, &last] {
        assert_eq!((page["like"].as_array().unwrap().len(), &page["like_count"]), (200, &json!(210)));
    }
    assert!(last["like"].as_array().unwrap().contains(&json!(1209)), "the viewer's own");
    assert_eq!((&last["is_like"], &seen["is_like"]), (&json!(true), &json!(false)));
}

#[actix_web::test]
async fn bids_come_page_by_page() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    for (user, price) in [(2, 1000), (3, 1100), (2, 1200), (2, 1300), (3, 1400)] {
        assert_eq!(node.user(user).bid(goods, price).await.status, 201);
    }
    let page = |query: &'static str| {
        let node = &node;
        async move {
            let page = node.visitor().get(&format!("/goods/{goods}/bids{query}")).await;
            assert_eq!(page.status, 200, "{}", page.text);
            has_exactly(&page.body, vec!["results", "next_after_seq"]);
            let rows = page.body["results"].as_array().unwrap();
            let seqs: Vec<i64> = rows.iter().map(|bid| bid["seq"].as_i64().unwrap()).collect();
            (seqs, page.body["next_after_seq"].as_i64())
        }
    };
    assert_eq!(page("").await, (vec![1, 2, 3, 4, 5], None));
    assert_eq!(page("?limit=2").await, (vec![1, 2], Some(2)));
    assert_eq!(page("/?limit=2&after_seq=2").await, (vec![3, 4], Some(4)));
    assert_eq!(page("?limit=2&after_seq=4").await, (vec![5], None));
    assert_eq!(page("?limit=5").await, (vec![1, 2, 3, 4, 5], None), "a page that just fits is the last");
    assert_eq!(page("?after_seq=5").await, (vec![], None));
    assert_eq!(page("?after_seq=0&limit=1").await, (vec![1], Some(1)));
    let first = &node.visitor().history(goods).await[0];
    has_exactly(first, vec!["bid_id", "seq", "user_id", "username", "price", "created_at"]);
    assert_eq!((&first["user_id"], &first["username"], &first["price"]), (&json!(2), &json!("name2"), &json!(1000)));
    assert!(is_instant(&first["created_at"]));
}

/// An inbox of so many alarms: user 2 likes so many goods, and all start at once.
async fn inbox_of(count: i64) -> (TestNode, Vec<i64>) {
    let time = ManualTime::at(some_time());
    let node = TestNode::with_time(time.clone(), |_| {});
    let mina = node.user(2);
    for _ in 0..count {
        mina.like(node.goods(1, 1000, 1200).await).await;
    }
    time.advance_ms(1000);
    let full =
        eventually("all alarms", || async { Some(mina.inbox().await).filter(|inbox| inbox.len() as i64 == count) });
    let ids = full.await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect();
    (node, ids)
}

#[actix_web::test]
async fn the_inbox_comes_page_by_page() {
    let (node, ids) = inbox_of(205).await;
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let mina = node.user(2);
    let page = |query: String| {
        let (mina, newest) = (&mina, ids[204]);
        async move {
            let page = mina.get(&format!("/alarms{query}")).await;
            assert_eq!(page.status, 200, "{}", page.text);
            has_exactly(&page.body, vec!["results", "unread", "last_id"]);
            assert_eq!(
                (&page.body["unread"], &page.body["last_id"]),
                (&json!(205), &json!(newest)),
                "of the whole inbox"
            );
            let rows = page.body["results"].as_array().unwrap();
            rows.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect::<Vec<_>>()
        }
    };
    let newest_first = |ids: &[i64]| ids.iter().rev().copied().collect::<Vec<_>>();
    assert_eq!(page(String::new()).await, newest_first(&ids[155..]), "50 a page");
    assert_eq!(page("/?limit=3".into()).await, newest_first(&ids[202..]));
    assert_eq!(page(format!("?before={}", ids[155])).await, newest_first(&ids[105..155]));
    assert_eq!(page(format!("?before={}&limit=2", ids[2])).await, newest_first(&ids[..2]));
    assert_eq!(page(format!("?before={}", ids[0])).await, Vec::<i64>::new());
    assert_eq!(page("?before=0".into()).await, Vec::<i64>::new());
    assert_eq!(page("?after=0".into()).await, ids[..50]);
    assert_eq!(page(format!("?after={}&limit=4", ids[9])).await, ids[10..14]);
    assert_eq!(page(format!("?after={}", ids[204])).await, Vec::<i64>::new());
    assert_eq!(page(format!("?after={}&before={}", ids[9], ids[13])).await, ids[10..13], "both ends, ascending");
    assert_eq!(page("?unread=true&limit=2".into()).await, newest_first(&ids[203..]));
    assert_eq!(page("?unread=true&after=0&limit=2".into()).await, ids[..2]);
    assert_eq!(page("?unread=false&limit=1".into()).await, [ids[204]]);
    assert_eq!(page("?limit=500".into()).await, newest_first(&ids[5..]), "at most 200");
    assert_eq!(page("?after=0&limit=99999999999999999999".into()).await, ids[..200]);
    let unread = mina.get("/alarms/unread").await.body;
    assert_eq!(unread, json!({"unread": 205, "last_id": ids[204]}));
}

#[actix_web::test]
async fn an_inbox_row_is_the_alarm_and_whether_it_is_read() {
    let (node, ids) = inbox_of(1).await;
    let row = node.user(2).inbox().await.remove(0);
    let mut of_socket = row.clone();
    assert_eq!(of_socket.as_object_mut().unwrap().remove("read"), Some(json!(false)));
    assert_eq!(node.user(2).socket().await.expect_alarm("auction_started").await, of_socket);
    let expected = json!({
        "response_type": "alram", "id": ids[0], "kind": "auction_started", "message": "경매가 시작됐어요", "goods_id": 1,
        "goods_title": "camera", "created_at": of_socket["created_at"], "ends_at": of_socket["ends_at"], "start_price": 1000,
    });
    assert_eq!(of_socket, expected);
    assert_eq!(node.user(3).get("/alarms").await.body, json!({"results": [], "unread": 0, "last_id": 0}));
    assert_eq!(node.user(3).get("/alarms/unread").await.body, json!({"unread": 0, "last_id": 0}));
}

#[actix_web::test]
async fn texts_are_in_the_language_of_the_settings() {
    let node = TestNode::with(|settings| settings.alarms.locale = handsup::test_support::domain::Locale::En);
    let goods = node.live_goods(1).await;
    assert_eq!(node.user(2).bid(goods, 1000).await.status, 201);
    assert_eq!(node.user(3).bid(goods, 2000).await.status, 201);
    let message = node.user(2).inbox().await[0]["message"].as_str().unwrap().to_owned();
    assert!(!message.is_empty() && message.is_ascii(), "{message}");
}

#[actix_web::test]
async fn a_path_answers_with_and_without_its_trailing_slash() {
    let node = TestNode::with(|settings| settings.auth.dev_login = true);
    let goods = node.live_goods(1).await;
    let admin = node.admin();
    let paths = [
        format!("/goods/{goods}"),
        format!("/goods/{goods}/bids"),
        "/alarms".into(),
        "/alarms/unread".into(),
        "/health/live".into(),
        "/health/ready".into(),
        "/metrics".into(),
        "/admin/health".into(),
    ];
    for path in paths {
        for path in [path.clone(), format!("{path}/"), format!("{path}?x=1"), format!("{path}/?x=1")] {
            assert_eq!(admin.get(&path).await.status, 200, "{path}");
        }
    }
    for end in ["", "/"] {
        let body = goods_body(&json!({"starts_at": node.now()}));
        assert_eq!(node.user(1).post(&format!("/goods{end}"), &body).await.status, 201);
        assert_eq!(
            node.user(2).post(&format!("/goods/2/bids{end}"), &json!({"price": 1000 + end.len()})).await.status,
            201
        );
        assert_eq!(node.user(2).put(&format!("/goods/1/like{end}"), &Value::Null).await.status, 204);
        assert_eq!(node.user(2).delete(&format!("/goods/1/like{end}")).await.status, 204);
        assert_eq!(admin.put(&format!("/admin/users/5{end}"), &json!({})).await.status, 200);
        assert_eq!(node.visitor().post(&format!("/dev/token{end}"), &json!({"user_id": 5})).await.status, 200);
        for name in ["alram", "alarms"] {
            let path = format!("/ws/{name}{end}?token={}", node.user(2).token());
            assert!(crate::support::Socket::open(&node.base(), &path, &[], None).await.is_ok(), "{path}");
        }
        let room = format!("/ws/auction/1{end}");
        assert!(crate::support::Socket::open(&node.base(), &room, &[], None).await.is_ok(), "{room}");
        // It exists, and belongs to others.
        let trade = format!("/ws/chat/1{end}?token={}", node.user(2).token());
        assert_eq!(crate::support::Socket::open(&node.base(), &trade, &[], None).await.err(), Some(403), "{trade}");
    }
}

/// Routes that only read answer HEAD as well; those that change something do not.
#[actix_web::test]
async fn head_is_answered_wherever_get_only_reads() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let user = node.user(2);
    for path in [
        "/goods/",
        &format!("/goods/{goods}/"),
        "/goods/recommend/",
        "/chat/",
        "/alarms",
        "/health/live",
        "/media/default.jpeg",
    ] {
        let answer = user.send(Method::HEAD, path, None).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
        assert!(answer.headers.contains_key("content-type"), "{path}");
    }
    for path in [format!("/goods/like/{goods}/"), format!("/chat/goods/{goods}/")] {
        assert_eq!(user.send(Method::HEAD, &path, None).await.status, 405, "{path}");
    }
    assert_eq!(user.get(&format!("/goods/{goods}/")).await.body["is_like"], false);
}

#[actix_web::test]
async fn the_health_page_reports_on_every_part() {
    // The figures are one node's.
    let node = TestNode::alone(|_| {});
    for path in ["/health/live", "/health/ready"] {
        let answer = node.visitor().get(path).await;
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("pass")), "{path}");
    }
    let sockets =
        [node.user(2).socket_since(0).await, node.user(2).socket_since(0).await, node.user(3).socket_since(0).await];
    let admin = node.admin();
    let counted = |sessions: i64, users: i64| {
        let admin = &admin;
        async move {
            eventually("the count", || async {
                let health = admin.get("/admin/health").await;
                let counts = &health.body["checks"]["sessions"];
                (counts["sessions"] == sessions && counts["users"] == users).then_some(health)
            })
            .await
        }
    };
    let health = counted(3, 2).await;
    assert_eq!(health.status, 200);
    assert_eq!(health.headers.get("content-type").unwrap(), "application/health+json");
    has_exactly(&health.body, vec!["status", "version", "node", "uptime_s", "time", "checks"]);
    assert_eq!(health.body["status"], "pass", "{}", health.text);
    assert_eq!(health.body["version"], env!("CARGO_PKG_VERSION"));
    assert!(health.body["node"].is_string() && health.body["uptime_s"].as_i64().unwrap() >= 0);
    assert!(is_instant(&health.body["time"]));
    let parts = vec!["database", "ledger", "alarm_hub", "auction_clock", "bid_actors", "bus", "sessions"];
    has_exactly(&health.body["checks"], parts.clone());
    for part in parts {
        assert_eq!(health.body["checks"][part]["status"], "pass", "{part}");
    }
    for socket in sockets {
        socket.close().await;
    }
    counted(0, 0).await;
}
