//! Who got the alarm of an event: `GET /admin/alarms/{event_id}/deliveries`, for alarms of every kind.

use handsup::test_support::domain::Timestamp;
use serde_json::{Value, json};

use crate::support::{
    Client, ManualTime, Market, TestNode, alarm_id, database, eventually, has_exactly, is_instant, outbid_times,
};

/// The deliveries of an event, with this query.
async fn deliveries(admin: &Client, event: i64, query: &str) -> Vec<Value> {
    let answer = admin.get(&format!("/admin/alarms/{event}/deliveries{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    has_exactly(&answer.body, vec!["results"]);
    answer.body["results"].as_array().unwrap().clone()
}

fn users(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["user_id"].as_i64().unwrap()).collect()
}

/// Raises a notice to these users; returns its event.
async fn raise(admin: &Client, users: &[i64], key: Option<&str>) -> i64 {
    let body = json!({"to": {"user_ids": users}, "message": "x", "collapse_key": key});
    let answer = admin.post("/admin/alarms", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.body["event_id"].as_i64().unwrap()
}

#[actix_web::test]
async fn a_delivery_says_whether_its_alarm_was_received_read_or_superseded() {
    let node = TestNode::start();
    let admin = node.admin();
    let event = raise(&admin, &[2, 3, 4, 70], Some("k")).await;
    let rows = deliveries(&admin, event, "").await;
    assert_eq!(users(&rows), [2, 3, 4, 70]);
    for row in &rows {
        has_exactly(row, vec!["user_id", "alarm_id", "stored_at", "received", "read", "superseded"]);
        assert_eq!((&row["alarm_id"], is_instant(&row["stored_at"])), (&json!(event), true));
        assert_eq!((&row["received"], &row["read"], &row["superseded"]), (&json!(false), &json!(false), &json!(false)));
    }
    // User 2 proves the receipt, 3 reads it, 4 gets the next one of the key.
    let mut socket = node.user(2).socket_since(0).await;
    socket.expect_frame("hello").await;
    socket.expect_alarm("notice").await;
    socket.send_json(&json!({"type": "ack", "up_to": event})).await;
    node.wait_for_receipt(2, event).await;
    assert_eq!(node.user(3).post("/alarms/read", &json!({"up_to": event})).await.status, 200);
    let next = raise(&admin, &[4], Some("k")).await;
    let state = |row: &Value| ["received", "read", "superseded"].map(|field| row[field] == true);
    let rows = deliveries(&admin, event, "").await;
    let states: Vec<[bool; 3]> = rows.iter().map(state).collect();
    assert_eq!(states, [[true, false, false], [false, true, false], [false, true, true], [false; 3]]);
    assert_eq!(users(&deliveries(&admin, next, "").await), [4]);
}

#[actix_web::test]
async fn deliveries_are_paged_by_user_over_all_chunks_of_a_large_audience() {
    const USERS: i64 = 2000;
    let node = TestNode::start();
    let admin = node.admin();
    // Every third number, so that `after` may lie between two of them.
    let listed: Vec<i64> = (1..=USERS).map(|at| at * 3).collect();
    let event = raise(&admin, &listed, None).await;
    let database = database::default_path(node.folder());
    eventually("all have it", || async { (database::count(&database, "inbox") == USERS).then_some(()) }).await;
    assert!(database::count(&database, "alarms") > 2, "in chunks");
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = users(&deliveries(&admin, event, &format!("?after={after}&limit=200")).await);
        let Some(last) = page.last() else { break };
        assert!(page.len() == 200 || all.len() + page.len() == listed.len());
        after = *last;
        all.extend(page);
    }
    assert_eq!(all, listed);
    assert_eq!(users(&deliveries(&admin, event, "").await), listed[..50]);
    assert_eq!(users(&deliveries(&admin, event, "?after=760&limit=2").await), [762, 765]);
    assert_eq!(users(&deliveries(&admin, event, "?limit=100000").await).len(), 200);
    // One user, of the first chunk, of a later one, of none.
    for (query, expected) in [
        ("?user_id=3", vec![3]),
        ("?user_id=6000", vec![6000]),
        ("?user_id=751&limit=5", vec![]),
        ("?user_id=9223372036854775807", vec![]),
        ("?user_id=0", vec![]),
        ("?user_id=3&after=2", vec![3]),
        ("?user_id=3&after=3", vec![]),
        ("?after=6000", vec![]),
        ("?after=99999999999999999999", vec![]),
    ] {
        assert_eq!(users(&deliveries(&admin, event, query).await), expected, "{query}");
    }
    // A client sees the id of its own alarm only, so that stands for the event, too.
    let later = &deliveries(&admin, event, "?user_id=6000").await[0];
    assert!(alarm_id(&json!({"id": later["alarm_id"]})) > event);
    let by_alarm = deliveries(&admin, later["alarm_id"].as_i64().unwrap(), "?limit=1").await;
    assert_eq!(users(&by_alarm), [3]);
}

#[actix_web::test]
async fn events_of_every_kind_have_deliveries() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.goods(1, 1000, 600).await;
    node.user(4).like(goods).await;
    time.advance_ms(1000);
    for (user, price) in [(2, 1000), (3, 2000), (2, 3000)] {
        eventually("the bid", || async { (node.user(user).bid(goods, price).await.status == 201).then_some(()) }).await;
    }
    time.advance_ms(540_000);
    eventually("the last minute", || async { (node.user(4).inbox().await.len() == 2).then_some(()) }).await;
    time.advance_ms(60_000);
    eventually("the end", || async { (node.user(1).inbox().await.len() == 1).then_some(()) }).await;
    let mut found: Vec<(String, Vec<i64>)> = Vec::new();
    for reader in 1..=4 {
        for alarm in node.user(reader).inbox().await {
            let rows = deliveries(&node.admin(), alarm_id(&alarm), "").await;
            let own = rows.iter().find(|row| row["user_id"] == reader).unwrap();
            assert_eq!(own["alarm_id"], alarm["id"]);
            assert_eq!(own["stored_at"], alarm["created_at"]);
            assert_eq!((&own["read"], own["superseded"] == true), (&alarm["read"], alarm.get("superseded").is_some()));
            found.push((alarm["kind"].as_str().unwrap().to_owned(), users(&rows)));
        }
    }
    found.sort();
    found.dedup();
    let expected = [
        ("auction_lost", vec![3]),
        ("auction_sold", vec![1]),
        ("auction_started", vec![4]),
        ("auction_won", vec![2]),
        ("ending_soon", vec![2, 3, 4]),
        ("outbid", vec![2]),
        ("outbid", vec![3]),
    ];
    assert_eq!(found, expected.map(|(kind, users)| (kind.to_owned(), users)));
}

