//! Who a client is: the token's user and nobody else, as long as the token is valid.

use base64::Engine as _;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use handsup::test_support::domain::Timestamp;

use crate::support::{
    Answer, Client, ManualTime, Raw, SECRET, Socket, TestNode, claims, database, goods_body, signed, signed_with, token,
};

const OTHER_KEY: &str = "another-key-that-is-long-enough-to-be-one";

fn with_token(node: &TestNode, token: impl Into<String>) -> Client {
    node.client(Some(token.into()))
}

/// A token of user 7 for an hour, with some claims replaced or added.
fn of_seven(now: Timestamp, own: &Value) -> String {
    signed(&claims(&json!(7), now, own))
}

/// The status of a handshake and, if it is refused, the problem's code.
fn handshake(node: &TestNode, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = Raw::connect(node.address()).handshake(path, headers);
    (answer.status, if answer.status == 101 { String::new() } else { answer.code() })
}

fn unauthorized(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{what}: {}", answer.text);
    assert_eq!(answer.headers.get("www-authenticate").unwrap(), "Bearer");
}

/// Fault 4: in the origin anybody bids as anybody, and in any auction.
#[actix_web::test]
async fn fault_4_the_bidder_is_the_tokens_user_and_the_goods_are_those_of_the_path() {
    let node = TestNode::start();
    let (goods, others) = (node.live_goods(1).await, node.live_goods(1).await);
    let spoofed = json!({
        "price": 1000, "user_id": 3, "user": 3, "bidder": 3, "sender": 3, "username": "name3", "admin": true,
        "goods_id": others, "goods": others, "id": others, "is_money": true, "seq": 9, "bid_id": 9,
    });
    let answer = node.user(2).post(&format!("/goods/{goods}/bids?user_id=3&goods_id={others}"), &spoofed).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!((&answer.body["user_id"], &answer.body["goods_id"]), (&json!(2), &json!(goods)));
    assert_eq!((&answer.body["seq"], &answer.body["bid_id"]), (&json!(1), &json!(1)));
    let history = node.visitor().history(goods).await;
    assert_eq!((&history[0]["user_id"], &history[0]["username"]), (&json!(2), &json!("name2")));
    assert_eq!(node.visitor().history(others).await, Vec::<Value>::new());
    assert_eq!(node.user(2).get("/alarms?user_id=3").await.body["results"], json!([]));
}

/// Fault 5: in the origin `"user_id":"1"` lets the seller bid.
#[actix_web::test]
async fn fault_5_the_seller_cannot_bid_over_http_however_the_id_is_written() {
    let node = TestNode::start();
    let made = node.user(7).post("/goods/", &goods_body(&json!({"starts_at": node.now()}))).await;
    let goods = made.body["id"].as_i64().unwrap();
    for id in [json!(7), json!("7")] {
        let seller = with_token(&node, signed(&claims(&id, node.now(), &json!({}))));
        let answer = seller.bid(goods, 1000).await;
        assert_eq!((answer.status, answer.code()), (403, "seller_cannot_bid"), "{id}");
        let body = json!({"price": 1000, "user_id": "8"});
        assert_eq!(seller.post(&format!("/goods/{goods}/bids"), &body).await.code(), "seller_cannot_bid");
    }
    assert_eq!(node.visitor().history(goods).await, Vec::<Value>::new());
}

#[actix_web::test]
async fn an_id_as_a_string_is_the_same_user() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let text = with_token(&node, signed(&claims(&json!("7"), node.now(), &json!({}))));
    assert_eq!(text.bid(goods, 1000).await.body["user_id"], json!(7));
    assert_eq!(node.user(8).bid(goods, 2000).await.status, 201);
    assert_eq!(node.user(7).inbox_kinds().await, [("outbid".to_owned(), goods)]);
    // Ids have 64 bits, more than a browser's number holds.
    let large = with_token(&node, signed(&claims(&json!("9223372036854775807"), node.now(), &json!({}))));
    assert_eq!(large.bid(goods, 3000).await.body["user_id"], json!(i64::MAX));
}

