//! `GET /admin/users/{id}/export` and `DELETE /admin/users/{id}`: what is kept of a user, and that it goes.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::{
    audit::audit,
    nodes_rooms::next_event,
    support::{
        Client, ManualTime, Market, TestNode, count, database, eventually, eventually_within, goods_body, line_frame,
        noon_in_seoul, signed, trade_frame, wait_for_end,
    },
};

/// Unfinished erasures are looked for every few seconds.
const JOB_DEADLINE: Duration = Duration::from_secs(30);

/// What user 7 has written, or is called; nothing of it may stay.
const SECRETS: [&str; 6] =
    ["mina-secret", "secret-picture", "secret-line", "secret-message", "secret-key", "Dear Mina"];

/// User 7 does everything that a user can do. Returns goods that they have bought, and live goods that they lead.
async fn live_of_seven(node: &TestNode, time: &ManualTime) -> [i64; 2] {
    let token = signed(&json!({"user_id": 7, "username": "mina-secret", "iat": node.now().secs(),
        "exp": node.now().secs() + 360_000}));
    let mina = node.client(Some(token));
    let own = json!({"starts_at": node.now().plus_ms(90_000_000), "images": ["/media/own.png"]});
    assert_eq!(mina.post("/goods/", &goods_body(&own)).await.status, 201);
    let picture = json!({"profile_image": "/media/secret-picture.png", "rating_score": 77});
    assert_eq!(node.admin().put("/admin/users/7", &picture).await.status, 200);
    let (bought, led) = (node.goods(1, 0, 60).await, node.goods(1, 0, 86_400).await);
    for goods in [bought, led] {
        mina.like(goods).await;
        let (path, bid) = (format!("/goods/{goods}/bids"), json!({"price": 1000}).to_string().into_bytes());
        let key = [("Idempotency-Key", &*format!("secret-key-{goods}"))];
        assert_eq!(mina.send_with(Method::POST, &path, Some(bid), &key).await.status, 201);
    }
    let mut room = mina.room(led).await;
    room.expect_frame("enter").await;
    room.send_json(&line_frame(led, 7, "secret-line")).await;
    room.expect_frame("message").await;
    room.close().await;
    assert_eq!(mina.put("/alarms/preferences", &json!({"muted": ["ending_soon"], "locale": "en"})).await.status, 200);
    let notice = json!({"to": {"user_ids": [7]}, "message": "Dear Mina"});
    assert_eq!(node.admin().post("/admin/alarms", &notice).await.status, 202);
    time.advance_ms(60_000);
    wait_for_end(node, bought).await;
    for (author, id, text) in [(node.user(1), 1, "first"), (mina, 7, "secret-message")] {
        let mut trade = author.try_trade(bought).await.unwrap();
        trade.expect_frame("goods_info").await;
        trade.send_json(&trade_frame(bought, id, text)).await;
        trade.expect_frame("message").await;
        trade.close().await;
    }
    [bought, led]
}

/// Whether user 7 is found anywhere in what is stored.
fn stored_secrets(node: &TestNode) -> Vec<&'static str> {
    let stored = database::all_that_is_stored(node.folder());
    let is_there = |secret: &&str| stored.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
    SECRETS.into_iter().filter(is_there).collect()
}

