//! New goods with every kind of error in every field, and texts that must be returned unchanged.

use awc::http::Method;
use handsup::test_support::domain::Timestamp;
use serde_json::{Value, json};

use crate::support::{Answer, Client, ManualTime, Scene, TestNode, goods_body};

async fn make(seller: &Client, own: &Value) -> Answer {
    seller.post("/goods/", &goods_body(own)).await
}

/// A body without this field.
fn without(field: &str, starts_at: Timestamp) -> Value {
    let mut body = goods_body(&json!({"starts_at": starts_at}));
    body.as_object_mut().unwrap().remove(field).unwrap();
    body
}

#[actix_web::test]
async fn every_wrong_field_is_named_in_the_problem() {
    let scene = Scene::open().await;
    let now = scene.node.now();
    let no_prices = [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("1000"),
        json!(true),
        json!([1000]),
        json!({}),
        json!(1_000_000_000_001i64),
        json!(u64::MAX),
        json!(1e300),
    ];
    // SQLite could store NUL, PostgreSQL could not, and nobody writes it.
    let no_texts = [json!(1), json!(true), json!(["a"]), json!({"a": 1}), json!("a\u{0}b")];
    let mut wrong: Vec<(&str, Value)> = Vec::new();
    for field in ["start_price", "predict_price", "min_increment"] {
        wrong.extend(no_prices.iter().map(|price| (field, price.clone())));
    }
    for field in ["title", "content", "category", "starts_at"] {
        wrong.extend(no_texts.iter().map(|text| (field, text.clone())));
    }
    wrong.push(("title", Value::Null));
    wrong.push(("start_price", Value::Null));
    wrong.extend(["", " ", "\u{3000}\n", &"가".repeat(257), &"👩‍👩‍👧".repeat(100)].map(|title| ("title", json!(title))));
    wrong.push(("category", json!("가".repeat(65))));
    let no_lengths = [json!(0), json!(-1), json!(2_592_001), json!(1.5), json!("60"), json!(true), json!(u64::MAX)];
    wrong.extend(no_lengths.map(|length| ("duration_s", length)));
    let no_starts = [
        "",
        "soon",
        "2026-11-22",
        "2026-11-22 10:00",
        "2026-02-30T10:00:00Z",
        "2030-01-01T10:00:00",
        "2030-01-01T25:00:00Z",
        "0000-01-01T00:00:00Z",
        "-2026-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "99999-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
    ];
    wrong.extend(no_starts.map(|start| ("starts_at", json!(start))));
    wrong.push(("starts_at", json!(now.plus_ms(-62_000))));
    let no_images = [
        json!("/media/a.png"),
        json!({"image": "/media/a.png"}),
        json!([1]),
        json!([null]),
        json!([""]),
        json!(["http://evil.example/a.png"]),
        json!(["//evil.example/a.png"]),
        json!(["javascript:alert(1)"]),
        json!(["/media/../../etc/passwd"]),
        json!(["/media/a\u{0}.png"]),
        json!(["x".repeat(257)]),
        json!(vec!["/media/a.png"; 21]),
    ];
    wrong.extend(no_images.map(|images| ("images", images)));
    for (field, value) in wrong {
        let mut own = json!({"starts_at": now});
        own[field] = value;
        let answer = make(&scene.rude, &own).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_value"), "{own}: {}", answer.text);
        assert_eq!(answer.body["field"], field, "{own}: {}", answer.text);
    }
    no_goods_were_made(scene).await;
}

#[actix_web::test]
async fn a_start_that_does_not_exist_in_local_time_is_refused() {
    let scene = Scene::open().await;
    let wrong = [
        ("2030-02-30", "10:00", "start_date"),
        ("30.01.2030", "10:00", "start_date"),
        ("", "", "start_date"),
        ("2030-01-01", "24:00", "start_time"),
        ("2030-01-01", "-1:00", "start_time"),
        ("2030-01-01", "9:5:", "start_time"),
        ("2030-01-01", "오후 05:25", "start_time"),
        ("2020-01-01", "10:00", "start_date"),
        ("99999-01-01", "10:00", "start_date"),
        ("2500-01-01", "10:00", "start_date"),
    ];
    for (date, time, field) in wrong {
        let answer = make(&scene.rude, &json!({"start_date": date, "start_time": time})).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_value"), "{date} {time}: {}", answer.text);
        assert_eq!(answer.body["field"], field);
    }
    for (date, time, field) in
        [(json!(20300101), json!("10:00"), "start_date"), (json!("2030-01-01"), json!(10), "start_time")]
    {
        let answer = make(&scene.rude, &json!({"start_date": date, "start_time": time})).await;
        assert_eq!((answer.status, &answer.body["field"]), (422, &json!(field)), "{}", answer.text);
    }
    no_goods_were_made(scene).await;
}

