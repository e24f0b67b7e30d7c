//! Invalid requests of every kind: each gets the right refusal, nothing is partly written, and no other client notices.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Raw, Scene, TestNode, eventually, goods_body};

/// Values of `price` that are no prices.
const NO_PRICES: [&str; 24] = [
    "0",
    "-1",
    "-0",
    "1.5",
    "1000.0",
    "1e3",
    "\"1000\"",
    "\"\"",
    "\"천\"",
    "\"\\ud800\"",
    "null",
    "true",
    "false",
    "[]",
    "[1000]",
    "{}",
    "{\"won\":1000}",
    "1000000000001",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1e400",
    "-1e400",
];

/// Bodies that are not a JSON object, or lack what is needed.
fn no_bodies() -> Vec<Vec<u8>> {
    let texts = [
        "",
        " ",
        "\n",
        "null",
        "true",
        "1000",
        "\"price\"",
        "price=1000",
        "[]",
        "[1000]",
        "[{\"price\":1000}]",
        "{",
        "}",
        "{}",
        "{\"price\"}",
        "{\"price\":}",
        "{\"price\":1000",
        "{\"price\":1000}}",
        "{\"price\":1000} and more",
        "{\"price\":1000}{\"price\":1000}",
        "{\"price\":1000,}",
        "{'price':1000}",
        "{price:1000}",
        "{\"Price\":1000}",
        "{\"price\":01000}",
        "{\"price\":+1000}",
        "{\"price\":0x3e8}",
        "{\"price\":NaN}",
        "{\"price\":Infinity}",
        "{\"price\":1000,\"price\":2000}",
        "\u{feff}{\"price\":2000}",
        "{\"price\":\"line\nbreak\"}",
        "{\"price\":2000}\0",
    ];
    let mut bodies: Vec<Vec<u8>> = texts.into_iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.push(b"{\"price\":\"\xff\"}".to_vec());
    bodies.push(b"{\"price\":2000,\"note\":\"\xff\"}".to_vec());
    bodies.push(b"{\"price\":2000,\"\xc3\x28\":1}".to_vec());
    bodies.push([0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00].to_vec());
    bodies.push((0..=255).collect());
    bodies.push(b"\x1f\x8b\x08\x00garbage".to_vec());
    bodies
}

fn refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{what}: {}", answer.text);
    let internals = ["sqlite", "select ", "panicked", "src/", "/tmp", ".rs:"];
    assert!(!internals.iter().any(|part| answer.text.to_lowercase().contains(part)), "{what}: {}", answer.text);
}

fn wrong_value(answer: &Answer, field: &str, what: &str) {
    refused(answer, 422, "invalid_value", what);
    assert_eq!(answer.body["field"], field, "{what}: {}", answer.text);
}

async fn post_text(client: &Client, path: &str, body: &str) -> Answer {
    client.send(Method::POST, path, Some(body.as_bytes().to_vec())).await
}