/// Invalid tokens of every kind.
fn bad_tokens(now: Timestamp) -> Vec<(&'static str, String)> {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let good_claims = claims(&json!(7), now, &json!({}));
    let good = signed(&good_claims);
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let admin = encode(&claims(&json!(1), now, &json!({"admin": true})).to_string());
    let none = encode(r#"{"alg":"none","typ":"JWT"}"#);
    vec![
        ("expired", of_seven(now, &json!({"exp": now.secs() - 1}))),
        ("expires now", of_seven(now, &json!({"exp": now.secs()}))),
        ("without an end", of_seven(now, &json!({"exp": null}))),
        ("its end is a text", of_seven(now, &json!({"exp": "2100-01-01"}))),
        ("a refresh token", of_seven(now, &json!({"token_type": "refresh"}))),
        ("of no kind", of_seven(now, &json!({"token_type": ""}))),
        ("of nobody", of_seven(now, &json!({"user_id": null}))),
        ("of user 0", of_seven(now, &json!({"user_id": 0}))),
        ("of user -7", of_seven(now, &json!({"user_id": -7}))),
        ("of user 7.5", of_seven(now, &json!({"user_id": 7.5}))),
        ("of a text", of_seven(now, &json!({"user_id": "seven"}))),
        ("of 2^63", of_seven(now, &json!({"user_id": 9_223_372_036_854_775_808u64}))),
        ("of a list", of_seven(now, &json!({"user_id": [7]}))),
        ("another key", signed_with(&good_claims, OTHER_KEY, Algorithm::HS256)),
        ("the origin's key", signed_with(&good_claims, "secret", Algorithm::HS256)),
        ("HS384", signed_with(&good_claims, SECRET, Algorithm::HS384)),
        ("HS512", signed_with(&good_claims, SECRET, Algorithm::HS512)),
        ("alg none", format!("{none}.{body}.")),
        ("alg none, signed", format!("{none}.{body}.{signature}")),
        ("a changed body", format!("{head}.{admin}.{signature}")),
        ("no signature", format!("{head}.{body}.")),
        ("two parts", format!("{head}.{body}")),
        ("a cut signature", good[..good.len() - 3].to_owned()),
        ("four parts", format!("{good}.x")),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("garbage", "garbage".to_owned()),
        ("long", "x".repeat(5000)),
    ]
}

/// Fault 14: in the origin bad tokens hang for 4 s, refresh tokens get in, and expired ones stay.
#[actix_web::test]
async fn fault_14_a_bad_token_is_refused_everywhere_at_once() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    for (what, bad) in bad_tokens(node.now()) {
        let client = with_token(&node, bad.clone());
        unauthorized(&client.bid(goods, 1000).await, what);
        // Public paths: no token is fine, an invalid one is not.
        for path in
            [format!("/goods/{goods}/"), format!("/goods/{goods}/bids"), "/alarms".into(), "/admin/health".into()]
        {
            unauthorized(&client.get(&path).await, what);
        }
        let header = format!("Bearer {bad}");
        let refused = (401, "unauthorized".to_owned());
        assert_eq!(handshake(&node, "/ws/alarms/", &[("Authorization", &header)]), refused, "{what}");
        assert_eq!(handshake(&node, &format!("/ws/alram/?token={bad}"), &[]), refused, "{what}");
        let offered = format!("handsup.v1, bearer.{bad}");
        assert_eq!(handshake(&node, "/ws/alarms/", &[("Sec-WebSocket-Protocol", &offered)]), refused, "{what}");
    }
    assert_eq!(node.visitor().history(goods).await, Vec::<Value>::new());
}

