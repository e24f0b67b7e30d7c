//! The whole auction evening, played by clients that send exactly what the existing web client sends (ORIGIN.md 2 and 3)
//! and look at every frame and body for exactly the fields that the contract names.

use serde_json::{Value, json};

use super::support::{Client, Socket, TestNode, eventually, goods_body};

/// The fields of each kind of frame: the origin's, and those that the contract puts beside them.
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
        // In a trade with the author's picture.
        ("message", _) if frame.get("sender_image").is_some() => {
            &["goods_id", "message", "response_type", "sender", "sender_image", "sender_name", "time"]
        }
        ("message", _) => &["goods_id", "message", "response_type", "sender", "sender_name", "time"],
        ("started", _) => &["response_type"],
        ("ended", _) => &["buyer_id", "buyer_name", "high_price", "response_type"],
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
        other => panic!("nobody expects {other:?}: {frame}"),
    }
}

/// One page of the browser: it opens its sockets when it is loaded, and never again.
struct Page {
    socket: Socket,
}

impl Page {
    fn new(socket: Socket) -> Self {
        Self { socket }
    }

    /// The next frame, of exactly the fields that it should have.
    async fn hears(&mut self, response_type: &str) -> Value {
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

    async fn hears_alarm(&mut self, kind: &str, message: &str) -> Value {
        let alarm = self.hears("alram").await;
        assert_eq!((&alarm["kind"], &alarm["message"]), (&json!(kind), &json!(message)), "{alarm}");
        alarm
    }

    async fn sends(&mut self, frame: &Value) {
        self.socket.send_json(frame).await;
    }
}

/// What the existing client shows first: the list, then the goods' page and what has been said there.
async fn loads(client: &Client, goods: i64) {
    for path in [
        "/goods/?page=1&category=&status=&search=".to_owned(),
        format!("/goods/{goods}/"),
        format!("/goods/{goods}/chat/?page=1"),
        "/goods/recommend/".to_owned(),
    ] {
        let answer = client.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    assert_eq!(client.get("/goods/?page=99&category=&status=&search=").await.status, 404, "the endless scroll stops");
}

#[actix_web::test]
async fn an_evening_as_the_existing_client_plays_it() {
    let node = TestNode::start();
    let (seller, a, b) = (node.user(1), node.user(2), node.user(3));
    let starts_at = node.now().plus_ms(2500);
    let own = json!({"starts_at": starts_at, "duration_s": 4, "images": ["/media/goods/a.png", "/media/goods/b.png"]});
    let goods = seller.post("/goods/", &goods_body(&own)).await.body["id"].as_i64().unwrap();
    for liker in [&a, &b] {
        let toggled = liker.get(&format!("/goods/like/{goods}/")).await;
        assert_eq!((toggled.status, toggled.text.as_str()), (200, ""));
    }
    for client in [&seller, &a, &b] {
        loads(client, goods).await;
    }

    // Every page has the alarm banner; the room has a socket of its own. `a` has two tabs.
    let (mut seller_alarms, mut a_alarms) = (Page::new(seller.socket().await), Page::new(a.socket().await));
    let mut b_alarms = Page::new(b.socket().await);
    let mut seller_room = Page::new(seller.room(goods).await);
    node.knows_participants(goods, 1).await;
    let mut a_room = Page::new(a.room(goods).await);
    node.knows_participants(goods, 2).await;
    let mut a_tab = Page::new(a.room(goods).await);
    let mut b_room = Page::new(b.room(goods).await);
    assert_eq!(seller_room.hears("enter").await["participants_count"], 1);
    for page in [&mut seller_room, &mut a_room] {
        let entered = page.hears("enter").await;
        assert_eq!((&entered["sender_name"], &entered["participants_count"]), (&json!("name2"), &json!(2)));
    }
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        let entered = page.hears("enter").await;
        assert_eq!((&entered["user_id"], &entered["participants_count"]), (&json!(3), &json!(3)), "two tabs are one");
    }

    // The start.
    for page in [&mut a_alarms, &mut b_alarms] {
        page.hears_alarm("auction_started", "경매가 시작됐어요").await;
    }
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        page.hears("started").await;
    }