/// The later chunks of a fan-out may be stored long after the first, if the service was away.
#[actix_web::test]
async fn a_delivery_says_when_its_own_alarm_was_stored() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let (admin, now) = (node.admin(), node.now());
    let event = raise(&admin, &(1..=600).collect::<Vec<_>>(), None).await;
    let database = database::default_path(node.folder());
    eventually("all have it", || async { (database::count(&database, "inbox") == 600).then_some(()) }).await;
    let stored_at =
        async |user: i64| deliveries(&admin, event, &format!("?user_id={user}")).await[0]["stored_at"].take();
    assert_eq!([stored_at(1).await, stored_at(600).await], [json!(now), json!(now)]);
    let late = now.plus_ms(5000);
    database::run(&database, &format!("UPDATE alarms SET stored_at = {} WHERE id > {event}", late.micros()));
    assert_eq!([stored_at(1).await, stored_at(600).await], [json!(now), json!(late)]);
}

/// A database of the version before has no receivers in its alarms.
#[actix_web::test]
async fn alarms_of_an_older_version_have_deliveries() {
    let mut node = TestNode::start();
    outbid_times(&node, 2).await;
    let event = raise(&node.admin(), &(100..=110).collect::<Vec<_>>(), None).await;
    node.stop();
    let (version, down) = if database::on_sqlite_only() {
        ("20261126000011", include_str!("../../migrations/sqlite/2026-11-26-000011_notices/down.sql"))
    } else {
        ("20261126000007", include_str!("../../migrations/postgres/2026-11-26-000007_notices/down.sql"))
    };
    let undo = format!("{down} DELETE FROM __diesel_schema_migrations WHERE version = '{version}'");
    database::run(&database::default_path(node.folder()), &undo);
    let node = node.restart();
    let admin = node.admin();
    assert_eq!(users(&deliveries(&admin, event, "").await), (100..=110).collect::<Vec<_>>());
    for alarm in node.user(2).inbox().await {
        assert_eq!(users(&deliveries(&admin, alarm_id(&alarm), "").await), [2]);
    }
    assert_eq!(users(&deliveries(&admin, event, "?after=109").await), [110]);
}