#[actix_web::test]
async fn bodies_without_a_required_field_are_refused() {
    let scene = Scene::open().await;
    let now = scene.node.now();
    for field in ["title", "start_price", "starts_at"] {
        let answer = scene.rude.post("/goods/", &without(field, now)).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_body"), "{field}: {}", answer.text);
    }
    for half in [json!({}), json!({"start_date": "2030-01-01"}), json!({"start_time": "10:00"})] {
        let answer = make(&scene.rude, &half).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_body"), "{half}: {}", answer.text);
    }
    let bodies: [&[u8]; 8] =
        [b"", b"null", b"[]", b"\"goods\"", b"{", b"{}{}", b"\xef\xbb\xbf{}", b"{\"title\":\"a\",\"title\":\"b\"}"];
    for body in bodies {
        let answer = scene.rude.send(Method::POST, "/goods/", Some(body.to_vec())).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_body"), "{body:?}: {}", answer.text);
    }
    let mut bytes = goods_body(&json!({"starts_at": now, "title": "HERE"})).to_string().into_bytes();
    let at = bytes.windows(4).position(|four| four == b"HERE").unwrap();
    bytes[at] = 0xff;
    let answer = scene.rude.send(Method::POST, "/goods/", Some(bytes)).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_body"), "not UTF-8: {}", answer.text);
    no_goods_were_made(scene).await;
}

/// The next goods get the id after the scene's goods: a refused body has used up no id.
async fn no_goods_were_made(scene: Scene) {
    let next = make(&scene.node.user(9), &json!({"starts_at": scene.node.now()})).await;
    assert_eq!(next.body["id"], json!(scene.goods + 1), "{}", next.text);
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn values_at_their_limits_are_accepted() {
    let node = TestNode::start();
    let seller = node.user(1);
    let now = node.now();
    let good = [
        json!({"title": "가".repeat(256)}),
        json!({"title": "x"}),
        json!({"category": "가".repeat(64)}),
        json!({"category": ""}),
        json!({"content": "글".repeat(15_000)}),
        json!({"start_price": 1, "predict_price": 1, "min_increment": 1}),
        json!({"start_price": 1_000_000_000_000i64, "predict_price": 1_000_000_000_000i64, "min_increment": 1_000_000_000_000i64}),
        json!({"duration_s": 1}),
        json!({"duration_s": 2_592_000}),
        json!({"starts_at": now.plus_ms(-50_000)}),
        json!({"starts_at": "2030-01-01T10:00:00.123456789+09:00"}),
        json!({"images": []}),
        json!({"images": vec!["/media/goods/사진 1.png"; 20]}),
        json!({"content": null, "category": null, "predict_price": null, "duration_s": null, "min_increment": null, "images": null}),
    ];
    for own in good {
        let mut body = json!({"starts_at": now});
        for (key, value) in own.as_object().unwrap() {
            body[key] = value.clone();
        }
        let answer = make(&seller, &body).await;
        assert_eq!(answer.status, 201, "{own:.200}: {}", answer.text);
        for field in ["title", "content", "category", "start_price", "predict_price", "min_increment"] {
            if !own[field].is_null() {
                assert_eq!(answer.body[field], own[field]);
            }
        }
    }
}

/// Fault 16: a text is only ever a text.
#[actix_web::test]
async fn fault_16_texts_are_returned_unchanged() {
    let node = TestNode::start();
    let texts = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "&lt;b&gt; &amp;",
        "'; DROP TABLE goods; --",
        "%s %n {{7*7}} ${jndi:x}",
        "tab\t line\n return\r bell\u{7}",
        "\u{202e}backwards\u{202c} \u{200b}\u{feff}",
        "a\u{2028}b\u{2029}c",
        "한글 e\u{301} 👩‍👩‍👧‍👦 𝕏",
        "\u{fffd}\u{10ffff}",
        "  spaces around  ",
    ];
    let viewer = node.user(2);
    for text in texts {
        let own = json!({"starts_at": node.now(), "title": text, "content": text, "category": text});
        let made = make(&node.user(1), &own).await;
        assert_eq!(made.status, 201, "{text:?}: {}", made.text);
        let page = viewer.get(&format!("/goods/{}/", made.body["id"])).await;
        assert_eq!(page.headers.get("content-type").unwrap(), "application/json");
        for field in ["title", "content", "category"] {
            assert_eq!(page.body[field], text, "{field}");
            assert_eq!(made.body[field], text, "{field}");
        }
        // The alarm carries it unchanged, too.
        assert_eq!(viewer.bid(made.body["id"].as_i64().unwrap(), 1000).await.status, 201);
        assert_eq!(node.user(3).bid(made.body["id"].as_i64().unwrap(), 2000).await.status, 201);
        let alarms = viewer.get("/alarms?limit=1").await.body;
        assert_eq!(alarms["results"][0]["goods_title"], text);
    }
    // The one character that not every engine can store.
    for field in ["title", "content", "category"] {
        let refused = make(&node.user(1), &json!({"starts_at": node.now(), field: "a\u{0}b"})).await;
        assert_eq!((refused.status, refused.code(), &refused.body["field"]), (422, "invalid_value", &json!(field)));
    }
}