#[actix_web::test]
async fn an_export_has_all_that_is_kept_of_a_user() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |_| {});
    let [bought, led] = live_of_seven(&node, &time).await;
    let export = node.admin().get("/admin/users/7/export").await;
    assert_eq!(
        (export.status, export.headers.get("content-type").unwrap().to_str().unwrap()),
        (200, "application/json")
    );
    let mut export = export.body;
    let names: Vec<&str> = export.as_object().expect("JSON").keys().map(String::as_str).collect();
    let mut expected =
        ["user", "goods", "bids", "likes", "lines", "trades", "messages", "alarms", "idempotency_keys", "audit"];
    expected.sort_unstable();
    assert_eq!(names, expected);
    let user = &export["user"];
    assert_eq!((&user["id"], &user["username"], &user["rating_score"]), (&json!(7), &json!("mina-secret"), &json!(77)));
    assert_eq!((&user["muted"], &user["is_active"]), (&json!(["ending_soon"]), &json!(true)));
    assert_eq!(user["locale"], "en");
    assert_eq!(export["goods"][0]["images"], json!(["/media/own.png"]));
    let bids: Vec<_> = export["bids"].as_array().unwrap().iter().map(|bid| &bid["goods_id"]).collect();
    assert_eq!(bids, [&json!(bought), &json!(led)]);
    assert_eq!(export["likes"], json!([{"goods_id": bought}, {"goods_id": led}]));
    assert_eq!(export["lines"][0]["content"], "secret-line");
    assert_eq!((&export["trades"][0]["goods_id"], &export["trades"][0]["buyer_id"]), (&json!(bought), &json!(7)));
    assert_eq!(export["messages"].as_array().unwrap().len(), 1, "not what others wrote: {}", export["messages"]);
    assert_eq!(export["messages"][0]["content"], "secret-message");
    assert_eq!(export["idempotency_keys"][0]["key"], format!("secret-key-{bought}"));
    assert_eq!(export["audit"][0]["action"], "user.change");
    let inbox = node.user(7).inbox().await;
    assert_eq!(export["alarms"], json!(inbox), "the inbox as its user sees it");
    // Of others there is nothing but ids, and what stands in the inbox.
    export["alarms"].take();
    for other in ["name1", "first"] {
        assert!(!export.to_string().contains(other), "{other}");
    }
    let empty = node.admin().get("/admin/users/999/export").await.body;
    assert_eq!((&empty["goods"], &empty["alarms"]), (&json!([]), &json!([])));
    assert_eq!(empty["audit"].as_array().unwrap().len(), 2, "what they did as an admin");
}

#[actix_web::test]
async fn a_large_export_is_complete() {
    let market = Market::open();
    let goods: Vec<i64> = (0..3).map(|_| market.live(1)).collect();
    for price in 1000..3000 {
        market.bid(goods[0], 2 + price % 2, price, market.now());
    }
    market.lines(goods[0], 2, (0..1001).map(|line| format!("line {line}")));
    for other in 0..3 {
        market.lines(goods[other % 3], 3, ["of another".to_owned()]);
    }
    let likes: Vec<i64> = (0..401).map(|_| market.scheduled(1)).collect();
    market.seed().likes(&likes, [2]);
    let node = market.serve();
    let export = node.admin().get("/admin/users/2/export").await.body;
    let length = |list: &str| export[list].as_array().unwrap_or_else(|| panic!("{list}")).len();
    assert_eq!((length("bids"), length("lines"), length("likes")), (1000, 1001, 401));
    assert_eq!(length("alarms"), node.user(2).inbox().await.len());
    assert!(length("alarms") > 400, "{}", length("alarms"));
    assert_eq!(export["lines"][1000]["content"], "line 1000");
}