#[actix_web::test]
async fn only_admins_see_deliveries_and_what_is_no_event_is_not_found() {
    let node = TestNode::start();
    let admin = node.admin();
    outbid_times(&node, 1).await;
    let path = "/admin/alarms/1/deliveries";
    assert_eq!(node.visitor().get(path).await.code(), "unauthorized");
    assert_eq!(node.user(2).get(path).await.code(), "forbidden");
    assert_eq!(users(&deliveries(&admin, 1, "").await), [2]);
    assert_eq!(admin.post(path, &json!({})).await.status, 405);
    for event in ["0", "999", "-1", "x", "1.0", "01", "9007199254740992", "99999999999999999999", "%00", "1%2F"] {
        assert_eq!(admin.get(&format!("/admin/alarms/{event}/deliveries")).await.code(), "not_found", "{event}");
    }
    for query in ["user_id=x", "user_id=-1", "user_id=", "after=x", "after=1.5", "limit=0", "limit=x"] {
        assert_eq!(admin.get(&format!("{path}?{query}")).await.code(), "invalid_value", "{query}");
    }
}

/// The seller gets it too, wherever their id stands among those of a large audience.
#[actix_web::test]
async fn the_deliveries_of_a_cancel_are_in_order_with_the_seller_among_them() {
    for seller in [1, 1300, 9000] {
        let market = Market::open();
        let goods = market.live(seller);
        let likers: Vec<i64> = (1000..1600).filter(|user| user % 2 == 0 || *user == seller + 1).collect();
        market.seed().likes(&[goods], likers.clone());
        let node = market.serve();
        let admin = node.admin();
        assert_eq!(admin.post(&format!("/admin/goods/{goods}/cancel"), &json!({})).await.status, 200);
        let mut expected = likers;
        expected.push(seller);
        expected.sort_unstable();
        expected.dedup();
        let database = database::default_path(node.folder());
        let of_cancel = "inbox WHERE alarm_id IN (SELECT id FROM alarms WHERE kind = 'auction_cancelled')";
        let all = || async { (database::count(&database, of_cancel) == expected.len() as i64).then_some(()) };
        eventually("all have it", all).await;
        let inbox = node.user(seller).inbox().await;
        assert_eq!(inbox.iter().filter(|alarm| alarm["kind"] == "auction_cancelled").count(), 1);
        let event = alarm_id(inbox.iter().find(|alarm| alarm["kind"] == "auction_cancelled").unwrap());
        let mut found = users(&deliveries(&admin, event, "?limit=200").await);
        found.extend(users(&deliveries(&admin, event, &format!("?limit=200&after={}", found[199])).await));
        assert_eq!(found, expected, "seller {seller}");
    }
}
