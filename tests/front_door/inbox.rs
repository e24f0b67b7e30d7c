//! The inbox: alarms that are read, on all devices; muted kinds; alarms that no longer hold; old alarms.

use serde_json::{Value, json};

use crate::support::{Client, ManualTime, TestNode, database, eventually, outbid_times};
use handsup::test_support::domain::Timestamp;

/// Outbids user 2 so many times; returns the ids in their inbox.
async fn outbid_ids(node: &TestNode, times: i64) -> Vec<i64> {
    outbid_times(node, times).await;
    node.user(2).inbox().await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect()
}

async fn unread_ids(user: &Client) -> Vec<i64> {
    let page = user.get("/alarms?after=0&unread=true&limit=200").await;
    page.body["results"].as_array().unwrap().iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect()
}

#[actix_web::test]
async fn reading_on_one_device_is_sent_to_all_devices() {
    let node = TestNode::start();
    let user = node.user(2);
    let (mut phone, mut laptop) = (user.socket_since(0).await, user.socket_since(0).await);
    for socket in [&mut phone, &mut laptop] {
        assert_eq!(socket.next().await["response_type"], "hello");
    }
    let ids = outbid_ids(&node, 4).await;
    for socket in [&mut phone, &mut laptop] {
        for _ in &ids {
            socket.expect_alarm("outbid").await;
        }
    }
    // Over the socket.
    phone.send_json(&json!({"type": "read", "up_to": ids[1]})).await;
    let unread = json!({"response_type": "unread", "unread": 2, "last_id": ids[3]});
    assert_eq!([phone.next().await, laptop.next().await], [unread.clone(), unread]);
    // Over HTTP.
    let answer = user.post("/alarms/read", &json!({"ids": [ids[3], 999_999]})).await;
    assert_eq!((answer.status, answer.body), (200, json!({"unread": 1})));
    let unread = json!({"response_type": "unread", "unread": 1, "last_id": ids[3]});
    assert_eq!([phone.next().await, laptop.next().await], [unread.clone(), unread]);
    assert_eq!(unread_ids(&user).await, [ids[2]]);
    assert_eq!(user.get("/alarms/unread").await.body, json!({"unread": 1, "last_id": ids[3]}));
    // It stays read after a restart, and no other inbox has changed.
    let node = node.restart();
    assert_eq!(unread_ids(&node.user(2)).await, [ids[2]]);
    let read: Vec<Value> = node.user(2).inbox().await.iter().map(|alarm| alarm["read"].clone()).collect();
    assert_eq!(read, [true, true, false, true]);
}

#[actix_web::test]
async fn alarms_that_do_not_exist_yet_cannot_be_read_in_advance() {
    let node = TestNode::start();
    let user = node.user(2);
    assert_eq!(user.post("/alarms/read", &json!({"up_to": 1_000_000})).await.body, json!({"unread": 0}));
    outbid_times(&node, 1).await;
    assert_eq!(user.get("/alarms/unread").await.body["unread"], 1);
    assert_eq!(user.post("/alarms/read", &json!({"up_to": 1_000_000})).await.body, json!({"unread": 0}));
}

#[actix_web::test]
async fn invalid_requests_to_read_or_mute_are_refused() {
    let node = TestNode::start();
    let user = node.user(2);
    for (body, status) in [
        (json!({}), 400),
        (json!([]), 400),
        (json!({"up_to": 1, "ids": [1]}), 400),
        (json!({"up_to": "1"}), 422),
        (json!({"up_to": -1}), 422),
        (json!({"ids": 1}), 422),
        (json!({"ids": ["x"]}), 422),
        (json!({"ids": (0..1001).collect::<Vec<_>>()}), 422),
    ] {
        assert_eq!(user.post("/alarms/read", &body).await.status, status, "{body}");
    }
    for (body, status) in [
        (json!({}), 400),
        (json!([1]), 400),
        (json!({"up_to": "1"}), 422),
        (json!({"up_to": -1}), 422),
        (json!({"up_to": 1.5}), 422),
        (json!({"up_to": null}), 422),
        (json!({"up_to": [1]}), 422),
    ] {
        assert_eq!(user.post("/alarms/ack", &body).await.status, status, "{body}");
    }
    assert_eq!(node.visitor().post("/alarms/ack", &json!({"up_to": 1})).await.status, 401);
    for (body, status) in [
        (json!([]), 400),
        (json!({"muted": "outbid"}), 422),
        (json!({"muted": ["alert"]}), 422),
        (json!({"muted": [1]}), 422),
        (json!({"muted": null}), 422),
        (json!({"locale": "fr"}), 422),
        (json!({"locale": "EN"}), 422),
        (json!({"locale": ""}), 422),
        (json!({"locale": 1}), 422),
        (json!({"locale": ["en"]}), 422),
        (json!({"muted": ["outbid"], "locale": false}), 422),
        (json!({"muted": ["alert"], "locale": "en"}), 422),
    ] {
        assert_eq!(user.put("/alarms/preferences", &body).await.status, status, "{body}");
    }
    for path in ["/alarms/read", "/alarms/preferences"] {
        assert_eq!(node.visitor().post(path, &json!({})).await.status, if path.ends_with("read") { 401 } else { 405 });
    }
    assert_eq!(node.visitor().put("/alarms/preferences", &json!({"locale": "en"})).await.status, 401);
    assert_eq!(user.get("/alarms/preferences").await.body, json!({"muted": [], "locale": null}), "nothing half done");
}

