//! A whole auction evening, played by clients that send exactly what the existing web client sends and check each frame
//! and body for exactly the fields of the contract.

use handsup::test_support::domain::Timestamp;
use serde_json::{Value, json};

use super::support::{Client, ManualTime, Socket, TestNode, eventually, goods_body};

/// The fields of each kind of frame: the origin's, and those that the contract adds.
fn fields(frame: &Value) -> &'static [&'static str] {
    match (frame["response_type"].as_str().unwrap(), frame["kind"].as_str()) {
        ("enter", _) => &["participants_count", "response_type", "sender", "sender_name", "user_id"],
        ("out", _) => &["participants_count", "response_type", "user_id"],
        ("bid", _) => &[
            "bid_id",
            "ends_at",
            "goods_id",
            "high_price",
            "response_type",
            "sender",
            "sender_image",
            "sender_name",
            "seq",
            "server_time",
        ],
        // In a trade, with the author's picture.
        ("message", _) if frame.get("sender_image").is_some() => {
            &["goods_id", "message", "response_type", "sender", "sender_image", "sender_name", "time"]
        }
        ("message", _) => &["goods_id", "id", "message", "response_type", "sender", "sender_name", "time"],
        ("started", _) => &["response_type", "server_time"],
        ("extended", _) => &["ends_at", "response_type", "server_time"],
        ("ended", _) => &["buyer_id", "buyer_name", "high_price", "reason", "response_type", "server_time"],
        ("goods_info", _) => &["goods_id", "high_price", "image", "response_type", "title"],
        ("alert", _) if frame["code"] == "bid_too_low" => &["code", "high_price", "message", "response_type"],
        ("alert", _) => &["code", "message", "response_type"],
        ("chat_alram", _) => &[
            "created_at",
            "goods_id",
            "goods_title",
            "id",
            "kind",
            "message",
            "response_type",
            "sender",
            "sender_name",
        ],
        ("alram", Some("auction_started")) => &[
            "created_at",
            "ends_at",
            "goods_id",
            "goods_title",
            "id",
            "kind",
            "message",
            "response_type",
            "start_price",
        ],
        ("alram", Some("outbid")) => &[
            "created_at",
            "ends_at",
            "goods_id",
            "goods_title",
            "high_price",
            "id",
            "kind",
            "message",
            "response_type",
        ],
        ("alram", Some("auction_won" | "auction_sold")) => &[
            "created_at",
            "goods_id",
            "goods_title",
            "high_price",
            "id",
            "kind",
            "message",
            "response_type",
            "trade_room_id",
        ],
        ("alram", Some("auction_lost")) => {
            &["created_at", "goods_id", "goods_title", "high_price", "id", "kind", "message", "response_type"]
        }
        other => panic!("unexpected {other:?}: {frame}"),
    }
}

/// One page in the browser: it opens its socket when it is loaded, and never again.
struct Page {
    socket: Socket,
}

impl Page {
    fn new(socket: Socket) -> Self {
        Self { socket }
    }

    /// The next frame. Asserts that it has exactly its fields.
    async fn expects(&mut self, response_type: &str) -> Value {
        let frame = self.socket.next().await;
        assert_eq!(frame["response_type"], response_type, "{frame}");
        let mut found: Vec<&str> = frame.as_object().unwrap().keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, fields(&frame), "{frame}");
        for id in ["sender", "user_id", "goods_id", "participants_count", "high_price", "id"] {
            assert!(frame.get(id).is_none_or(Value::is_i64), "{id} is a number: {frame}");
        }
        frame
    }

    async fn expects_alarm(&mut self, kind: &str, message: &str) -> Value {
        let alarm = self.expects("alram").await;
        assert_eq!((&alarm["kind"], &alarm["message"]), (&json!(kind), &json!(message)), "{alarm}");
        alarm
    }

    async fn sends(&mut self, frame: &Value) {
        self.socket.send_json(frame).await;
    }
}

/// A user as lists and pages show them.
fn person(id: i64) -> Value {
    json!({
        "id": id, "username": format!("name{id}"), "profile_image": "/media/default.jpeg", "rating_score": 40,
        "is_active": true,
    })
}