#[actix_web::test]
async fn credentials_that_are_not_a_bearer_token_are_refused() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let good = token(7, node.now());
    for header in ["Basic dXNlcjpwYXNz", "Bearer", "bearer ", &good, "Token abc", &format!("Bearer,{good}"), ""] {
        let answer = node
            .visitor()
            .send_with(awc::http::Method::GET, &format!("/goods/{goods}/"), None, &[("Authorization", header)])
            .await;
        unauthorized(&answer, header);
    }
    let lower = format!("bearer  {good} ");
    let answer = node.visitor().send_with(awc::http::Method::GET, "/alarms", None, &[("Authorization", &lower)]).await;
    assert_eq!(answer.status, 200, "the scheme's case doesn't matter");
}

#[actix_web::test]
async fn a_visitor_may_only_read() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let visitor = node.visitor();
    for path in
        [format!("/goods/{goods}/"), format!("/goods/{goods}/bids"), "/health/live".into(), "/health/ready".into()]
    {
        assert_eq!(visitor.get(&path).await.status, 200, "{path}");
    }
    unauthorized(&visitor.bid(goods, 1000).await, "bid");
    unauthorized(&visitor.post("/goods/", &goods_body(&json!({"starts_at": node.now()}))).await, "goods");
    unauthorized(&visitor.put(&format!("/goods/{goods}/like"), &Value::Null).await, "like");
    unauthorized(&visitor.delete(&format!("/goods/{goods}/like")).await, "unlike");
    for path in ["/alarms", "/alarms/unread", "/admin/health", "/ws/alarms/", "/ws/alram/"] {
        unauthorized(&visitor.get(path).await, path);
    }
    unauthorized(&visitor.put("/admin/users/7", &json!({"is_active": false})).await, "admin");
    // HTTP requests take tokens from the header only.
    unauthorized(&visitor.get(&format!("/alarms?token={}", token(7, node.now()))).await, "token in the query");
    assert_eq!(handshake(&node, "/ws/alarms/", &[]), (401, "unauthorized".to_owned()));
}

#[actix_web::test]
async fn only_json_true_in_the_token_allows_the_admin_calls() {
    let node = TestNode::start();
    for (admin, status) in [
        (json!(true), 200),
        (json!(false), 403),
        (json!(null), 403),
        (json!("true"), 403),
        (json!(1), 403),
        (json!([true]), 403),
    ] {
        let client = with_token(&node, of_seven(node.now(), &json!({"admin": admin})));
        for answer in [client.get("/admin/health").await, client.put("/admin/users/9", &json!({})).await] {
            assert_eq!(answer.status, status, "{admin}: {}", answer.text);
            assert!(status == 200 || answer.code() == "forbidden");
        }
    }
    // The body is not read before the check.
    let answer = node.user(7).send(awc::http::Method::PUT, "/admin/users/9", Some(b"{".to_vec())).await;
    assert_eq!(answer.code(), "forbidden");
}

#[actix_web::test]
async fn a_token_comes_in_the_header_the_query_or_a_subprotocol() {
    let node = TestNode::start();
    let good = token(7, node.now());
    let (base, bearer) = (node.base(), format!("bearer.{good}"));
    let mut header = Socket::open(&base, "/ws/alarms/", &["handsup.v1"], Some(&good)).await.unwrap();
    assert_eq!(header.protocol.as_deref(), Some("handsup.v1"));
    let mut protocol = Socket::open(&base, "/ws/alarms/", &["handsup.v1", &bearer], None).await.unwrap();
    assert_eq!(protocol.protocol.as_deref(), Some("handsup.v1"), "the token is not sent back");
    for socket in [&mut header, &mut protocol] {
        let hello = socket.next().await;
        assert_eq!((&hello["response_type"], &hello["user_id"]), (&json!("hello"), &json!(7)));
    }
    // The existing client: no subprotocol, no hello.
    let mut query = Socket::open(&base, &format!("/ws/alram/?token={good}"), &[], None).await.unwrap();
    assert_eq!(query.protocol, None);
    query.send_json(&json!({"type": "ping"})).await;
    assert_eq!(query.next().await["response_type"], "pong", "nothing comes before");
}