/// Fault 12: the origin compared times as texts, so that `9:05` never started.
#[actix_web::test]
async fn fault_12_nine_o_clock_starts_like_ten_o_clock() {
    let nine = Timestamp::parse_rfc3339("2026-11-22T00:05:00Z").unwrap();
    let time = ManualTime::at(nine.plus_ms(-60_000));
    let node = TestNode::with_time(time.clone(), |_| {});
    for written in ["9:05", "09:05", "09:05:00"] {
        let made = make(&node.user(1), &json!({"start_date": "2026-11-22", "start_time": written})).await;
        assert_eq!(made.status, 201, "{written}: {}", made.text);
        assert_eq!(made.body["starts_at"], "2026-11-22T00:05:00.000Z");
        assert_eq!((&made.body["start_date"], &made.body["start_time"]), (&json!("2026-11-22"), &json!("09:05")));
        assert_eq!(node.user(2).bid(made.body["id"].as_i64().unwrap(), 1000).await.code(), "auction_not_started");
    }
    time.set(nine);
    for goods in 1..=3 {
        let answer = node.user(2).bid(goods, 1000).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
}

#[actix_web::test]
async fn an_instant_takes_precedence_over_a_local_time() {
    let node = TestNode::start();
    let own = json!({"starts_at": "2030-01-01T00:00:00Z", "start_date": "2031-01-01", "start_time": "10:00"});
    assert_eq!(make(&node.user(1), &own).await.body["starts_at"], "2030-01-01T00:00:00.000Z");
}

/// Faults 13 and 15: a client cannot set what the auction itself decides.
#[actix_web::test]
async fn fault_15_the_auctions_own_fields_cannot_be_set() {
    let node = TestNode::start();
    let own = json!({
        "starts_at": node.now().plus_ms(600_000), "id": 77, "seller": 5, "seller_id": 5, "user_id": 5, "author": {"id": 5},
        "high_price": 999_999, "buyer": 5, "buyer_id": 5, "high_bidder_id": 5, "status": false, "phase": 2,
        "trade_room": 1, "trade_room_id": 1, "bid_seq": 9, "ends_at": "2020-01-01T00:00:00Z", "is_like": true,
        "like": [5, 6], "like_count": 2, "participants_count": 7, "participants": [5], "created_at": "2020-01-01T00:00:00",
        "bids": [{"price": 5}], "server_time": "2020-01-01T00:00:00.000Z",
    });
    let made = make(&node.user(1), &own).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let page = made.body;
    assert_eq!((&page["id"], &page["seller"]["id"]), (&json!(1), &json!(1)));
    for (field, value) in [
        ("high_price", json!(0)),
        ("buyer", Value::Null),
        ("status", Value::Null),
        ("trade_room", Value::Null),
        ("bid_seq", json!(0)),
        ("is_like", json!(false)),
        ("like", json!([])),
        ("like_count", json!(0)),
        ("participants_count", json!(0)),
        ("participants", json!([])),
        ("bids", json!([])),
    ] {
        assert_eq!(page[field], value, "{field}");
    }
    for field in ["ends_at", "created_at", "server_time"] {
        assert!(!page[field].as_str().unwrap().starts_with("2020"), "{field}");
    }
    assert_eq!(node.user(5).get("/alarms").await.body["results"], json!([]));
}