/// The goods of the evening as a list shows them to user 2: as they are at first, with some fields replaced.
fn listed(node: &TestNode, goods: i64, own: Value) -> Value {
    let mut listed = json!({
        "id": goods, "seller": person(1), "buyer": null, "is_like": true, "images": {"image": "/media/goods/a.png"},
        "participants_count": 0, "title": "camera", "content": "a camera", "category": "기타", "status": null,
        "predict_price": 20000, "start_price": 1000, "high_price": 0, "start_date": "2026-11-22", "start_time": "17:30",
        "created_at": "2026-11-22T17:29:27.865026", "trade_room": null, "like": [2, 3],
        "starts_at": "2026-11-22T08:30:00.000Z", "ends_at": "2026-11-22T08:32:00.000Z", "min_increment": 1, "bid_seq": 0,
        "external_id": null, "like_count": 2, "watchers": 0, "server_time": node.now().rfc3339(),
    });
    put(&mut listed, own);
    listed
}

fn put(value: &mut Value, own: Value) {
    let (Value::Object(fields), Value::Object(own)) = (value, own) else { panic!("two objects") };
    fields.extend(own);
    // Nobody is a mere visitor.
    if let Some(count) = fields.get("participants_count").cloned() {
        fields.insert("watchers".to_owned(), count);
    }
}

async fn gets(client: &Client, path: &str, expected: &Value) {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    assert_eq!(&answer.body, expected, "{path}");
}

/// Loads what the existing client shows first: the list, the goods' page, its lines and the recommended goods. Each
/// body is compared whole.
async fn loads(client: &Client, goods: &Value, bids: Value, participants: Value, lines: Value) {
    let id = &goods["id"];
    let mut page = goods.clone();
    put(
        &mut page,
        json!({
            "images": [{"image": "/media/goods/a.png"}, {"image": "/media/goods/b.png"}], "bids": bids,
            "participants": participants,
        }),
    );
    let mut recommended = goods.clone();
    let image = recommended.as_object_mut().unwrap().remove("images");
    let buyer = goods["buyer"]["username"].clone();
    put(&mut recommended, json!({"seller": "name1", "buyer": buyer, "image": image}));
    let recommended = if goods["status"] == false { json!([]) } else { json!([recommended]) };
    gets(client, "/goods/?page=1&category=&status=&search=", &json!([goods])).await;
    gets(client, &format!("/goods/{id}/"), &page).await;
    gets(client, &format!("/goods/{id}/chat/?page=1"), &lines).await;
    gets(client, "/goods/recommend/", &recommended).await;
    assert_eq!(client.get("/goods/?page=99&category=&status=&search=").await.status, 404, "the endless scroll stops");
}