/// Wherever it is, and even if another one beside it is valid.
#[actix_web::test]
async fn a_bad_token_beside_a_good_one_is_refused() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let now = node.now();
    let (good, others, bad) = (token(7, now), token(8, now), of_seven(now, &json!({"exp": now.secs()})));
    let of_both = |header: &str, protocol: &str, query: &str| {
        let (header, protocol) = (format!("Bearer {header}"), format!("handsup.v1, bearer.{protocol}"));
        let headers = [("Authorization", header.as_str()), ("Sec-WebSocket-Protocol", protocol.as_str())];
        let mut answers = Vec::new();
        for path in ["/ws/alarms/", &format!("/ws/auction/{goods}/")] {
            for headers in [&headers[..1], &headers[1..], &headers] {
                answers.push(handshake(&node, &format!("{path}?token={query}"), headers));
            }
        }
        answers
    };
    let (opened, refused) = ((101, String::new()), (401, "unauthorized".to_owned()));
    assert_eq!(of_both(&good, &good, &good), vec![opened.clone(); 6], "the same everywhere");
    assert_eq!(of_both(&good, &good, ""), vec![opened; 6], "an empty one in the query is none");
    for bad in [&bad, "x", &others] {
        assert_eq!(of_both(&good, &good, bad), vec![refused.clone(); 6], "in the query");
        assert_eq!(of_both(bad, bad, &good), vec![refused.clone(); 6], "in the header or the subprotocol");
        let doubled = format!("{good}&token={bad}");
        assert_eq!(of_both(&good, &good, &doubled), vec![refused.clone(); 6], "the second one in the query");
        let stream = format!("/alarms/stream?token={bad}");
        unauthorized(&with_token(&node, good.as_str()).get(&stream).await, "a stream");
        let doubled = [("Authorization", format!("Bearer {good}")), ("Authorization", format!("Bearer {bad}"))];
        let doubled = doubled.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(handshake(&node, "/ws/alarms/", &doubled), refused, "two headers");
    }
    let two = format!("bearer.{good}, handsup.v1, bearer.{bad}");
    assert_eq!(handshake(&node, "/ws/alarms/", &[("Sec-WebSocket-Protocol", &two)]), refused, "two subprotocols");
}

#[actix_web::test]
async fn the_previous_key_holds_while_keys_rotate() {
    let node = TestNode::with(|settings| {
        settings.auth.jwt_secret_previous = Some(OTHER_KEY.into());
    });
    let previous = signed_with(&claims(&json!(7), node.now(), &json!({})), OTHER_KEY, Algorithm::HS256);
    assert_eq!(with_token(&node, &*previous).get("/alarms").await.status, 200);
    assert_eq!(node.user(7).get("/alarms").await.status, 200);
    let third = signed_with(
        &claims(&json!(7), node.now(), &json!({})),
        "a-third-key-that-no-node-of-this-test-knows",
        Algorithm::HS256,
    );
    unauthorized(&with_token(&node, third).get("/alarms").await, "a third key");
    unauthorized(&with_token(&TestNode::start(), previous).get("/alarms").await, "after the rotation");
}