#[actix_web::test]
async fn muted_kinds_are_stored_as_read_and_never_sent() {
    let node = TestNode::start();
    let user = node.user(2);
    assert_eq!(user.get("/alarms/preferences").await.body, json!({"muted": [], "locale": null}));
    let set = user.put("/alarms/preferences", &json!({"muted": ["outbid", "auction_started", "outbid"]})).await;
    assert_eq!((set.status, &set.body), (200, &json!({"muted": ["outbid", "auction_started"], "locale": null})));
    let mut live = user.socket_since(0).await;
    assert_eq!(live.next().await["response_type"], "hello");
    let muted = outbid_ids(&node, 2).await;
    assert_eq!(muted.len(), 2, "listed");
    assert_eq!(user.get("/alarms/unread").await.body, json!({"unread": 0, "last_id": muted[1]}));
    // No longer muted: from now on alarms of this kind are sent, live and in every replay.
    let set = user.put("/alarms/preferences", &json!({"muted": []})).await;
    assert_eq!(set.body, json!({"muted": [], "locale": null}));
    let all = outbid_ids(&node, 1).await;
    let (mut since, mut old) = (user.socket_since(0).await, user.socket().await);
    assert_eq!(since.next().await["response_type"], "hello");
    for socket in [&mut live, &mut since, &mut old] {
        assert_eq!(socket.next().await["id"], all[2]);
    }
}

#[actix_web::test]
async fn a_superseded_outbid_is_read_listed_and_not_replayed() {
    let node = TestNode::start();
    let (user, other) = (node.user(2), node.user(3));
    let [again, still] = [node.live_goods(1).await, node.live_goods(1).await];
    for goods in [again, still] {
        assert_eq!(user.bid(goods, 1000).await.status, 201);
        assert_eq!(other.bid(goods, 2000).await.status, 201);
    }
    assert_eq!(user.get("/alarms/unread").await.body["unread"], 2);
    // The user leads again, so the outbid no longer holds.
    assert_eq!(user.bid(again, 3000).await.status, 201);
    assert_eq!(user.get("/alarms/unread").await.body["unread"], 1);
    let inbox = user.inbox().await;
    assert_eq!((&inbox[0]["superseded"], &inbox[0]["read"]), (&json!(true), &json!(true)));
    assert_eq!((inbox[1].get("superseded"), &inbox[1]["read"]), (None, &json!(false)));
    let mut old = user.socket().await;
    assert_eq!(old.next().await["goods_id"], still, "the replay leaves it out");
    let mut since = user.socket_since(0).await;
    assert_eq!(since.next().await["unread"], 1);
    let (first, second) = (since.next().await, since.next().await);
    assert_eq!((&first["goods_id"], &first["superseded"]), (&json!(again), &json!(true)));
    assert_eq!((&second["goods_id"], second.get("superseded")), (&json!(still), None));
    // Outbid once more: the new alarm holds, the old one stays superseded.
    assert_eq!(other.bid(again, 4000).await.status, 201);
    let holds: Vec<bool> = user.inbox().await.iter().map(|alarm| alarm.get("superseded").is_none()).collect();
    assert_eq!(holds, [false, true, true]);
}

