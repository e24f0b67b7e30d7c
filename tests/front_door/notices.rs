//! Notices, which the marketplace's backend raises: to listed users, likers of goods and everybody; collapse keys; bad
//! requests; large audiences, over a kill and at another node.

use std::path::Path;

use awc::http::Method;
use futures_util::future::join;
use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::{Value, json};

use crate::{
    audit::audit,
    support::{
        Answer, Client, Fleet, ManualTime, Process, SLOW_DEADLINE, Seed, TestNode, alarm_id, can_run_several_nodes,
        database, eventually, eventually_within, has_exactly,
    },
};

/// Raises a notice; returns its event and the number of its recipients.
async fn raise(admin: &Client, body: &Value) -> (i64, i64) {
    let answer = admin.post("/admin/alarms", body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    has_exactly(&answer.body, vec!["event_id", "recipients"]);
    (answer.body["event_id"].as_i64().unwrap(), answer.body["recipients"].as_i64().unwrap())
}

/// A notice to these users with a key.
fn keyed(users: &[i64], message: &str, key: &str) -> Value {
    json!({"to": {"user_ids": users}, "message": message, "collapse_key": key})
}

/// The text of each alarm in the inbox with whether it is read and superseded, oldest first.
async fn told(client: &Client) -> Vec<(String, bool, bool)> {
    let row = |alarm: &Value| {
        let superseded = alarm.get("superseded").is_some();
        (alarm["message"].as_str().unwrap().to_owned(), alarm["read"] == true, superseded)
    };
    client.inbox().await.iter().map(row).collect()
}

/// Waits until so many inboxes have an alarm, each one.
async fn all_have_it(database: &Path, users: i64) {
    let all = || async { (database::count(database, "inbox") >= users).then_some(()) };
    eventually_within(SLOW_DEADLINE, "everybody has it", all).await;
    assert_eq!(database::number(database, "count(DISTINCT user_id) FROM inbox"), users, "each has it once");
}

#[actix_web::test]
async fn a_notice_reaches_the_users_that_it_names_and_nobody_else() {
    let node = TestNode::start();
    let (named, other) = (node.user(2), node.user(3));
    let mut sockets = [named.socket_since(0).await, named.socket_since(0).await];
    let mut bystander = other.socket_since(0).await;
    for socket in sockets.iter_mut().chain([&mut bystander]) {
        socket.expect_frame("hello").await;
    }
    let text = "배송이 <b>시작</b>됐어요 👋 \"quoted\"\n";
    let body = json!({"to": {"user_ids": [2, 70, 2]}, "message": text});
    let (event, recipients) = raise(&node.admin(), &body).await;
    assert_eq!(recipients, 2, "nobody counts twice");
    for socket in &mut sockets {
        let alarm = socket.expect_alarm("notice").await;
        has_exactly(&alarm, vec!["response_type", "id", "kind", "message", "goods_id", "goods_title", "created_at"]);
        assert_eq!((&alarm["response_type"], &alarm["message"]), (&json!("alram"), &json!(text)));
        assert_eq!((&alarm["goods_id"], &alarm["goods_title"]), (&Value::Null, &Value::Null));
        assert_eq!(alarm["id"], event);
    }
    // Somebody whom the service has not seen yet finds it when they come.
    assert_eq!(node.user(70).socket().await.expect_alarm("notice").await["id"], event);
    assert_eq!(node.user(70).get("/alarms/unread").await.body, json!({"unread": 1, "last_id": event}));
    assert_eq!(other.inbox().await, Vec::<Value>::new());
    let (next, _) = raise(&node.admin(), &json!({"to": {"user_ids": [3]}, "message": "x"})).await;
    assert_eq!(bystander.expect_alarm("notice").await["id"], next, "the first frame after hello");
}

#[actix_web::test]
async fn a_notice_may_be_about_goods_and_goes_to_who_likes_them_or_to_everybody() {
    let node = TestNode::start();
    let (admin, goods) = (node.admin(), node.live_goods(1).await);
    for user in [2, 3] {
        node.user(user).like(goods).await;
    }
    node.user(4).get("/alarms").await;
    let body = json!({"to": {"likers_of": goods}, "message": "for likers", "goods_id": goods, "collapse_key": null});
    assert_eq!(raise(&admin, &body).await.1, 2);
    // The seller, three users, and the admin.
    assert_eq!(raise(&admin, &json!({"to": "everyone", "message": "for all", "goods_id": null})).await.1, 5);
    for user in [2, 3] {
        let inbox = node.user(user).inbox().await;
        assert_eq!((&inbox[0]["goods_id"], &inbox[0]["goods_title"]), (&json!(goods), &json!("camera")));
        assert_eq!(inbox.len(), 2);
    }
    for user in [1, 4, 999] {
        assert_eq!(told(&node.user(user)).await, [("for all".to_owned(), false, false)], "user {user}");
    }
    // An inactive user is none of everybody.
    assert_eq!(admin.put("/admin/users/4", &json!({"is_active": false})).await.status, 200);
    assert_eq!(raise(&admin, &json!({"to": "everyone", "message": "again"})).await.1, 4);
    // Nobody likes these: the event exists, for nobody.
    let unloved = node.live_goods(1).await;
    let (event, recipients) = raise(&admin, &json!({"to": {"likers_of": unloved}, "message": "x"})).await;
    assert_eq!(recipients, 0);
    let deliveries = admin.get(&format!("/admin/alarms/{event}/deliveries")).await;
    assert_eq!((deliveries.status, deliveries.body), (200, json!({"results": []})));
}

#[actix_web::test]
async fn the_audit_keeps_who_raised_a_notice_and_never_its_text() {
    let node = TestNode::start();
    let (admin, goods) = (node.admin(), node.live_goods(1).await);
    let (event, _) = raise(&admin, &keyed(&[2], "a secret text", "a-secret-key")).await;
    let all = json!({"to": {"likers_of": goods}, "message": "a secret text", "goods_id": goods});
    let (next, _) = raise(&admin, &all).await;
    assert_eq!(admin.post("/admin/alarms", &json!({"to": {"likers_of": 999}, "message": "x"})).await.status, 404);
    let entries = audit(&node).await;
    let kept = |entry: &Value| (entry["action"].clone(), entry["target"].clone(), entry["target_id"].clone());
    let of = |event| (json!("alarm.raise"), json!("event"), json!(event));
    assert_eq!(entries.iter().map(kept).collect::<Vec<_>>(), [of(event), of(next)]);
    assert_eq!(entries[0]["fields"], json!(["user_ids", "message", "collapse_key"]));
    assert_eq!(entries[1]["fields"], json!(["likers_of", "message", "goods_id"]));
    assert!(!node.admin().get("/admin/audit").await.text.contains("secret"));
}

#[actix_web::test]
async fn a_muted_notice_is_stored_as_read_and_not_sent() {
    let node = TestNode::start();
    let (admin, user) = (node.admin(), node.user(2));
    assert_eq!(user.put("/alarms/preferences", &json!({"muted": ["notice"]})).await.status, 200);
    let mut socket = user.socket_since(0).await;
    socket.expect_frame("hello").await;
    // To a few, and to so many that their mutes are looked up together: ids far apart, with other mutes between.
    for between in 10..60 {
        let muted = node.user(between).put("/alarms/preferences", &json!({"muted": ["notice"]})).await;
        assert_eq!(muted.status, 200);
    }
    let far: Vec<i64> = (0..9).map(|at| 1_000_000_000_000 + at).chain([2, 3]).collect();
    raise(&admin, &json!({"to": {"user_ids": [2, 3]}, "message": "few"})).await;
    raise(&admin, &json!({"to": {"user_ids": far}, "message": "many"})).await;
    assert_eq!(user.put("/alarms/preferences", &json!({"muted": []})).await.status, 200);
    raise(&admin, &json!({"to": {"user_ids": [2, 3]}, "message": "heard"})).await;
    assert_eq!(socket.expect_alarm("notice").await["message"], "heard");
    let read: Vec<bool> = told(&user).await.iter().map(|row| row.1).collect();
    assert_eq!(read, [true, true, false]);
    let read: Vec<bool> = told(&node.user(3)).await.iter().map(|row| row.1).collect();
    assert_eq!(read, [false, false, false]);
}

#[actix_web::test]
async fn a_collapse_key_supersedes_the_unread_predecessor_of_each_user() {
    let node = TestNode::start();
    let (admin, first, second) = (node.admin(), node.user(2), node.user(3));
    let row = |text: &str, read, superseded| (text.to_owned(), read, superseded);
    let (one, _) = raise(&admin, &keyed(&[2, 3], "one", "ship")).await;
    raise(&admin, &keyed(&[2, 3], "other", "pay")).await;
    raise(&admin, &json!({"to": {"user_ids": [2, 3]}, "message": "without"})).await;
    // One user has read it, the other has not.
    assert_eq!(first.post("/alarms/read", &json!({"ids": [one]})).await.body["unread"], 2);
    raise(&admin, &keyed(&[2, 3], "two", "ship")).await;
    let others = [row("other", false, false), row("without", false, false)];
    assert_eq!(told(&first).await, [&[row("one", true, false)], &others[..], &[row("two", false, false)]].concat());
    assert_eq!(told(&second).await, [&[row("one", true, true)], &others[..], &[row("two", false, false)]].concat());
    assert_eq!(second.get("/alarms/unread").await.body["unread"], 3);
    // The next one goes to one user only.
    let (three, _) = raise(&admin, &keyed(&[3], "three", "ship")).await;
    assert_eq!(told(&first).await[3], row("two", false, false));
    assert_eq!(told(&second).await[3..], [row("two", true, true), row("three", false, false)]);
    // Read by the cursor counts as read, too.
    assert_eq!(second.post("/alarms/read", &json!({"up_to": three})).await.body["unread"], 0);
    raise(&admin, &keyed(&[3], "four", "ship")).await;
    assert_eq!(told(&second).await[4..], [row("three", true, false), row("four", false, false)]);
    // The replay leaves out what is superseded; `since` does not.
    let mut old = first.socket().await;
    for expected in ["one", "other", "without", "two"] {
        assert_eq!(old.expect_alarm("notice").await["message"], expected);
    }
    let mut old = second.socket().await;
    for expected in ["other", "without", "three", "four"] {
        assert_eq!(old.expect_alarm("notice").await["message"], expected);
    }
    let mut since = second.socket_since(0).await;
    since.expect_frame("hello").await;
    assert_eq!(since.expect_alarm("notice").await["superseded"], true);
}

/// Several of one key in one transaction of the ledger, and to somebody whom the service does not know.
#[actix_web::test]
async fn of_many_notices_with_one_key_at_once_the_last_one_stays() {
    let node = TestNode::start();
    let admin = node.admin();
    let bodies: Vec<Value> = (0..20).map(|at| keyed(&[70], &format!("{at}"), "k")).collect();
    let raised = futures_util::future::join_all(bodies.iter().map(|body| raise(&admin, body))).await;
    assert_eq!(raised.len(), 20);
    let inbox = node.user(70).inbox().await;
    let stays: Vec<bool> = inbox.iter().map(|alarm| alarm.get("superseded").is_none()).collect();
    assert_eq!(stays.len(), 20);
    assert!(stays[19] && !stays[..19].contains(&true), "{stays:?}");
    assert_eq!(node.user(70).get("/alarms/unread").await.body["unread"], 1);
}

#[actix_web::test]
async fn what_is_no_notice_is_refused_and_raises_nothing() {
    let node = TestNode::start();
    let (admin, goods) = (node.admin(), node.live_goods(1).await);
    let good = json!({"to": {"user_ids": [2]}, "message": "x"});
    assert_eq!(node.visitor().post("/admin/alarms", &good).await.code(), "unauthorized");
    assert_eq!(node.user(2).post("/admin/alarms", &good).await.code(), "forbidden");
    assert_eq!(admin.get("/admin/alarms").await.status, 405);
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let invalid_to = [
        json!(null),
        json!(1),
        json!([]),
        json!({}),
        json!("all"),
        json!({"everyone": true}),
        json!({"user_ids": [2], "likers_of": goods}),
        json!({"user_ids": []}),
        json!({"user_ids": 2}),
        json!({"user_ids": null}),
        json!({"user_ids": {"0": 2}}),
        json!({"user_ids": ["2"]}),
        json!({"user_ids": [2, 0]}),
        json!({"user_ids": [-1]}),
        json!({"user_ids": [1.5]}),
        json!({"user_ids": [2, null]}),
        json!({"user_ids": [[2]]}),
        json!({"user_ids": [u64::MAX]}),
        json!({"likers_of": null}),
        json!({"likers_of": "1"}),
        json!({"likers_of": 0}),
        json!({"likers_of": 9_007_199_254_740_992_i64}),
        json!({"likers_of": [goods]}),
    ];
    let field = |answer: &Answer| (answer.status, answer.body["field"].as_str().map(str::to_owned));
    for to in invalid_to {
        let answer = admin.post("/admin/alarms", &with("to", to.clone())).await;
        assert_eq!(field(&answer), (422, Some("to".to_owned())), "{to}");
    }
    let long = |chars| json!("가".repeat(chars));
    for (name, value) in [
        ("message", json!(null)),
        ("message", json!("")),
        ("message", json!(1)),
        ("message", json!(["x"])),
        ("message", json!("a\0b")),
        ("message", long(501)),
        ("goods_id", json!("1")),
        ("goods_id", json!(0)),
        ("goods_id", json!(1.5)),
        ("goods_id", json!({})),
        ("collapse_key", json!("")),
        ("collapse_key", json!(1)),
        ("collapse_key", json!("a\0b")),
        ("collapse_key", long(65)),
    ] {
        let answer = admin.post("/admin/alarms", &with(name, value.clone())).await;
        assert_eq!(field(&answer), (422, Some(name.to_owned())), "{name} {value}");
    }
    for (body, status) in [
        (json!({"message": "x"}), 400),
        (json!({"to": "everyone"}), 400),
        (json!({}), 400),
        (json!([]), 400),
        (json!("everyone"), 400),
        (with("goods_id", json!(999)), 404),
        (with("to", json!({"likers_of": 999})), 404),
        (with("message", json!("y".repeat(70_000))), 413),
    ] {
        let answer = admin.post("/admin/alarms", &body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    for body in [
        "{",
        "{\"to\":",
        "[\"everyone\"]",
        "\u{feff}{}",
        &"[".repeat(60_000),
        &format!("{{\"to\":{}", "[".repeat(60_000)),
    ] {
        let answer = admin.send(Method::POST, "/admin/alarms", Some(body.as_bytes().to_vec())).await;
        assert!([400, 422].contains(&answer.status), "{}", answer.text);
    }
    assert_eq!(node.user(2).inbox().await, Vec::<Value>::new());
    assert_eq!(raise(&admin, &with("message", long(500))).await.1, 1);
    assert_eq!(raise(&admin, &with("collapse_key", long(64))).await.1, 1);
    assert_eq!(raise(&admin, &with("to", json!({"user_ids": [i64::MAX]}))).await.1, 1);
    assert_eq!(node.user(2).inbox().await.len(), 2);
}

/// As many as a body of `limits.body_bytes` can name, and one more than a notice may name.
#[actix_web::test]
async fn a_notice_names_at_most_twenty_thousand_users() {
    let node = TestNode::with(|settings| settings.limits.body_bytes = 1 << 20);
    let admin = node.admin();
    let users = |users: i64| json!({"to": {"user_ids": (1..=users).collect::<Vec<_>>()}, "message": "x"});
    assert_eq!(admin.post("/admin/alarms", &users(20_001)).await.code(), "invalid_value");
    assert_eq!(raise(&admin, &users(3000)).await.1, 3000);
    all_have_it(&database::default_path(node.folder()), 3000).await;
    for user in [1, 250, 251, 1250, 3000] {
        assert_eq!(node.user(user).inbox().await.len(), 1, "user {user}");
    }
}

/// An alarm of the older notice must not supersede one of the newer, however many have the older one yet to come.
#[actix_web::test]
async fn large_notices_with_one_key_come_one_after_another() {
    const USERS: i64 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("x.db");
    let seed = Seed::open(&database::url_of(&database));
    seed.users(1..=USERS);
    seed.finish();
    let process = Process::start(&database);
    let admin = process.admin();
    for text in ["one", "two"] {
        let body = json!({"to": "everyone", "message": text, "collapse_key": "k"});
        assert_eq!(raise(&admin, &body).await.1, USERS, "the admin is one of them");
    }
    let (_, few) = raise(&admin, &keyed(&[USERS, 5000], "three", "k")).await;
    assert_eq!(few, 2);
    eventually_within(SLOW_DEADLINE, "all have all", || async {
        (database::count(&database, "inbox") == 2 * USERS + 2).then_some(())
    })
    .await;
    let row = |text: &str, superseded| (text.to_owned(), superseded, superseded);
    assert_eq!(told(&process.user(USERS)).await, [row("one", true), row("two", true), row("three", false)]);
    assert_eq!(told(&process.user(1)).await, [row("one", true), row("two", false)]);
    assert_eq!(told(&process.user(5000)).await, [row("three", false)]);
    assert_eq!(database::count(&database, "inbox WHERE superseded"), USERS + 1);
    assert_eq!(database::count(&database, "fanouts"), 0);
}

#[actix_web::test]
async fn after_a_kill_everybody_gets_an_answered_notice_once() {
    const USERS: i64 = 8000;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("x.db");
    let seed = Seed::open(&database::url_of(&database));
    seed.users(1..=USERS);
    seed.finish();
    let mut process = Process::start(&database);
    let listed: Vec<i64> = (1..=USERS).collect();
    let mut expected = 0;
    for to in [json!("everyone"), json!({"user_ids": listed})] {
        let (_, recipients) = raise(&process.admin(), &json!({"to": to, "message": "x"})).await;
        expected += recipients;
        process.kill();
        process = Process::start(&database);
        let all = || async { (database::count(&database, "inbox") >= expected).then_some(()) };
        eventually_within(SLOW_DEADLINE, "everybody has it", all).await;
    }
    assert_eq!(expected, 2 * USERS);
    assert_eq!(database::count(&database, "inbox"), expected);
    for user in [1, USERS / 2, USERS] {
        assert_eq!(process.user(user).inbox().await.len(), 2);
    }
}

#[actix_web::test]
async fn a_notice_of_a_node_that_is_killed_goes_on_at_another() {
    const USERS: i64 = 16_000;
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::none(&[]);
    let database = fleet.database();
    let seed = Seed::open(&database::url_of(&database));
    seed.users(1..=USERS);
    seed.finish();
    join(fleet.start_at(0), fleet.start_at(1)).await;
    fleet.wait_for_peers().await;
    let mut socket = fleet.user(1, USERS).unwrap().socket_since(0).await;
    socket.expect_frame("hello").await;
    let admin = fleet.admin(0).unwrap();
    admin.get("/alarms").await;
    let (event, recipients) = raise(&admin, &json!({"to": "everyone", "message": "x"})).await;
    fleet.kill(0);
    assert!(database::count(&database, "inbox") < USERS, "all have it before the node could be killed");
    all_have_it(&database, recipients).await;
    assert_eq!(recipients, USERS);
    let alarm = socket.expect_alarm("notice").await;
    assert!(alarm_id(&alarm) > event, "a later chunk");
    let path = format!("/admin/alarms/{event}/deliveries?user_id={USERS}");
    let deliveries = fleet.admin(1).unwrap().get(&path).await.body;
    assert_eq!(deliveries["results"][0]["alarm_id"], alarm["id"]);
}

/// Users without a row have inboxes too, and what is old goes from them.
#[actix_web::test]
async fn old_notices_go_also_from_inboxes_of_users_who_never_came() {
    let time = ManualTime::at(SystemTime.now());
    let node = TestNode::with_time(time.clone(), |settings| settings.alarms.keep_days = 30);
    let listed: Vec<i64> = (5000..5450).collect();
    raise(&node.admin(), &json!({"to": {"user_ids": listed}, "message": "x"})).await;
    let database = database::default_path(node.folder());
    all_have_it(&database, 450).await;
    time.advance_ms(31 * 86_400_000);
    eventually("they go", || async {
        let left = database::count(&database, "inbox") + database::count(&database, "alarms");
        (left == 0).then_some(())
    })
    .await;
}

/// While a notice goes to many, bids are accepted and alarmed as ever.
#[actix_web::test]
async fn bids_go_on_beside_a_large_notice() {
    const USERS: i64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("x.db");
    let seed = Seed::open(&database::url_of(&database));
    seed.users(1..=USERS);
    let goods = seed.goods(1, "camera", [SystemTime.now()])[0];
    seed.finish();
    let process = Process::start(&database);
    let bidders = [process.user(2).retrying(), process.user(3).retrying()];
    eventually("the start", || async { (bidders[0].bid(goods, 1000).await.status == 201).then_some(()) }).await;
    let (_, recipients) = raise(&process.admin(), &json!({"to": "everyone", "message": "x"})).await;
    assert_eq!(recipients, USERS);
    let mut price = 1000;
    while database::count(&database, "fanouts") > 0 {
        price += 1;
        assert_eq!(bidders[1 - usize::try_from(price % 2).unwrap()].bid(goods, price).await.status, 201);
    }
    let inbox = bidders[0].inbox().await;
    let of_kind = |kind: &str| inbox.iter().filter(|alarm| alarm["kind"] == kind).count() as i64;
    assert_eq!((of_kind("notice"), of_kind("outbid")), (1, (price - 1000) / 2));
    assert!(price > 1001, "bids came between");
}