#[actix_web::test]
async fn the_newest_tokens_name_wins() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let now = node.now();
    let named = |name: &str, age_s: i64| {
        with_token(&node, of_seven(now, &json!({"username": name, "iat": now.secs() - age_s})))
    };
    let name_after = |price: i64, client: Client| {
        let node = &node;
        async move {
            assert_eq!(client.bid(goods, price).await.status, 201);
            node.visitor().history(goods).await.last().unwrap()["username"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!(name_after(1000, with_token(&node, of_seven(now, &json!({})))).await, "user7", "no name at all");
    assert_eq!(name_after(1001, named("old", 100)).await, "old");
    assert_eq!(name_after(1002, named("new", 10)).await, "new");
    assert_eq!(name_after(1003, named("old", 100)).await, "new", "an older token doesn't set the name back");
    assert_eq!(name_after(1004, with_token(&node, of_seven(now, &json!({})))).await, "new", "nor does none");
    // Names need not be unique.
    let double = with_token(&node, signed(&claims(&json!(8), now, &json!({"username": "new"}))));
    assert_eq!(double.bid(goods, 1005).await.status, 201);
    let history = node.visitor().history(goods).await;
    assert!(history.iter().all(|bid| bid["username"] == "new"), "the history has the names of now: {history:?}");
}

#[actix_web::test]
async fn a_name_set_by_an_admin_stays_until_a_token_of_a_later_second() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00.900Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.goods(1, 0, 600).await;
    let named = |name: &str, iat: i64| with_token(&node, of_seven(node.now(), &json!({"username": name, "iat": iat})));
    let name_after = |price: i64, client: Client| {
        let node = &node;
        async move {
            assert_eq!(client.bid(goods, price).await.status, 201);
            node.visitor().history(goods).await.last().unwrap()["username"].as_str().unwrap().to_owned()
        }
    };
    let second = node.now().secs();
    assert_eq!(name_after(1000, named("own", second)).await, "own");
    let given = node.admin().put("/admin/users/7", &json!({"username": "given"})).await;
    assert_eq!(given.status, 200, "{}", given.text);
    assert_eq!(name_after(1001, named("own", second)).await, "given");
    assert_eq!(
        name_after(1002, with_token(&node, of_seven(node.now(), &json!({"username": "ageless"})))).await,
        "given"
    );
    time.advance_ms(100);
    assert_eq!(name_after(1003, named("newer", second + 1)).await, "newer");
}

/// A name is only displayed: no content of it may break anything.
#[actix_web::test]
async fn odd_names_are_cleaned_or_left_out() {
    let node = TestNode::start();
    for (id, name, shown) in [
        (11, json!(7), "user11"),
        (12, json!(""), "user12"),
        (13, json!("  "), "user13"),
        (14, json!(["a"]), "user14"),
        (15, json!("a\u{0}b\nc"), "abc"),
        (16, json!("<b>"), "<b>"),
        (17, json!(" 김 철수 "), "김 철수"),
    ] {
        let seller = with_token(&node, signed(&claims(&json!(id), node.now(), &json!({"username": name}))));
        let made = seller.post("/goods/", &goods_body(&json!({"starts_at": node.now()}))).await;
        assert_eq!(made.body["seller"]["username"], shown, "{name}");
    }
    let long = with_token(&node, signed(&claims(&json!(18), node.now(), &json!({"username": "가".repeat(500)}))));
    let made = long.post("/goods/", &goods_body(&json!({"starts_at": node.now()}))).await;
    assert_eq!(made.body["seller"]["username"], "가".repeat(150));
}

#[actix_web::test]
async fn another_pages_origin_is_refused_at_the_handshake() {
    // A node's own pages have its own origin.
    let node = TestNode::alone(|settings| settings.server.allowed_origins = vec!["https://market.example".into()]);
    let bearer = format!("Bearer {}", token(7, node.now()));
    let from = |origin: &str| handshake(&node, "/ws/alarms/", &[("Authorization", &bearer), ("Origin", origin)]);
    for good in ["https://market.example", &node.base()] {
        assert_eq!(from(good).0, 101, "{good}");
    }
    assert_eq!(handshake(&node, "/ws/alarms/", &[("Authorization", &bearer)]).0, 101, "no browser");
    let others = [
        "https://evil.example",
        "http://market.example",
        "https://market.example:8443",
        "https://market.example.evil.example",
        "https://sub.market.example",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        "null",
        "",
    ];
    for other in others {
        assert_eq!(from(other), (403, "forbidden".to_owned()), "{other}");
    }
}

/// Whoever has a token can act as its user, so it is stored nowhere.
#[actix_web::test]
async fn no_token_is_stored() {
    let mut node = TestNode::start();
    let goods = node.live_goods(1).await;
    let user = node.user(7);
    assert_eq!(user.bid(goods, 1000).await.status, 201);
    user.socket().await.close().await;
    node.stop();
    let stored = database::all_that_is_stored(node.folder());
    let holds = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("name7"), "this is where things are stored");
    for part in user.token().split('.').skip(1).chain([SECRET]) {
        assert!(!holds(part));
    }
}