#[actix_web::test]
async fn an_evening_as_the_existing_client_plays_it() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:29:27.865026Z").unwrap());
    let node = TestNode::with_time(time.clone(), |settings| settings.auction.soft_close_s = 30);
    let (seller, a, b) = (node.user(1), node.user(2), node.user(3));
    let own = json!({
        "start_date": "2026-11-22", "start_time": "17:30", "duration_s": 120, "content": "a camera",
        "images": ["/media/goods/a.png", "/media/goods/b.png"],
    });
    let goods = seller.post("/goods/", &goods_body(&own)).await.body["id"].as_i64().unwrap();
    for liker in [&a, &b] {
        let toggled = liker.get(&format!("/goods/like/{goods}/")).await;
        assert_eq!((toggled.status, toggled.text.as_str()), (200, ""));
    }
    for (client, is_like) in [(&seller, false), (&a, true), (&b, true)] {
        loads(client, &listed(&node, goods, json!({"is_like": is_like})), json!([]), json!([]), json!([])).await;
    }

    // Every page has the alarm socket; the room has a socket of its own. `a` has two tabs.
    let (mut seller_alarms, mut a_alarms) = (Page::new(seller.socket().await), Page::new(a.socket().await));
    let mut b_alarms = Page::new(b.socket().await);
    let mut seller_room = Page::new(seller.room(goods).await);
    node.wait_for_participants(goods, 1).await;
    let mut a_room = Page::new(a.room(goods).await);
    node.wait_for_participants(goods, 2).await;
    let mut a_tab = Page::new(a.room(goods).await);
    let mut b_room = Page::new(b.room(goods).await);
    assert_eq!(seller_room.expects("enter").await["participants_count"], 1);
    for page in [&mut seller_room, &mut a_room] {
        let entered = page.expects("enter").await;
        assert_eq!((&entered["sender_name"], &entered["participants_count"]), (&json!("name2"), &json!(2)));
    }
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        let entered = page.expects("enter").await;
        assert_eq!((&entered["user_id"], &entered["participants_count"]), (&json!(3), &json!(3)), "two tabs are one");
    }

    // The start.
    time.set(Timestamp::parse_rfc3339("2026-11-22T08:30:00Z").unwrap());
    for page in [&mut a_alarms, &mut b_alarms] {
        page.expects_alarm("auction_started", "경매가 시작됐어요").await;
    }
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        page.expects("started").await;
    }

    // They talk, bid, are refused and outbid. The client takes the goods' id from the address, as text.
    let id = goods.to_string();
    a_room.sends(&json!({"is_money": false, "goods_id": id, "user_id": 2, "message": "안녕하세요"})).await;
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        assert_eq!(page.expects("message").await["message"], "안녕하세요");
    }
    a_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 2, "message": 5000})).await;
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        assert_eq!(page.expects("bid").await["high_price"], 5000);
    }
    b_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 3, "message": 5000})).await;
    for page in [&mut b_room, &mut b_alarms] {
        let alert = page.expects("alert").await;
        assert_eq!(alert["message"], "현재 입찰가보다 낮거나 종료된 경매입니다.");
    }
    seller_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 1, "message": 9000})).await;
    for page in [&mut seller_room, &mut seller_alarms] {
        assert_eq!(page.expects("alert").await["message"], "주최자는 입찰을 못 합니다.");
    }
    b_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 3, "message": 6000})).await;
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        let bid = page.expects("bid").await;
        assert_eq!((&bid["sender"], &bid["high_price"], &bid["goods_id"]), (&json!(3), &json!(6000), &json!(goods)));
    }
    a_alarms.expects_alarm("outbid", "다른 핸더가 입찰했어요!").await;
    // A bid in the last 30 seconds moves the end.
    time.set(Timestamp::parse_rfc3339("2026-11-22T08:31:50Z").unwrap());
    b_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 3, "message": 7000})).await;
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        assert_eq!(page.expects("bid").await["seq"], 3);
        assert_eq!(page.expects("extended").await["ends_at"], "2026-11-22T08:32:20.000Z");
    }
    let now = json!({
        "status": true, "buyer": person(3), "high_price": 7000, "bid_seq": 3, "participants_count": 3,
        "ends_at": "2026-11-22T08:32:20.000Z",
    });
    let bids = json!([
        {"id": 3, "user": "name3", "price": 7000, "goods": goods}, {"id": 2, "user": "name3", "price": 6000, "goods": goods},
        {"id": 1, "user": "name2", "price": 5000, "goods": goods},
    ]);
    let names = json!([{"id": 1, "user": "name1"}, {"id": 2, "user": "name2"}, {"id": 3, "user": "name3"}]);
    let lines =
        json!([{"id": 1, "author": "name2", "created_at": "오후 05:30", "content": "안녕하세요", "goods": goods}]);
    node.wait_for_participants(goods, 3).await;
    loads(&a, &listed(&node, goods, now), bids.clone(), names, lines.clone()).await;

    // The auction ends with a buyer.
    time.set(Timestamp::parse_rfc3339("2026-11-22T08:32:21Z").unwrap());
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        let ended = page.expects("ended").await;
        assert_eq!((&ended["buyer_id"], &ended["high_price"]), (&json!(3), &json!(7000)));
    }
    let won = b_alarms.expects_alarm("auction_won", "낙찰 되었습니다!").await;
    let sold = seller_alarms.expects_alarm("auction_sold", "상품이 낙찰됐어요!").await;
    a_alarms.expects_alarm("auction_lost", "아쉽게 낙찰받지 못했어요").await;
    assert_eq!(won["trade_room_id"], sold["trade_room_id"]);

    // The loser cannot enter the trade. The buyer opens it and writes while the seller is offline.
    assert_eq!(a.try_trade(goods).await.err(), Some(403));
    assert_eq!(a.get(&format!("/chat/goods/{goods}/")).await.status, 403);
    seller_alarms.socket.close().await;
    seller_room.socket.close().await;
    let trade = |wait_cnt: i64, last: &str, at: &str| {
        json!([{
            "id": goods, "seller": person(1), "buyer": person(3), "image": "/media/goods/a.png", "wait_cnt": wait_cnt,
            "title": "camera", "high_price": 7000, "last_message": {"message": last, "created_at": at},
        }])
    };
    let opened_at = b.get("/chat/").await.body[0]["last_message"]["created_at"].as_str().unwrap().to_owned();
    gets(&b, "/chat/", &trade(0, "거래를 시작해 주세요!", &opened_at)).await;
    let mut b_trade = Page::new(b.try_trade(goods).await.unwrap());
    let info = b_trade.expects("goods_info").await;
    assert_eq!((&info["image"], &info["high_price"]), (&json!("/media/goods/a.png"), &json!(7000)));
    time.advance_ms(60_000);
    b_trade.sends(&json!({"user_id": 3, "goods_id": id, "message": "직거래 가능?"})).await;
    assert_eq!(b_trade.expects("message").await["message"], "직거래 가능?");

    // In the morning the seller finds the message and answers.
    let mut seller_alarms = Page::new(seller.socket().await);
    // What the seller's browser received just before it closed may come again; it is known by its id.
    let mut found = seller_alarms.socket.next().await;
    while found["id"].as_i64() <= sold["id"].as_i64() {
        found = seller_alarms.socket.next().await;
    }
    assert_eq!(found["response_type"], "chat_alram", "{found}");
    assert_eq!((&found["message"], &found["sender"]), (&json!("직거래 가능?"), &json!(3)));
    assert_eq!((&found["sender_name"], &found["goods_id"]), (&json!("name3"), &json!(goods)));
    let said_at = "2026-11-22T17:33:21.000000";
    gets(&seller, "/chat/", &trade(1, "직거래 가능?", said_at)).await;
    let message = json!({"content": "직거래 가능?", "is_read": true, "created_at": said_at, "author": person(3)});
    gets(&seller, &format!("/chat/goods/{goods}/"), &json!([message])).await;
    gets(&seller, "/chat/", &trade(0, "직거래 가능?", said_at)).await;
    let mut seller_trade = Page::new(seller.try_trade(goods).await.unwrap());
    seller_trade.expects("goods_info").await;
    seller_trade.sends(&json!({"user_id": 1, "goods_id": goods, "message": "네"})).await;
    for page in [&mut seller_trade, &mut b_trade] {
        let message = page.expects("message").await;
        assert_eq!(
            (&message["message"], &message["sender"], &message["goods_id"]),
            (&json!("네"), &json!(1), &json!(goods))
        );
    }
    assert_eq!(b_alarms.expects("chat_alram").await["message"], "네", "in any case");
    // It was written to the buyer's open socket, so it is read.
    eventually("read on both sides", || async {
        let talk = seller.get(&format!("/chat/goods/{goods}/")).await.body;
        talk.as_array().unwrap().iter().all(|message| message["is_read"] == true).then_some(())
    })
    .await;
    assert_eq!(b.get("/chat/").await.body[0]["wait_cnt"], 0);

    // What remains afterwards.
    node.wait_for_participants(goods, 2).await;
    let past = json!({
        "status": false, "buyer": person(3), "high_price": 7000, "bid_seq": 3, "participants_count": 2,
        "ends_at": "2026-11-22T08:32:20.000Z", "trade_room": won["trade_room_id"],
    });
    let names = json!([{"id": 2, "user": "name2"}, {"id": 3, "user": "name3"}]);
    loads(&a, &listed(&node, goods, past), bids, names, lines).await;
    let bought = b.get("/goods/user/3/?status=buy").await.body;
    assert_eq!(bought[0]["id"], goods);
    // The first tab closes, then the second: only then has the user left.
    a_tab.socket.close().await;
    a_room.socket.close().await;
    assert_eq!(b_room.expects("out").await, json!({"response_type": "out", "participants_count": 2, "user_id": 1}));
    assert_eq!(b_room.expects("out").await, json!({"response_type": "out", "participants_count": 1, "user_id": 2}));
}