#[actix_web::test]
async fn fault_10_no_body_of_a_bid_breaks_anything() {
    let scene = Scene::open().await;
    let path = scene.bids_path();
    for body in no_bodies() {
        let what = String::from_utf8_lossy(&body).into_owned();
        refused(&scene.rude.send(Method::POST, &path, Some(body)).await, 400, "invalid_body", &what);
    }
    refused(&scene.rude.send(Method::POST, &path, None).await, 400, "invalid_body", "no body");
    for price in NO_PRICES {
        let body = format!("{{\"price\":{price}}}");
        wrong_value(&post_text(&scene.rude, &path, &body).await, "price", &body);
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn fault_10_deep_and_long_bodies_are_refused_like_any_other() {
    let scene = Scene::open().await;
    let path = scene.bids_path();
    let deep = |open: &str, close: &str, inner: &str| {
        let depth = 10_000;
        open.repeat(depth) + inner + &close.repeat(depth)
    };
    wrong_value(
        &post_text(&scene.rude, &path, &format!("{{\"price\":{}}}", deep("[", "]", ""))).await,
        "price",
        "deep",
    );
    let objects = deep("{\"a\":", "}", "1");
    wrong_value(&post_text(&scene.rude, &path, &format!("{{\"price\":{objects}}}")).await, "price", "deep objects");
    refused(&post_text(&scene.rude, &path, &deep("[", "]", "")).await, 400, "invalid_body", "a deep array");
    refused(&post_text(&scene.rude, &path, &"[".repeat(60_000)).await, 400, "invalid_body", "an endless array");
    refused(&post_text(&scene.rude, &path, &"{\"price\":".repeat(6_000)).await, 400, "invalid_body", "endless objects");
    let digits = format!("{{\"price\":{}}}", "9".repeat(60_000));
    wrong_value(&post_text(&scene.rude, &path, &digits).await, "price", "sixty thousand digits");
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_valid_bid_may_have_unknown_fields_and_any_content_type() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let path = format!("/goods/{goods}/bids");
    let bidder = node.user(2);
    let nested = "[".repeat(5_000) + &"]".repeat(5_000);
    let bodies = [
        "{\"price\":1000,\"currency\":null}".to_owned(),
        "\r\n\t {\"price\" : 1001 }\n".to_owned(),
        "{\"note\":1e400,\"price\":1002}".to_owned(),
        format!("{{\"note\":{nested},\"price\":1003}}"),
        "{\"\\u0070rice\":1004}".to_owned(),
    ];
    for body in &bodies {
        let answer = post_text(&bidder, &path, body).await;
        assert_eq!(answer.status, 201, "{body:.80}: {}", answer.text);
    }
    let headers = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ";;;"];
    for (price, kind) in (2000..).zip(headers) {
        let body = format!("{{\"price\":{price}}}").into_bytes();
        let answer = raw_bid(&node, goods, &[("Content-Type", kind)], &body);
        assert_eq!(answer, 201, "{kind}");
    }
    assert_eq!(raw_bid(&node, goods, &[("Content-Encoding", "identity")], b"{\"price\":2500}"), 201, "as it is");
    assert_eq!(raw_bid(&node, goods, &[], b"{\"price\":3000}"), 201, "no content type at all");
    assert_eq!(node.visitor().history(goods).await.len(), bodies.len() + headers.len() + 2);
}

#[actix_web::test]
async fn a_body_with_a_content_encoding_is_refused_with_415() {
    let scene = Scene::open().await;
    let gzipped = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03garbage".to_vec();
    let (rude, admin) = (&scene.rude, scene.node.admin());
    let bids = scene.bids_path();
    let calls = [
        (rude, Method::POST, bids.as_str()),
        (rude, Method::POST, "/goods/"),
        (rude, Method::POST, "/alarms/read"),
        (rude, Method::POST, "/alarms/ack"),
        (rude, Method::PUT, "/alarms/preferences"),
        (&admin, Method::PUT, "/admin/users/3"),
    ];
    for (client, method, path) in calls {
        for encoding in ["gzip", "GZIP", "br", "deflate", "zstd", "identity, gzip", "x", ""] {
            let headers = [("Content-Encoding", encoding)];
            let answer = client.send_with(method.clone(), path, Some(gzipped.clone()), &headers).await;
            refused(&answer, 415, "unsupported_encoding", &format!("{path} {encoding}"));
            assert_eq!(answer.headers.get("accept-encoding").unwrap(), "identity");
        }
    }
    // Authentication comes first.
    let headers = [("Content-Encoding", "gzip")];
    let visitor = scene.node.visitor().send_with(Method::POST, &bids, Some(gzipped), &headers).await;
    refused(&visitor, 401, "unauthorized", "a visitor");
    scene.assert_unharmed().await;
}

/// Sends a bid of user 3 written by hand; returns the status.
fn raw_bid(node: &TestNode, goods: i64, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    let token = crate::support::token(3, node.now());
    let mut head = format!(
        "POST /goods/{goods}/bids HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut raw = Raw::connect(node.address());
    raw.write(&[head.as_bytes(), b"\r\n", body].concat());
    raw.answer().expect("an answer").status
}

/// Faults 10 and 11: such prices killed the origin's socket, or left goods that nobody could bid on.
#[actix_web::test]
async fn fault_11_no_price_makes_goods_unbeatable() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (mina, joon) = (node.user(2), node.user(3));
    let mut minas = mina.socket_since(0).await;
    assert_eq!(minas.next().await["response_type"], "hello");
    let prices = [2_147_483_646i64, 2_147_483_647, 2_147_483_648, 4_294_967_295, 4_294_967_296, 999_999_999_999];
    for pair in prices.chunks(2) {
        assert_eq!(mina.bid(goods, pair[0]).await.body["high_price"], json!(pair[0]));
        assert_eq!(joon.bid(goods, pair[1]).await.body["high_price"], json!(pair[1]));
        assert_eq!(minas.expect_alarm("outbid").await["high_price"], json!(pair[1]));
    }
    let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    assert_eq!((&page["high_price"], &page["buyer"]["id"]), (&json!(999_999_999_999i64), &json!(3)));
}

#[actix_web::test]
async fn the_highest_possible_price_breaks_nothing() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    const MAX: i64 = 1_000_000_000_000;
    assert_eq!(node.user(2).bid(goods, MAX).await.body["high_price"], json!(MAX));
    let at_most = node.user(3).bid(goods, MAX).await;
    refused(&at_most, 409, "bid_too_low", "the same again");
    assert_eq!((&at_most.body["high_price"], &at_most.body["minimum"]), (&json!(MAX), &json!(null)));
    wrong_value(&node.user(3).bid(goods, MAX + 1).await, "price", "above");
    refused(&node.user(2).bid(goods, MAX).await, 409, "bid_too_low", "the leader's own bid");
    assert_eq!(node.visitor().get(&format!("/goods/{goods}/")).await.body["high_price"], json!(MAX));
    assert_eq!(node.visitor().history(goods).await.len(), 1);
}

