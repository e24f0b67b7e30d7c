//! `PUT /admin/goods/by-external-id/{external_id}`: goods by an id of the marketplace's backend; and pictures elsewhere.

use serde_json::{Value, json};

use crate::{
    audit::audit,
    clock::{kinds, noon, page},
    nodes_rooms::next_event,
    support::{Answer, Client, ManualTime, Raw, TestNode, goods_body},
};

async fn put(admin: &Client, id: &str, body: &Value) -> Answer {
    admin.put(&format!("/admin/goods/by-external-id/{id}"), body).await
}

/// Goods of user 1 that start this long after noon and last 100 s.
fn starting_in(ms: i64) -> Value {
    goods_body(&json!({"seller_id": 1, "starts_at": noon().plus_ms(ms), "duration_s": 100}))
}

fn with(body: &Value, own: &Value) -> Value {
    let mut body = body.clone();
    for (key, value) in own.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[actix_web::test]
async fn the_backend_creates_goods_by_its_own_id_and_repeats_itself_without_harm() {
    let time = ManualTime::at(noon());
    let node = TestNode::with_time(time, |_| {});
    let admin = node.admin().retrying();
    let body = starting_in(10_000);
    let made = put(&admin, "lot%2F7", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.body["id"].as_i64().unwrap();
    assert_eq!(made.headers.get("location").unwrap(), &format!("/goods/{id}/"));
    assert_eq!((&made.body["external_id"], &made.body["seller"]["username"]), (&json!("lot/7"), &json!("user1")));
    assert_eq!(made.body["ends_at"], json!(noon().plus_ms(110_000)));
    let again = put(&admin, "lot%2F7", &body).await;
    assert_eq!((again.status, &again.body), (200, &made.body));
    assert!(again.headers.get("location").is_none());
    assert_eq!(put(&admin, "lot%2F7", &json!({})).await.body, made.body, "what is left out stays");
    assert_eq!(page(&node, id).await, made.body);
    // Another id is other goods; those of a seller have none.
    let other = put(&admin, "lot%2F8", &body).await;
    assert_eq!((other.status, other.body["id"].as_i64() == Some(id)), (201, false));
    let own = node.user(1).post("/goods/", &with(&body, &json!({"external_id": "lot/7"}))).await;
    assert_eq!((own.status, &own.body["external_id"]), (201, &Value::Null), "{}", own.text);
    let list = node.visitor().get("/goods/").await.body;
    let ids: Vec<&Value> = list.as_array().unwrap().iter().map(|goods| &goods["external_id"]).collect();
    assert_eq!(ids, [&Value::Null, &json!("lot/8"), &json!("lot/7")]);
    // Both calls that changed something are kept, without what anybody wrote.
    let kept = audit(&node).await;
    let kept: Vec<_> = kept.iter().map(|entry| (&entry["action"], &entry["target_id"], &entry["fields"])).collect();
    let (create, fields) = (json!("goods.create"), json!(["external_id", "seller_id"]));
    assert_eq!(kept, [(&create, &json!(id), &fields), (&create, &other.body["id"], &fields)]);
    // Deleted goods are gone, and their id is free.
    assert_eq!(node.user(1).delete(&format!("/goods/{id}/")).await.status, 204);
    assert_eq!(put(&admin, "lot%2F7", &body).await.status, 201);
}

#[actix_web::test]
async fn goods_take_everything_before_their_start() {
    let time = ManualTime::at(noon());
    let node = TestNode::with_time(time.clone(), |_| {});
    let admin = node.admin().retrying();
    let earlier = put(&admin, "a", &starting_in(50_000)).await.body["id"].as_i64().unwrap();
    let later = put(&admin, "b", &starting_in(10_000)).await.body["id"].as_i64().unwrap();
    node.user(5).like(earlier).await;
    let all = json!({
        "seller_id": 7, "title": "tripod", "content": "of wood", "category": "가구", "start_price": 5, "predict_price": 6,
        "min_increment": 3, "starts_at": noon().plus_ms(10_000), "duration_s": 60, "images": ["/media/b.png", "/media/a.png"],
    });
    let changed = put(&admin, "a", &all).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    for (field, value) in all.as_object().unwrap() {
        match field.as_str() {
            "seller_id" => assert_eq!(changed.body["seller"]["id"], *value),
            "duration_s" => assert_eq!(changed.body["ends_at"], json!(noon().plus_ms(70_000))),
            "images" => {
                assert_eq!(changed.body["images"], json!([{"image": "/media/b.png"}, {"image": "/media/a.png"}]))
            }
            _ => assert_eq!(changed.body[field], *value, "{field}"),
        }
    }
    assert_eq!(page(&node, earlier).await, changed.body);
    assert_eq!(put(&admin, "b", &json!({"starts_at": noon().plus_ms(50_000)})).await.status, 200);

    // The clock of each node goes by the new times.
    time.set(noon().plus_ms(10_000));
    node.wait_until_settled(noon().plus_ms(10_000)).await;
    assert_eq!(
        (page(&node, earlier).await["status"].clone(), page(&node, later).await["status"].clone()),
        (json!(true), Value::Null)
    );
    assert_eq!(kinds(&node.user(5), earlier).await, ["auction_started"]);
    assert_eq!(node.user(5).inbox().await[0]["goods_title"], "tripod");
    assert_eq!(node.user(1).bid(earlier, 5).await.status, 201, "not the seller any more");
    assert_eq!(node.user(7).bid(earlier, 8).await.code(), "seller_cannot_bid");
    assert_eq!(node.user(2).bid(earlier, 7).await.body["minimum"], 8);
    time.set(noon().plus_ms(50_000));
    node.wait_until_settled(noon().plus_ms(50_000)).await;
    assert_eq!(page(&node, later).await["status"], true);
}

/// What a node remembers of goods never refuses a bid that is right since a change.
#[actix_web::test]
async fn a_price_that_was_lowered_before_the_start_refuses_nobody() {
    let time = ManualTime::at(noon());
    let node = TestNode::with_time(time.clone(), |_| {});
    let id = put(&node.admin(), "a", &starting_in(10_000)).await.body["id"].as_i64().unwrap();
    assert_eq!(node.user(2).bid(id, 500).await.code(), "auction_not_started");
    assert_eq!(put(&node.admin(), "a", &json!({"start_price": 100})).await.status, 200);
    time.set(noon().plus_ms(10_000));
    let answer = node.user(2).bid(id, 500).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[actix_web::test]
async fn a_live_auction_takes_only_its_description_and_an_ended_one_nothing() {
    let time = ManualTime::at(noon());
    let node = TestNode::with_time(time.clone(), |settings| settings.auction.soft_close_s = 20);
    let admin = node.admin().retrying();
    let body = starting_in(0);
    let id = put(&admin, "a", &body).await.body["id"].as_i64().unwrap();
    // A bid has moved the end: the length that the backend has set is still the same.
    time.set(noon().plus_ms(90_000));
    node.wait_until_settled(noon().plus_ms(90_000)).await;
    assert_eq!(node.user(2).bid(id, 1000).await.body["ends_at"], json!(noon().plus_ms(110_000)));
    let before = page(&node, id).await;
    assert_eq!(put(&admin, "a", &body).await.status, 200, "unchanged, though the start is long past");
    for own in [
        json!({"start_price": 1}),
        json!({"predict_price": 1}),
        json!({"min_increment": 2}),
        json!({"seller_id": 9}),
        json!({"duration_s": 101}),
        json!({"starts_at": noon().plus_ms(1)}),
        json!({"starts_at": noon().plus_ms(500_000), "title": "half"}),
    ] {
        let answer = put(&admin, "a", &with(&body, &own)).await;
        assert_eq!((answer.status, answer.code()), (409, "auction_started"), "{own}: {}", answer.text);
    }
    assert_eq!(page(&node, id).await, before, "nothing is half done");
    let own = json!({"title": "tripod", "content": "of wood", "category": "가구", "images": ["/media/a.png"]});
    let changed = put(&admin, "a", &with(&body, &own)).await;
    assert_eq!((changed.status, &changed.body["title"]), (200, &json!("tripod")), "{}", changed.text);
    assert_eq!((&changed.body["high_price"], &changed.body["bid_seq"]), (&json!(1000), &json!(1)));
    assert_eq!(node.user(3).bid(id, 2000).await.status, 201);
    assert_eq!(node.user(2).inbox().await.pop().unwrap()["goods_title"], "tripod");

    time.set(noon().plus_ms(200_000));
    node.wait_until_settled(noon().plus_ms(200_000)).await;
    let answer = put(&admin, "a", &json!({"title": "camera"})).await;
    assert_eq!((answer.status, answer.code()), (409, "auction_ended"));
    let same = put(&admin, "a", &with(&body, &own)).await;
    assert_eq!((same.status, &same.body["title"], &same.body["status"]), (200, &json!("tripod"), &json!(false)));
    let kept = audit(&node).await;
    let fields: Vec<&Value> = kept.iter().map(|entry| &entry["fields"]).collect();
    assert_eq!(fields[1..], [&json!(["title", "content", "category", "images"])]);
}

#[actix_web::test]
async fn wrong_goods_of_the_backend_change_nothing() {
    let time = ManualTime::at(noon());
    let node = TestNode::with_time(time, |_| {});
    let admin = node.admin().retrying();
    let body = starting_in(10_000);
    assert_eq!(put(&node.visitor(), "a", &body).await.code(), "unauthorized");
    assert_eq!(put(&node.user(1), "a", &body).await.code(), "forbidden");
    for missing in ["seller_id", "title", "start_price", "starts_at"] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove(missing);
        let answer = put(&admin, "a", &body).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_body"), "{missing}: {}", answer.text);
        assert!(answer.text.contains(missing), "{}", answer.text);
    }
    assert_eq!(put(&admin, "a", &json!([])).await.code(), "invalid_body");
    for id in [&"x".repeat(129), "a%0Ab", "%00"] {
        let answer = put(&admin, id, &body).await;
        assert_eq!((answer.status, &answer.body["field"]), (422, &json!("external_id")), "{id}: {}", answer.text);
    }
    assert_eq!(put(&admin, "", &body).await.status, 404);
    assert_eq!(put(&admin, "a/b", &body).await.status, 404);
    let id = put(&admin, "a", &body).await.body["id"].as_i64().unwrap();
    let before = page(&node, id).await;
    for (field, value) in [
        ("seller_id", json!(0)),
        ("seller_id", json!("1")),
        ("seller_id", json!(-1)),
        ("title", json!(" ")),
        ("title", json!(7)),
        ("category", json!("x".repeat(65))),
        ("start_price", json!(0)),
        ("start_price", json!(1_000_000_000_001_i64)),
        ("predict_price", json!(1.5)),
        ("min_increment", json!(-1)),
        ("duration_s", json!(0)),
        ("starts_at", json!("soon")),
        ("starts_at", json!(noon().plus_ms(-61_000))),
        ("images", json!(["http://img.example/a.png"])),
        ("images", json!("/media/a.png")),
    ] {
        let answer = put(&admin, "a", &with(&body, &json!({field: value.clone(), "content": "half"}))).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_value"), "{field} {value}: {}", answer.text);
        assert_eq!(answer.body["field"], field, "{value}: {}", answer.text);
    }
    assert_eq!(page(&node, id).await, before);
    assert_eq!(audit(&node).await.len(), 1);
}

/// The status and the Location of a GET; the tests' client would follow it.
fn leads_to(node: &TestNode, path: &str) -> (String, Option<String>) {
    let mut raw = Raw::connect(node.address());
    raw.write(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    let (head, _) = raw.read_to_end();
    let location = head.lines().find_map(|line| line.strip_prefix("location: ")).map(str::to_owned);
    (head[9..12].to_owned(), location)
}

#[actix_web::test]
async fn a_picture_elsewhere_is_a_path_that_leads_there() {
    const URL: &str = "https://img.example/a.png?size=big";
    let time = ManualTime::at(noon());
    let node = TestNode::with_time(time.clone(), |_| {});
    let admin = node.admin().retrying();
    let body = with(&starting_in(0), &json!({"images": [URL, "/media/b.png"]}));
    let made = node.user(1).post("/goods/", &body).await;
    let id = made.body["id"].as_i64().unwrap();
    let path = format!("/media/x/g{id}-0");
    assert_eq!(made.body["images"], json!([{"image": path}, {"image": "/media/b.png"}]), "{}", made.text);
    assert_eq!(node.visitor().get("/goods/").await.body[0]["images"], json!({"image": path}));
    assert_eq!(leads_to(&node, &path), ("302".into(), Some(URL.into())));
    let user = admin.put("/admin/users/2", &json!({"profile_image": "https://img.example/가.png"})).await;
    assert_eq!((user.status, &user.body["profile_image"]), (200, &json!("/media/x/u2")), "{}", user.text);
    assert_eq!(leads_to(&node, "/media/x/u2").1.as_deref(), Some("https://img.example/%EA%B0%80.png"));
    node.wait_until_settled(noon()).await;
    let mut room = node.visitor().room(id).await;
    assert_eq!(node.user(2).bid(id, 1000).await.status, 201);
    assert_eq!(next_event(&mut room).await["sender_image"], "/media/x/u2");
    // The trade names the picture too.
    time.set(noon().plus_ms(100_000));
    node.wait_until_settled(noon().plus_ms(100_000)).await;
    let mut trade = node.user(2).try_trade(id).await.expect("a buyer");
    assert_eq!(trade.next().await["image"], path);
    assert_eq!(node.user(2).get("/chat/").await.body[0]["image"], path);
    let exported = admin.get(&format!("/admin/users/{}/export", 1)).await.body;
    assert_eq!(exported["goods"][0]["images"], json!([URL, "/media/b.png"]), "what is kept");
    for none in [&format!("g{id}-1"), &format!("g{id}-2"), "g99-0", "u1", "u77", "x", "..", "%2e%2e", "g1", "%00"] {
        assert_eq!(leads_to(&node, &format!("/media/x/{none}")).0, "404", "{none}");
    }
}