#[actix_web::test]
async fn the_end_of_an_auction_supersedes_its_outbids() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.goods(1, 0, 60).await;
    let user = node.user(2);
    assert_eq!(user.bid(goods, 1000).await.status, 201);
    assert_eq!(node.user(3).bid(goods, 2000).await.status, 201);
    time.advance_ms(60_000);
    eventually("the end", || async { (user.inbox().await.len() == 2).then_some(()) }).await;
    let inbox = user.inbox().await;
    assert_eq!((&inbox[0]["kind"], &inbox[0]["superseded"]), (&json!("outbid"), &json!(true)));
    assert_eq!((&inbox[1]["kind"], &inbox[1]["read"]), (&json!("auction_lost"), &json!(false)));
    assert_eq!(user.socket().await.next().await["kind"], "auction_lost");
}

#[actix_web::test]
async fn old_alarms_are_removed_and_young_ones_stay() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |settings| settings.alarms.keep_days = 30);
    let old = outbid_ids(&node, 3).await;
    time.advance_ms(20 * 86_400_000);
    let young = outbid_ids(&node, 2).await.split_off(3);
    assert!(young.len() >= 2);
    // Retention runs every hour: alarms older than 30 days are removed.
    time.advance_ms(11 * 86_400_000);
    let left = eventually("the old ones go", || async {
        let left: Vec<i64> = node.user(2).inbox().await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect();
        (!old.iter().any(|id| left.contains(id))).then_some(left)
    })
    .await;
    // These auctions may have ended since; no young alarm is gone.
    assert!(young.iter().all(|id| left.contains(id)), "{left:?} without some of {young:?}");
}

#[actix_web::test]
async fn the_inbox_is_paged_in_both_directions() {
    let node = TestNode::start();
    let ids = outbid_ids(&node, 7).await;
    let user = node.user(2);
    let page = async |query: &str| -> Vec<i64> {
        let body = user.get(&format!("/alarms?{query}")).await.body;
        body["results"].as_array().unwrap().iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(page("limit=3").await, [ids[6], ids[5], ids[4]]);
    assert_eq!(page(&format!("limit=3&before={}", ids[4])).await, [ids[3], ids[2], ids[1]]);
    assert_eq!(page(&format!("limit=2&after={}", ids[1])).await, [ids[2], ids[3]]);
    assert_eq!(page(&format!("after={}&before={}", ids[1], ids[4])).await, [ids[2], ids[3]]);
    assert_eq!(page(&format!("after={}", ids[6])).await, [0; 0]);
}

/// The backlog of somebody who was away for months, written directly into the database.
fn write_backlog(database: &std::path::Path, user: i64, alarms: i64) {
    let backlog = format!(
        "BEGIN; WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {alarms}) \
         INSERT INTO alarms (id, event_id, kind, goods_id, goods_title, created_at, high_price) \
         SELECT id, id, 'auction_lost', 1, 'camera', 1800000000000000 + id, 1000 FROM n; \
         INSERT INTO inbox (user_id, alarm_id, is_read, muted) SELECT {user}, id, FALSE, FALSE FROM alarms; \
         UPDATE id_counters SET alarm = {alarms}; COMMIT;"
    );
    database::run(database, &backlog);
}

#[actix_web::test]
async fn a_backlog_of_a_hundred_thousand_comes_once_and_in_order_before_live_alarms() {
    const BACKLOG: i64 = 100_000;
    let mut node = TestNode::start();
    node.user(2).get("/alarms").await;
    node.stop();
    write_backlog(&database::default_path(node.folder()), 2, BACKLOG);
    let node = node.restart();
    let user = node.user(2);
    assert_eq!(user.get("/alarms/unread").await.body, json!({"unread": BACKLOG, "last_id": BACKLOG}));
    let mut socket = user.socket_since(0).await;
    assert_eq!(socket.next().await["unread"], BACKLOG);
    // While the backlog is sent, the user is outbid three times.
    for _ in 0..3 {
        let goods = node.live_goods(1).await;
        assert_eq!(user.bid(goods, 1000).await.status, 201);
        assert_eq!(node.user(3).bid(goods, 1001).await.status, 201);
    }
    for id in 1..=BACKLOG + 3 {
        assert_eq!(socket.next().await["id"], id);
    }
    assert_eq!(user.post("/alarms/read", &json!({"up_to": BACKLOG})).await.body, json!({"unread": 3}));
}