/// Contract: an id in the path is checked after the body.
#[actix_web::test]
async fn invalid_ids_in_paths_are_not_found() {
    let scene = Scene::open().await;
    let rude = &scene.rude;
    let ids =
        ["0", "-1", "+1", "01", "1.0", "1e3", "abc", "9007199254740991", "9007199254740992", "18446744073709551616"];
    let odd = ["%00", "%ff", "%2e%2e", "1%20", "%EC%B2%9C", "1%2Fbids", "'", "1;drop", "1,2", "*", "1%0d%0aX:1"];
    for id in ids.iter().chain(&odd) {
        let path = format!("/goods/{id}/bids");
        refused(&post_text(rude, &path, "{\"price\":5000}").await, 404, "not_found", &path);
        refused(&post_text(rude, &path, "{\"price\":0}").await, 422, "invalid_value", &path);
        refused(&post_text(rude, &path, "no JSON").await, 400, "invalid_body", &path);
        refused(&rude.get(&path).await, 404, "not_found", &path);
        refused(&rude.get(&format!("/goods/{id}/")).await, 404, "not_found", id);
        refused(&rude.put(&format!("/goods/{id}/like"), &Value::Null).await, 404, "not_found", id);
        refused(&rude.delete(&format!("/goods/{id}/like")).await, 404, "not_found", id);
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let scene = Scene::open().await;
    let bids = scene.bids_path();
    for path in ["/", "/nothing", "/goods/1/bids/1", "/admin", "/ws/alarm", "/..%2f..%2fetc/passwd", "/ws/alarms/1"] {
        if path != "/" && path != "/admin" {
            refused(&scene.rude.get(path).await, 404, "not_found", path);
        }
    }
    let wrong = [
        (Method::DELETE, bids.as_str()),
        (Method::PUT, bids.as_str()),
        (Method::PATCH, bids.as_str()),
        (Method::PATCH, "/goods/1/"),
        (Method::POST, "/goods/1/like"),
        (Method::PUT, "/goods/"),
        (Method::POST, "/alarms"),
        (Method::DELETE, "/alarms/unread"),
        (Method::POST, "/ws/alarms/"),
        (Method::POST, "/health/live"),
        (Method::POST, "/admin/users/1"),
        (Method::GET, "/dev/token"),
    ];
    for (method, path) in wrong {
        let what = format!("{method} {path}");
        refused(&scene.rude.send(method, path, None).await, 405, "method_not_allowed", &what);
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn bodies_over_the_limit_are_refused_before_they_are_read() {
    let scene = Scene::open().await;
    let long = format!("{{\"price\":5000,\"note\":\"{}\"}}", "x".repeat(70_000));
    let paths = [scene.bids_path(), "/goods/".to_owned()];
    for path in &paths {
        refused(&post_text(&scene.rude, path, &long).await, 413, "payload_too_large", path);
    }
    let answer = scene.node.admin().send(Method::PUT, "/admin/users/3", Some(long.into_bytes())).await;
    refused(&answer, 413, "payload_too_large", "admin");
    // Announced but never sent: the answer does not wait for it.
    let token = scene.rude.token();
    for path in &paths {
        let mut raw = Raw::connect(scene.node.address());
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
        raw.write(format!("{head}Content-Length: 99999999999\r\n\r\n").as_bytes());
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"));
        raw.ends();
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_body_over_the_limit_without_a_length_is_refused_too() {
    let scene = Scene::open().await;
    let token = scene.rude.token();
    let chunk = format!("2000\r\n{}\r\n", " ".repeat(0x2000)).repeat(9);
    for path in [scene.bids_path(), "/goods/".to_owned()] {
        let mut raw = Raw::connect(scene.node.address());
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
        raw.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}").as_bytes());
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"));
    }
    scene.assert_unharmed().await;
}

/// A body of exactly the limit is accepted.
#[actix_web::test]
async fn the_limit_of_bodies_comes_from_the_settings() {
    let node = TestNode::with(|settings| settings.limits.body_bytes = 300);
    let goods = node.live_goods(1).await;
    let path = format!("/goods/{goods}/bids");
    let of_length = |length: usize| format!("{:length$}", "{\"price\":1000}");
    assert_eq!(post_text(&node.user(2), &path, &of_length(300)).await.status, 201);
    refused(&post_text(&node.user(2), &path, &of_length(301)).await, 413, "payload_too_large", "301 bytes");
}

#[actix_web::test]
async fn wrong_query_values_are_named_and_huge_ones_count_as_the_maximum() {
    let scene = Scene::open().await;
    let bids = scene.bids_path();
    let numbers =
        ["", "abc", "-1", "+1", "1.5", "1e3", "0x10", "%00", "%ff", "%20", "1%20", "null", "true", "[1]", "%EC%B2%9C"];
    for bad in numbers {
        for (path, field) in [
            (&*bids, "after_seq"),
            (&*bids, "limit"),
            ("/alarms", "after"),
            ("/alarms", "before"),
            ("/alarms", "limit"),
        ] {
            let path = format!("{path}?{field}={bad}");
            wrong_value(&scene.rude.get(&path).await, field, &path);
        }
    }
    for path in [format!("{bids}?limit=0"), "/alarms?limit=0".to_owned(), "/alarms?limit".to_owned()] {
        wrong_value(&scene.rude.get(&path).await, "limit", &path);
    }
    for bad in ["maybe", "", "TRUE", "1", "0", "null", "%00"] {
        let path = format!("/alarms?unread={bad}");
        wrong_value(&scene.rude.get(&path).await, "unread", &path);
    }
    for huge in ["9007199254740993", "9223372036854775807", "9223372036854775808", &"9".repeat(400)] {
        let page = scene.rude.get(&format!("{bids}?after_seq={huge}&limit={huge}")).await;
        assert_eq!((page.status, page.body), (200, json!({"results": [], "next_after_seq": null})), "{huge}");
        let page = scene.rude.get(&format!("/alarms?after={huge}&before={huge}&limit={huge}")).await;
        assert_eq!((page.status, page.body), (200, json!({"results": [], "unread": 0, "last_id": 0})), "{huge}");
    }
    // Unknown names are ignored.
    assert_eq!(scene.rude.get(&format!("{bids}?cursor=x&limits=0&%zz=%zz&&=&=x")).await.status, 200);
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn a_page_of_bids_has_at_most_200_rows() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let bidder = node.user(2);
    for price in 1000..1203 {
        assert_eq!(bidder.bid(goods, price).await.status, 201);
    }
    for limit in ["", "?limit=200", "?limit=500", "?limit=99999999999999999999"] {
        let page = node.visitor().get(&format!("/goods/{goods}/bids{limit}")).await;
        assert_eq!(page.body["results"].as_array().unwrap().len(), 200, "{limit}");
        assert_eq!(page.body["next_after_seq"], 200);
    }
    assert_eq!(node.visitor().history(goods).await.len(), 203);
    let page = node.visitor().get(&format!("/goods/{goods}/")).await;
    let prices: Vec<i64> =
        page.body["bids"].as_array().unwrap().iter().map(|bid| bid["price"].as_i64().unwrap()).collect();
    assert_eq!(prices, (1003..1203).rev().collect::<Vec<_>>(), "the highest 200, highest first");
}

#[actix_web::test]
async fn an_admins_invalid_request_changes_no_user() {
    let scene = Scene::open().await;
    let admin = scene.node.admin();
    let long = "x".repeat(151);
    let wrong = [
        ("is_active", json!("false")),
        ("is_active", json!(0)),
        ("is_active", json!([])),
        ("username", json!("")),
        ("username", json!("   ")),
        ("username", json!(long)),
        ("username", json!("two\nlines")),
        ("username", json!(7)),
        ("profile_image", json!("http://evil.example/a.png")),
        ("profile_image", json!("https://user@evil.example/a.png")),
        ("profile_image", json!("//evil.example/a.png")),
        ("profile_image", json!("a.png")),
        ("profile_image", json!(format!("/{}", "x".repeat(256)))),
        ("profile_image", json!("/a\u{0}b")),
        ("profile_image", json!({})),
        ("rating_score", json!(-1)),
        ("rating_score", json!(40.5)),
        ("rating_score", json!("40")),
        ("rating_score", json!(2_147_483_648i64)),
    ];
    for (field, value) in wrong {
        // A valid field beside an invalid one must not be stored either.
        let good = if field == "rating_score" { json!({"username": "half"}) } else { json!({"rating_score": 99}) };
        let mut body = good;
        body[field] = value;
        wrong_value(&admin.put("/admin/users/2", &body).await, field, &body.to_string());
    }
    for body in ["", "[]", "null", "{", "{\"is_active\":false,\"is_active\":true}"] {
        let answer = admin.send(Method::PUT, "/admin/users/2", Some(body.as_bytes().to_vec())).await;
        refused(&answer, 400, "invalid_body", body);
    }
    for id in ["0", "-1", "abc", "9223372036854775808", "%00"] {
        refused(&admin.put(&format!("/admin/users/{id}"), &json!({})).await, 404, "not_found", id);
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn the_dev_login_refuses_invalid_bodies_and_is_absent_unless_enabled() {
    let node = TestNode::start();
    refused(&node.visitor().post("/dev/token", &json!({"user_id": 1})).await, 404, "not_found", "off");
    let node = TestNode::with(|settings| settings.auth.dev_login = true);
    let visitor = node.visitor();
    for id in [json!(0), json!(-1), json!(1.5), json!("x"), json!(null), json!([1]), json!(u64::MAX)] {
        let body = json!({"user_id": id});
        wrong_value(&visitor.post("/dev/token", &body).await, "user_id", &body.to_string());
    }
    wrong_value(&visitor.post("/dev/token", &json!({"user_id": 1, "username": 7})).await, "username", "a number");
    wrong_value(&visitor.post("/dev/token", &json!({"user_id": 1, "admin": "yes"})).await, "admin", "a text");
    refused(&visitor.post("/dev/token", &json!({})).await, 400, "invalid_body", "nobody");
    let answer = visitor.post("/dev/token", &json!({"user_id": 7, "username": "kim", "admin": true})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let token = answer.body["token"].as_str().unwrap().to_owned();
    let kim = node.client(Some(token));
    assert_eq!(kim.get("/admin/health").await.status, 200);
    let made = kim.post("/goods/", &goods_body(&json!({"starts_at": node.now()}))).await;
    assert_eq!(made.body["seller"]["username"], "kim");
}

#[actix_web::test]
async fn incomplete_requests_leave_nothing_behind() {
    let scene = Scene::open().await;
    let token = scene.rude.token();
    let whole = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 14\r\n\r\n{{\"price\":9000}}",
        scene.bids_path()
    );
    for length in [0, 1, 10, 30, whole.len() - 30, whole.len() - 14, whole.len() - 1] {
        // Once with an orderly end, once just dropped.
        let mut raw = Raw::connect(scene.node.address());
        raw.write(&whole.as_bytes()[..length]);
        raw.end_of_input();
        if let Some(answer) = raw.answer() {
            assert!((400..500).contains(&answer.status), "{length}: {}", answer.head);
        }
        Raw::connect(scene.node.address()).write(&whole.as_bytes()[..length]);
    }
    // A hundred connections stay half-open while the others go on.
    let mut stuck: Vec<Raw> = (0..100).map(|_| Raw::connect(scene.node.address())).collect();
    for raw in &mut stuck {
        raw.write(&whole.as_bytes()[..whole.len() - 1]);
    }
    eventually("others being served", || async {
        (scene.node.visitor().get("/health/ready").await.status == 200).then_some(())
    })
    .await;
    scene.assert_unharmed().await;
}