#[actix_web::test]
async fn an_erased_user_is_gone_but_for_their_entries() {
    let time = ManualTime::at(noon_in_seoul());
    let mut node = TestNode::with_time(time.clone(), |_| {});
    let [bought, led] = live_of_seven(&node, &time).await;
    let mina = node.client(Some(signed(&json!({"user_id": 7, "username": "mina-secret",
        "iat": node.now().secs(), "exp": node.now().secs() + 360_000}))));
    let mut sockets = vec![mina.socket().await, mina.room(led).await, mina.socket_since(0).await];
    let mut watcher = node.visitor().room(led).await;
    let erased = node.admin().delete("/admin/users/7").await;
    assert_eq!((erased.status, erased.text.as_str()), (204, ""));
    for socket in &mut sockets {
        assert_eq!(socket.closed().await.code, Some(4401));
    }
    assert_eq!(next_event(&mut watcher).await["response_type"], "removed");
    // From now on, and with new tokens of the same name, they are refused on every node, and stay nameless.
    for client in node.on_each_node(mina.token()) {
        let refused = || async { (client.get("/alarms/unread").await.status == 401).then_some(()) };
        node.soon("the user is refused", refused).await;
    }
    let later = signed(&json!({"user_id": 7, "username": "mina-secret", "iat": node.now().secs() + 100,
        "exp": node.now().secs() + 360_000}));
    assert_eq!(node.client(Some(later)).get("/alarms/unread").await.status, 401);
    let user = node.admin().get("/admin/users/7").await.body;
    assert_eq!(
        (&user["username"], &user["is_active"], &user["profile_image"], &user["unread"]),
        (&json!("user7"), &json!(false), &json!("/media/default.jpeg"), &json!(0))
    );
    assert_eq!(user["leads"][0]["goods_id"], led, "the lead stays");
    let page = node.visitor().get(&format!("/goods/{led}/")).await.body;
    assert_eq!(
        (&page["buyer"]["username"], &page["like"], &page["like_count"]),
        (&json!("user7"), &json!([]), &json!(0))
    );
    assert_eq!(node.visitor().history(led).await[0]["username"], "user7");
    assert_eq!(node.visitor().get(&format!("/goods/{led}/chat/")).await.body, json!([]));
    let seller = node.user(1);
    let chat: Vec<Value> = seller.inbox().await.into_iter().filter(|alarm| alarm["kind"] == "chat").collect();
    assert_eq!(chat.len(), 1);
    assert_eq!((&chat[0]["message"], &chat[0]["sender_name"]), (&json!(""), &json!("user7")));
    let messages = seller.get(&format!("/chat/goods/{bought}/")).await.body;
    assert_eq!(messages.as_array().unwrap().len(), 1, "{messages}");
    assert_eq!(seller.get("/chat/").await.body[0]["last_message"]["message"], "first");
    let export = node.admin().get("/admin/users/7/export").await.body;
    for list in ["likes", "lines", "messages", "alarms", "idempotency_keys"] {
        assert_eq!(export[list], json!([]), "{list}");
    }
    assert_eq!((export["bids"].as_array().unwrap().len(), &export["user"]["muted"]), (2, &json!([])));
    assert_eq!(export["user"]["locale"], json!(null));
    let kept = audit(&node).await;
    assert_eq!(kept.last().unwrap()["action"], "user.erase");
    drop((sockets, watcher));
    node.stop();
    assert_eq!(stored_secrets(&node), [""; 0]);
}

#[actix_web::test]
async fn before_the_erasure_all_of_it_is_stored() {
    let time = ManualTime::at(noon_in_seoul());
    let mut node = TestNode::with_time(time.clone(), |_| {});
    live_of_seven(&node, &time).await;
    node.stop();
    assert_eq!(stored_secrets(&node), SECRETS);
}

#[actix_web::test]
async fn only_an_admin_brings_an_erased_user_back_and_not_their_name() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |_| {});
    let (admin, old) = (node.admin(), node.user(7).token().to_owned());
    assert_eq!(node.user(7).get("/alarms/unread").await.status, 200);
    assert_eq!(admin.delete("/admin/users/7").await.status, 204);
    let node = node.restart();
    let name = || async { node.admin().get("/admin/users/7").await.body["username"].clone() };
    assert_eq!(node.client(Some(old.clone())).get("/alarms/unread").await.status, 401);
    assert_eq!(name().await, "user7");
    assert_eq!(node.admin().put("/admin/users/7", &json!({"is_active": true})).await.status, 200);
    for client in node.on_each_node(&old) {
        let back = || async { (client.get("/alarms/unread").await.status == 200).then_some(()) };
        node.soon("the user is back", back).await;
    }
    assert_eq!(name().await, "user7", "a token from before does not name them");
    time.advance_ms(2000);
    assert_eq!(node.user(7).get("/alarms/unread").await.status, 200);
    let named = || async { (name().await == "name7").then_some(()) };
    node.soon("a token from after does", named).await;
}

