//! Invalid handshakes and frames in rooms: the author gets the reason, nobody else gets anything, and nothing is
//! stored.

use std::time::{Duration, Instant};

use actix_http::ws::Item;
use awc::ws::Message;
use serde_json::{Value, json};

use crate::support::{
    BINARY, CLOSE, CONTINUES, CONTINUES_LAST, ManualTime, Raw, Socket, TEXT, TEXT_BEGINS, TestNode, bid_frame, claims,
    count, keys, line_frame, masked, noon_in_seoul, signed, sold_goods, token, trade_frame,
};

const FORBIDDEN: &str = "forbidden";
const INVALID_VALUE: &str = "invalid_value";
const INVALID_BODY: &str = "invalid_body";

/// How long a connection may live after the server's close frame.
const END_WITHIN: Duration = Duration::from_secs(2);

/// An auction room of user 1 in which user 2 sends invalid frames, with everybody who must not notice.
struct Scene {
    goods: i64,
    author: Socket,
    /// The author's alarm socket.
    alarms: Socket,
    tab: Socket,
    witness: Socket,
    /// Dropped last: a node that stops waits for its sockets.
    node: TestNode,
}

impl Scene {
    async fn open() -> Self {
        let node = TestNode::with_one_worker();
        let goods = node.live_goods(1).await;
        let mut witness = node.visitor().room(goods).await;
        let mut author = node.user(2).room(goods).await;
        author.expect_frame("enter").await;
        witness.expect_frame("enter").await;
        let tab = node.user(2).room(goods).await;
        let mut alarms = node.user(2).socket_since(0).await;
        alarms.expect_frame("hello").await;
        Self { goods, author, alarms, tab, witness, node }
    }

    /// Asserts that the frame is refused with this code, on this socket and on the author's alarm socket.
    async fn refuses(&mut self, text: &str, code: &str) {
        self.author.send_text(text).await;
        let alert = self.author.next().await;
        assert_eq!((&alert["response_type"], &alert["code"]), (&json!("alert"), &json!(code)), "{text:.200}: {alert}");
        assert_eq!(keys(&alert), ["code", "message", "response_type"]);
        assert_eq!(alert["message"], "올바르지 않은 접근", "the origin's text");
        assert_eq!(self.alarms.next().await, alert, "{text:.200}");
    }

    /// Asserts that nobody got a frame, nothing was stored, and the author's socket still works.
    async fn assert_unharmed(mut self) {
        let stored = count(&self.node.database(), "room_lines") + count(&self.node.database(), "bids");
        assert_eq!(stored, 0);
        self.author.send_json(&line_frame(self.goods, 2, "a good line")).await;
        self.author.send_json(&bid_frame(self.goods, 2, 1000)).await;
        for socket in [&mut self.author, &mut self.tab, &mut self.witness] {
            // A bid and a line take different paths, so either may come first.
            let mut received = [socket.next().await, socket.next().await];
            received.sort_by_key(|frame| frame["response_type"].as_str().unwrap().to_owned());
            let [bid, line] = received;
            assert_eq!((&bid["response_type"], &bid["seq"]), (&json!("bid"), &json!(1)));
            assert_eq!((&line["response_type"], &line["message"]), (&json!("message"), &json!("a good line")));
        }
        assert_eq!(self.node.user(2).inbox().await, Vec::<Value>::new(), "an alert is no alarm");
        assert_eq!(self.node.user(1).inbox().await, Vec::<Value>::new());
    }
}