    // They talk, bid, are refused and outbid. The client takes the goods' id from the address, as a text.
    let id = goods.to_string();
    a_room.sends(&json!({"is_money": false, "goods_id": id, "user_id": 2, "message": "안녕하세요"})).await;
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        assert_eq!(page.hears("message").await["message"], "안녕하세요");
    }
    a_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 2, "message": 5000})).await;
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        assert_eq!(page.hears("bid").await["high_price"], 5000);
    }
    b_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 3, "message": 5000})).await;
    for page in [&mut b_room, &mut b_alarms] {
        let alert = page.hears("alert").await;
        assert_eq!(alert["message"], "현재 입찰가보다 낮거나 종료된 경매입니다.");
    }
    seller_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 1, "message": 9000})).await;
    for page in [&mut seller_room, &mut seller_alarms] {
        assert_eq!(page.hears("alert").await["message"], "주최자는 입찰을 못 합니다.");
    }
    b_room.sends(&json!({"is_money": true, "goods_id": id, "user_id": 3, "message": 6000})).await;
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        let bid = page.hears("bid").await;
        assert_eq!((&bid["sender"], &bid["high_price"], &bid["goods_id"]), (&json!(3), &json!(6000), &json!(goods)));
    }
    a_alarms.hears_alarm("outbid", "다른 핸더가 입찰했어요!").await;

    // One wins.
    for page in [&mut seller_room, &mut a_room, &mut a_tab, &mut b_room] {
        let ended = page.hears("ended").await;
        assert_eq!((&ended["buyer_id"], &ended["high_price"]), (&json!(3), &json!(6000)));
    }
    let won = b_alarms.hears_alarm("auction_won", "낙찰 되었습니다!").await;
    let sold = seller_alarms.hears_alarm("auction_sold", "상품이 낙찰됐어요!").await;
    a_alarms.hears_alarm("auction_lost", "아쉽게 낙찰받지 못했어요").await;
    assert_eq!(won["trade_room_id"], sold["trade_room_id"]);

    // The loser can't get into the trade; the buyer opens it and writes while the seller has gone to bed.
    assert_eq!(a.try_trade(goods).await.err(), Some(403));
    assert_eq!(a.get(&format!("/chat/goods/{goods}/")).await.status, 403);
    seller_alarms.socket.close().await;
    seller_room.socket.close().await;
    let list = b.get("/chat/").await.body;
    assert_eq!(list[0]["last_message"]["message"], "거래를 시작해 주세요!");
    let mut b_trade = Page::new(b.try_trade(goods).await.unwrap());
    let info = b_trade.hears("goods_info").await;
    assert_eq!((&info["image"], &info["high_price"]), (&json!("/media/goods/a.png"), &json!(6000)));
    b_trade.sends(&json!({"user_id": 3, "goods_id": id, "message": "직거래 가능?"})).await;
    assert_eq!(b_trade.hears("message").await["message"], "직거래 가능?");

    // In the morning the seller finds the message, and answers.
    let mut seller_alarms = Page::new(seller.socket().await);
    // What his browser took just before he closed it may come again; it is told by its id.
    let mut found = seller_alarms.socket.next().await;
    while found["id"].as_i64() <= sold["id"].as_i64() {
        found = seller_alarms.socket.next().await;
    }
    assert_eq!(found["response_type"], "chat_alram", "{found}");
    assert_eq!((&found["message"], &found["sender"]), (&json!("직거래 가능?"), &json!(3)));
    assert_eq!((&found["sender_name"], &found["goods_id"]), (&json!("name3"), &json!(goods)));
    let list = seller.get("/chat/").await.body;
    assert_eq!((&list[0]["id"], &list[0]["wait_cnt"]), (&json!(goods), &json!(1)));
    let talk = seller.get(&format!("/chat/goods/{goods}/")).await.body;
    assert_eq!((&talk[0]["content"], &talk[0]["author"]["username"]), (&json!("직거래 가능?"), &json!("name3")));
    assert_eq!(seller.get("/chat/").await.body[0]["wait_cnt"], 0, "read");
    let mut seller_trade = Page::new(seller.try_trade(goods).await.unwrap());
    seller_trade.hears("goods_info").await;
    seller_trade.sends(&json!({"user_id": 1, "goods_id": goods, "message": "네"})).await;
    for page in [&mut seller_trade, &mut b_trade] {
        let message = page.hears("message").await;
        assert_eq!(
            (&message["message"], &message["sender"], &message["goods_id"]),
            (&json!("네"), &json!(1), &json!(goods))
        );
    }
    assert_eq!(b_alarms.hears("chat_alram").await["message"], "네", "in any case");
    // It was written to the buyer's open socket: it is read.
    eventually("read on both sides", || async {
        let talk = seller.get(&format!("/chat/goods/{goods}/")).await.body;
        talk.as_array().unwrap().iter().all(|message| message["is_read"] == true).then_some(())
    })
    .await;
    assert_eq!(b.get("/chat/").await.body[0]["wait_cnt"], 0);

    // What stays of it.
    let page = a.get(&format!("/goods/{goods}/")).await.body;
    assert_eq!(
        (&page["status"], &page["buyer"]["username"], &page["high_price"]),
        (&json!(false), &json!("name3"), &json!(6000))
    );
    assert_eq!(page["bids"].as_array().unwrap().len(), 2);
    let lines = a.get(&format!("/goods/{goods}/chat/?page=1")).await.body;
    assert_eq!((&lines[0]["author"], &lines[0]["content"]), (&json!("name2"), &json!("안녕하세요")));
    let bought = b.get("/goods/user/3/?status=buy").await.body;
    assert_eq!(bought[0]["id"], goods);
    // The first tab goes, then the second: only then is he out.
    a_tab.socket.close().await;
    a_room.socket.close().await;
    assert_eq!(b_room.hears("out").await, json!({"response_type": "out", "participants_count": 2, "user_id": 1}));
    assert_eq!(b_room.hears("out").await, json!({"response_type": "out", "participants_count": 1, "user_id": 2}));
}