#[actix_web::test]
async fn an_erasure_that_is_wrong_erases_nobody() {
    let node = TestNode::start();
    assert_eq!(node.user(7).get("/alarms/unread").await.status, 200);
    for (method, path) in [(Method::DELETE, "/admin/users/7"), (Method::GET, "/admin/users/7/export")] {
        let send = |client: Client| {
            let method = method.clone();
            async move { client.send(method, path, None).await }
        };
        assert_eq!(send(node.visitor()).await.code(), "unauthorized", "{path}");
        assert_eq!(send(node.user(7)).await.code(), "forbidden", "{path}");
    }
    for id in ["77", "0", "-1", "x", "01", "9223372036854775808", "%00", "7.0"] {
        assert_eq!(node.admin().delete(&format!("/admin/users/{id}")).await.code(), "not_found", "{id}");
        assert_eq!(node.admin().get(&format!("/admin/users/{id}/export")).await.code(), "not_found", "{id}");
    }
    assert_eq!(node.admin().post("/admin/users/7/export", &json!({})).await.code(), "method_not_allowed");
    assert_eq!(node.user(7).get("/alarms/unread").await.status, 200);
    assert_eq!(audit(&node).await, [Value::Null; 0]);
}

/// A line of user 7, written around the service.
fn add_line(node: &TestNode, goods: i64) {
    let line = format!("INSERT INTO room_lines VALUES (1000000, {goods}, 7, 'late', 0)");
    database::run(&database::default_path(node.folder()), &line);
}

fn lines_of_seven(node: &TestNode) -> i64 {
    count(&database::default_path(node.folder()), "room_lines WHERE author_id = 7")
}

/// What was under way at another node when the erasure began goes too.
#[actix_web::test]
async fn what_is_written_while_the_erasure_runs_goes_a_little_later() {
    let time = ManualTime::at(noon_in_seoul());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.live_goods(1).await;
    assert_eq!(node.user(7).get("/alarms/unread").await.status, 200);
    node.user(7).like(goods).await;
    assert_eq!(node.admin().delete("/admin/users/7").await.status, 204);
    add_line(&node, goods);
    time.advance_ms(10_000);
    let is_over = || async {
        let open = count(&database::default_path(node.folder()), "erasures");
        (open == 0 && lines_of_seven(&node) == 0).then_some(())
    };
    eventually_within(JOB_DEADLINE, "the end of the erasure", is_over).await;
}

/// As after a crash: the erasure has begun, and nothing more has happened.
#[actix_web::test]
async fn an_erasure_goes_on_after_a_crash() {
    let market = Market::open();
    let goods = market.live(1);
    market.lines(goods, 7, (0..350).map(|line| format!("line {line}")));
    market.seed().likes(&[goods], [7]);
    let database = market.database();
    let node = market.serve();
    database::run(&database, "INSERT INTO erasures VALUES (7, 0)");
    let is_over = || async { (count(&database, "erasures") == 0).then_some(()) };
    eventually_within(JOB_DEADLINE, "the end of the erasure", is_over).await;
    assert_eq!(lines_of_seven(&node), 0);
    let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    assert_eq!((&page["like"], &page["like_count"]), (&json!([]), &json!(0)));
}

#[actix_web::test]
async fn a_large_erasure_holds_up_no_bid() {
    let market = Market::open();
    let (goods, others) = (market.live(1), (0..500).map(|_| market.scheduled(1)).collect::<Vec<_>>());
    market.lines(goods, 7, (0..3000).map(|line| format!("line {line}")));
    market.seed().likes(&others, [7]);
    for price in (1000..3000).step_by(2) {
        market.bid(goods, 7, price, market.now());
        market.bid(goods, 8, price + 1, market.now());
    }
    let node = market.serve();
    let erase = async { node.admin().delete("/admin/users/7").await };
    let bids = async {
        for price in 4000..4050 {
            let bid = node.user(2 + price % 2).bid(goods, price).await;
            assert_eq!(bid.status, 201, "{}", bid.text);
        }
    };
    let (erased, ()) = futures_util::join!(erase, bids);
    assert!([202, 204].contains(&erased.status), "{}", erased.text);
    let is_gone = || async {
        let export = node.admin().get("/admin/users/7/export").await.body;
        ["lines", "likes", "alarms"].iter().all(|list| export[*list] == json!([])).then_some(())
    };
    eventually("the end of the erasure", is_gone).await;
    assert_eq!(node.visitor().get(&format!("/goods/{}/", others[0])).await.body["like_count"], 0);
}