/// Fault 4: in the origin a frame says who bids, and on what.
#[actix_web::test]
async fn fault_4_a_socket_speaks_for_its_own_user_in_its_own_room_only() {
    let mut scene = Scene::open().await;
    let other = scene.node.live_goods(1).await;
    let mut elsewhere = scene.node.visitor().room(other).await;
    let goods = scene.goods;
    for is_money in [true, false] {
        let message = if is_money { json!(5000) } else { json!("hi") };
        for id in [json!(3), json!("3"), json!(1), json!("1"), json!(i64::MAX), json!(0), json!(-2), json!("0")] {
            let spoofed = json!({"is_money": is_money, "goods_id": goods, "user_id": id, "message": message});
            scene.refuses(&spoofed.to_string(), FORBIDDEN).await;
        }
        for id in [json!(other), json!(other.to_string()), json!(999), json!("999"), json!(0), json!(-1)] {
            for user in [json!(2), json!("2"), json!(3)] {
                let spoofed = json!({"is_money": is_money, "goods_id": id, "user_id": user, "message": message});
                scene.refuses(&spoofed.to_string(), FORBIDDEN).await;
            }
            let spoofed = json!({"is_money": is_money, "goods_id": id, "message": message});
            scene.refuses(&spoofed.to_string(), FORBIDDEN).await;
        }
        for id in ["null", "[2]", "{}", "\"\"", "\"2 \"", "\"-2\"", "\"x\"", "2.0", "2e0", "true", "1e999", "1e-999999"]
        {
            let message = &message;
            let odd = format!(r#"{{"is_money":{is_money},"user_id":{id},"message":{message}}}"#);
            scene.refuses(&odd, INVALID_VALUE).await;
            let odd = format!(r#"{{"is_money":{is_money},"goods_id":{id},"message":{message}}}"#);
            scene.refuses(&odd, INVALID_VALUE).await;
        }
    }
    // The other room got nothing of all this.
    assert_eq!(scene.node.user(4).bid(other, 1000).await.status, 201);
    assert_eq!(elsewhere.expect_frame("bid").await["sender"], 4);
    let before = count(&scene.node.database(), "bids");
    assert_eq!(before, 1);
    scene.author.send_json(&json!({"is_money": true, "goods_id": goods, "user_id": "2", "message": 1000})).await;
    let bid = scene.witness.expect_frame("bid").await;
    assert_eq!((&bid["sender"], &bid["goods_id"]), (&json!(2), &json!(goods)), "ints, whatever was sent");
    scene.author.send_json(&json!({"is_money": false, "goods_id": goods.to_string(), "message": "hi"})).await;
    let line = scene.witness.expect_frame("message").await;
    assert_eq!((&line["sender"], &line["goods_id"]), (&json!(2), &json!(goods)));
}

/// Fault 5: in the origin `"user_id":"1"` lets the seller bid.
#[actix_web::test]
async fn fault_5_the_seller_cannot_bid_in_a_room_however_the_id_is_written() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut witness = node.visitor().room(goods).await;
    let mut seller = node.user(1).room(goods).await;
    seller.expect_frame("enter").await;
    witness.expect_frame("enter").await;
    let ids = [json!({"user_id": 1}), json!({"user_id": "1"}), json!({}), json!({"user_id": "0001"})];
    for id in ids {
        let mut frame = json!({"is_money": true, "goods_id": goods.to_string(), "message": 5000});
        frame.as_object_mut().unwrap().extend(id.as_object().unwrap().clone());
        seller.send_json(&frame).await;
        let alert = json!({
            "response_type": "alert", "message": "주최자는 입찰을 못 합니다.", "code": "seller_cannot_bid",
        });
        assert_eq!(seller.next().await, alert, "{id}");
    }
    seller.send_json(&json!({"is_money": true, "goods_id": goods, "user_id": "2", "message": 5000})).await;
    assert_eq!(seller.expect_frame("alert").await["code"], FORBIDDEN);
    // The seller may write lines.
    seller.send_json(&line_frame(goods, 1, "welcome")).await;
    assert_eq!(witness.expect_frame("message").await["sender"], 1);
    assert_eq!(node.visitor().history(goods).await, Vec::<Value>::new());
}

/// Fault 10: in the origin these kill the socket, with everything pending on it.
#[actix_web::test]
async fn fault_10_invalid_prices_are_refused_to_their_author_alone() {
    let mut scene = Scene::open().await;
    let deep = format!("{}{}", "[".repeat(1500), "]".repeat(1500));
    let prices = [
        "1000000000001",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "1000000000000000000000000000000000000000000",
        "-1",
        "0",
        "-0",
        "-9223372036854775809",
        "1.0",
        "1.5",
        "5000.0",
        "5e3",
        "5E+3",
        "1e12",
        "1e-5",
        "1e999",
        "-1e999",
        "1e999999",
        "1e-999999",
        "null",
        "true",
        "false",
        "{}",
        "{\"price\":5000}",
        "[]",
        "[5000]",
        "\"\"",
        "\" 5000\"",
        "\"5000 \"",
        "\"+5000\"",
        "\"-5000\"",
        "\"5,000\"",
        "\"5000.0\"",
        "\"5e3\"",
        "\"0\"",
        "\"0x1388\"",
        "\"five\"",
        "\"５０００\"",
        "\"٥٠٠٠\"",
        "\"1000000000001\"",
        "\"9223372036854775808\"",
        "\"99999999999999999999999999999999\"",
        "\"5000\\u0000\"",
        "\"\\ud800\"",
        &deep,
    ];
    for price in prices {
        scene.refuses(&format!(r#"{{"is_money":true,"message":{price}}}"#), INVALID_VALUE).await;
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn fault_10_and_11_prices_beyond_32_bits_are_valid_bids() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut witness = node.visitor().room(goods).await;
    let mut sockets = Vec::new();
    for user in [2, 3] {
        sockets.push(node.user(user).room(goods).await);
        assert_eq!(witness.expect_frame("enter").await["user_id"], user);
    }
    let prices = [
        json!(2_147_483_646),
        json!(2_147_483_647),
        json!(2_147_483_648_i64),
        json!("4294967296"),
        json!("0004294967297"),
        json!(999_999_999_999_i64),
        json!(1_000_000_000_000_i64),
    ];
    for (nth, price) in prices.iter().enumerate() {
        sockets[nth % 2].send_json(&json!({"is_money": true, "message": price})).await;
        let received = witness.expect_frame("bid").await;
        let won = price.as_i64().or_else(|| price.as_str()?.parse().ok());
        assert_eq!((received["high_price"].as_i64(), received["seq"].as_u64()), (won, Some(nth as u64 + 1)));
    }
    let history = node.visitor().history(goods).await;
    assert_eq!(history.len(), prices.len());
    assert_eq!(history.last().unwrap()["price"], 1_000_000_000_000_i64);
}

#[actix_web::test]
async fn fault_10_invalid_room_frames_are_refused_to_their_author_alone() {
    let mut scene = Scene::open().await;
    let deep_array = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(600), "}".repeat(600));
    let no_frames = [
        "null",
        "true",
        "0",
        "-0.0",
        "1e999999",
        "\"hi\"",
        "\"\\ud800\"",
        "[]",
        "{}",
        "[{\"is_money\":false,\"message\":\"hi\"}]",
        "[false,1,2,\"hi\"]",
        "{\"type\":\"ping\"}",
        "{\"is_money\":true}",
        "{\"is_money\":false}",
        "{\"message\":5000}",
        "{\"message\":\"hi\"}",
        "{\"Is_money\":true,\"Message\":5000}",
        "{\"is_money\":true,\"user_id\":2}",
        "{\"is_money\":true,\"message\":5000,\"message\":5001}",
        "{\"is_money\":true,\"is_money\":false,\"message\":\"hi\"}",
        "{\"is_money\":true,\"user_id\":2,\"user_id\":3,\"message\":5000}",
        "{\"is_money\":true,\"goods_id\":1,\"goods_\\u0069d\":2,\"message\":5000}",
        &deep_array,
        &deep_object,
    ];
    for text in no_frames {
        scene.refuses(text, INVALID_BODY).await;
    }
    for is_money in ["null", "0", "1", "\"true\"", "\"false\"", "\"\"", "[true]", "{}", "1e999"] {
        scene.refuses(&format!(r#"{{"is_money":{is_money},"message":"5000"}}"#), INVALID_VALUE).await;
    }
    scene.assert_unharmed().await;
}

#[actix_web::test]
async fn the_length_of_a_line_is_counted_in_characters() {
    let mut scene = Scene::open().await;
    for long in ["a", "가", "👍", "\n", "\u{301}"] {
        scene.refuses(&line_frame(scene.goods, 2, &long.repeat(101)).to_string(), INVALID_VALUE).await;
    }
    for bad in ["\"\"", "null", "5000", "true", "[\"hi\"]", "{}", "\"a\\u0000b\"", "\"\\ud83d\"", "1e999"] {
        scene.refuses(&format!(r#"{{"is_money":false,"message":{bad}}}"#), INVALID_VALUE).await;
    }
    assert_eq!(count(&scene.node.database(), "room_lines"), 0);
    for good in ["a", "가", "👍", " ", "\n", "\u{301}"] {
        for times in [1, 100] {
            let text = good.repeat(times);
            scene.author.send_json(&line_frame(scene.goods, 2, &text)).await;
            for socket in [&mut scene.author, &mut scene.tab, &mut scene.witness] {
                assert_eq!(socket.expect_frame("message").await["message"], text);
            }
        }
    }
    assert_eq!(count(&scene.node.database(), "room_lines"), 12);
}

/// One room of each kind: a live auction room, and a trade chat of users 1 and 2.
async fn both_rooms() -> ([String; 2], TestNode) {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |settings| {
        settings.server.allowed_origins = vec!["https://market.example".into()];
        settings.session.max_per_user = 1000;
    });
    let sold = sold_goods(&node, &time).await;
    let live = node.live_goods(1).await;
    ([format!("/ws/auction/{live}/"), format!("/ws/chat/{sold}/")], node)
}

/// Sends these bytes on a fresh socket of user 2. The server must close with this code and a short reason, and end the
/// connection.
fn closes(node: &TestNode, path: &str, bytes: &[u8], code: u16, what: &str) {
    let mut raw = Raw::room(node.address(), path, &token(2, node.now()));
    raw.write(bytes);
    let (closed, reason) = raw.close_frame();
    assert_eq!(closed, code, "{path}: {what}");
    assert!((1..=123).contains(&reason.len()), "{what}: {reason}");
    raw.write(&masked(CLOSE, &code.to_be_bytes()));
    raw.end_of_input();
    assert!(raw.ends() < END_WITHIN, "{what}");
}

#[actix_web::test]
async fn a_frame_that_is_not_json_text_ends_its_socket_and_no_other() {
    let (paths, node) = both_rooms().await;
    let mut others = Vec::new();
    for path in &paths {
        others.push(Socket::open(&node.base(), path, &[], Some(&token(1, node.now()))).await.unwrap());
    }
    let many: Vec<u8> = std::iter::once(masked(TEXT_BEGINS, b"["))
        .chain((0..9000).map(|_| masked(CONTINUES, b" ")))
        .flatten()
        .collect();
    for path in &paths {
        for text in
            ["", " ", "hi", "{", "{\"is_money\":true,\"message\":5000", "{}{}", "{'a':1}", "\u{feff}{}", "NaN", "\0"]
        {
            closes(&node, path, &masked(TEXT, text.as_bytes()), 1007, text);
        }
        for text in [&b"\xff"[..], b"{\"is_money\":false,\"message\":\"\xff\"}", b"{\"message\":\"\xed\xa0\x80\"}"] {
            closes(&node, path, &masked(TEXT, text), 1007, "no UTF-8");
            let halves = [masked(TEXT_BEGINS, &text[..1]), masked(CONTINUES_LAST, &text[1..])].concat();
            closes(&node, path, &halves, 1007, "no UTF-8 in two fragments");
        }
        closes(&node, path, &masked(BINARY, b"{}"), 1003, "binary");
        closes(&node, path, &[masked(0x02, b"{}"), masked(CONTINUES_LAST, b"")].concat(), 1003, "binary in fragments");
        for length in [8193, 70_000] {
            closes(&node, path, &masked(TEXT, " ".repeat(length).as_bytes()), 1009, "too large");
        }
        closes(&node, path, &[&[TEXT, 0xff][..], &[0x7f; 8], &[0; 4]].concat(), 1009, "2^63 bytes announced");
        closes(&node, path, &many, 1009, "fragments without an end");
    }
    // The others are open. Apart from joins and leaves, the first frame that they get is the next line.
    for (socket, frame) in
        others.iter_mut().zip([json!({"is_money": false, "message": "hi"}), json!({"message": "hi"})])
    {
        socket.send_json(&frame).await;
        loop {
            let received = socket.next().await;
            match received["response_type"].as_str().unwrap() {
                "enter" | "out" | "goods_info" => {}
                "message" => break assert_eq!(received["message"], "hi"),
                _ => panic!("{received}"),
            }
        }
    }
    assert_eq!(count(&node.database(), "room_lines") + count(&node.database(), "trade_messages"), 2);
}

#[actix_web::test]
async fn fragments_of_a_frame_are_joined() {
    let (paths, node) = both_rooms().await;
    for (path, frame) in paths.iter().zip([json!({"is_money": false, "message": "가나"}), json!({"message": "가나"})])
    {
        let mut socket = Socket::open(&node.base(), path, &[], Some(&token(2, node.now()))).await.unwrap();
        socket.next().await;
        let frame = frame.to_string();
        // Split in the middle of a character.
        let (first, last) = frame.as_bytes().split_at(frame.find('가').unwrap() + 1);
        socket.send(Message::Continuation(Item::FirstText(first.to_vec().into()))).await;
        socket.send(Message::Ping("between".into())).await;
        socket.send(Message::Continuation(Item::Last(last.to_vec().into()))).await;
        assert_eq!(socket.expect_frame("message").await["message"], "가나");
    }
    // Exactly at the limit.
    let mut raw = Raw::room(node.address(), &paths[0], &token(3, node.now()));
    assert_eq!(raw.text()["response_type"], "enter");
    let line = json!({"is_money": false, "message": "long"}).to_string();
    raw.write(&masked(TEXT, (line.clone() + &" ".repeat(8192 - line.len())).as_bytes()));
    assert_eq!(raw.text()["message"], "long");
}

#[actix_web::test]
async fn a_visitor_who_sends_is_asked_to_log_in() {
    // A user may send as fast as they like, short of a flood.
    let node = TestNode::with(|settings| {
        settings.limits.lines_per_second = 5;
        settings.limits.bids_per_second = 5;
    });
    let goods = node.live_goods(1).await;
    let mut witness = node.visitor().room(goods).await;
    let mut visitor = node.visitor().room(goods).await;
    let frames = [
        bid_frame(goods, 2, 5000),
        line_frame(goods, 2, "hi"),
        json!({"is_money": true, "message": 5000}),
        json!({"is_money": false, "message": "hi"}),
        json!({"is_money": true, "message": null}),
        json!({}),
        json!([]),
    ];
    let alert = json!({"response_type": "alert", "message": "로그인이 필요합니다.", "code": "unauthorized"});
    for frame in frames.iter().chain(&frames).chain(&frames) {
        visitor.send_json(frame).await;
        assert_eq!(visitor.next().await, alert, "{frame}");
    }
    assert_eq!(node.user(2).bid(goods, 1000).await.status, 201);
    for socket in [&mut witness, &mut visitor] {
        assert_eq!(socket.expect_frame("bid").await["seq"], 1, "the first frame that arrives");
    }
    assert_eq!(count(&node.database(), "room_lines"), 0);
    let refused = Raw::connect(node.address()).handshake(&format!("/ws/chat/{goods}/"), &[]);
    assert_eq!((refused.status, refused.code().as_str()), (401, "unauthorized"), "a trade chat has no visitors");
}

#[actix_web::test]
async fn goods_that_do_not_exist_have_no_room() {
    let node = TestNode::start();
    node.live_goods(1).await;
    let bearer = format!("Bearer {}", token(2, node.now()));
    let bad =
        ["0", "-1", "+1", "01", "1.0", "1e0", "abc", "2", "9007199254740991", "9007199254740992", "%00", "1%20", "%ff"];
    for id in bad {
        for path in [format!("/ws/auction/{id}/"), format!("/ws/auction/{id}"), format!("/ws/chat/{id}/")] {
            let refused = Raw::connect(node.address()).handshake(&path, &[("Authorization", &bearer)]);
            assert_eq!((refused.status, refused.code().as_str()), (404, "not_found"), "{path}");
        }
        let refused = Raw::connect(node.address()).handshake(&format!("/ws/auction/{id}/"), &[]);
        assert_eq!(refused.status, 404, "a visitor at {id}");
    }
    for path in ["/ws/auction/", "/ws/auction", "/ws/chat/", "/ws/auction/1/x/", "/ws/auction//", "/ws/"] {
        let refused = Raw::connect(node.address()).handshake(path, &[("Authorization", &bearer)]);
        assert_eq!(refused.status, 404, "{path}");
    }
}

/// Fault 14: in the origin a bad token hangs for 4 s, and refresh tokens and inactive users get in.
#[actix_web::test]
async fn fault_14_a_bad_token_opens_no_room_and_is_refused_at_once() {
    let (paths, node) = both_rooms().await;
    let now = node.now();
    assert_eq!(node.admin().put("/admin/users/7", &json!({"is_active": false})).await.status, 200);
    let of_two = |own: Value| signed(&claims(&json!(2), now, &own));
    let bad = [
        ("expired", of_two(json!({"exp": now.secs() - 1}))),
        ("expires now", of_two(json!({"exp": now.secs()}))),
        ("refresh", of_two(json!({"token_type": "refresh"}))),
        ("without an end", of_two(json!({"exp": null}))),
        ("of nobody", of_two(json!({"user_id": null}))),
        ("inactive", token(7, now)),
        ("garbage", "garbage".to_owned()),
        ("cut", token(2, now)[..80].to_owned()),
    ];
    for path in &paths {
        for (what, bad) in &bad {
            let (bearer, offered) = (format!("Bearer {bad}"), format!("handsup.v1, bearer.{bad}"));
            let in_query = format!("{path}?token={bad}");
            let begun = Instant::now();
            for (path, headers) in [
                (path, &[("Authorization", bearer.as_str())][..]),
                (path, &[("Sec-WebSocket-Protocol", offered.as_str())]),
                (&in_query, &[]),
            ] {
                let refused = Raw::connect(node.address()).handshake(path, headers);
                assert_eq!((refused.status, refused.code().as_str()), (401, "unauthorized"), "{path}: {what}");
            }
            assert!(begun.elapsed() < Duration::from_secs(2), "at once");
        }
        // A bad token is refused before anything else is checked.
        let nowhere = Raw::connect(node.address()).handshake("/ws/auction/999/?token=x", &[]);
        assert_eq!(nowhere.status, 401);
        // The same requests with a valid token.
        let good = token(2, now);
        let (bearer, offered) = (format!("Bearer {good}"), format!("handsup.v1, bearer.{good}"));
        for (path, headers) in [
            (path, &[("Authorization", bearer.as_str())][..]),
            (path, &[("Sec-WebSocket-Protocol", offered.as_str())]),
            (&format!("{path}?token={good}"), &[]),
        ] {
            let opened = Raw::connect(node.address()).handshake(path, headers);
            assert_eq!(opened.status, 101, "{path}");
            assert!(!opened.head.contains(&good), "a token is not sent back");
        }
    }
}

#[actix_web::test]
async fn another_pages_origin_opens_no_room() {
    let (paths, node) = both_rooms().await;
    let bearer = format!("Bearer {}", token(2, node.now()));
    let address = node.address();
    for path in &paths {
        let from = |origin: &str| {
            let headers = [("Authorization", bearer.as_str()), ("Origin", origin)];
            Raw::connect(address).handshake(path, &headers)
        };
        for good in ["https://market.example", &format!("http://{address}")] {
            assert_eq!(from(good).status, 101, "{good}");
        }
        for other in
            ["https://evil.example", "http://market.example", "https://market.example.evil.example", "null", ""]
        {
            let refused = from(other);
            assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"), "{other}");
        }
        let no_browser = Raw::connect(node.address()).handshake(path, &[("Authorization", &bearer)]);
        assert_eq!(no_browser.status, 101);
    }
}

#[actix_web::test]
async fn a_request_to_a_room_that_is_not_a_handshake_is_answered_with_a_problem() {
    let (paths, node) = both_rooms().await;
    for path in &paths {
        let answer = node.user(2).get(path).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_body"));
    }
    let posted = node.user(2).post(&paths[0], &trade_frame(1, 2, "hi")).await;
    assert!((400..500).contains(&posted.status), "{}", posted.status);
}
