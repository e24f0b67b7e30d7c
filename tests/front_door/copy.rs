//! `handsup copy` from one engine to the other and back loses and changes nothing.

use std::path::{Path, PathBuf};

use diesel::{
    RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    sql_types::{BigInt, Text},
};
use serde_json::{Value, json};

use crate::support::{Handsup, TestNode, database, eventually, goods_body};

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// A node on SQLite, on whatever engine the other tests run, with rows in every table.
async fn evening(folder: &Path) -> PathBuf {
    let path = folder.join("evening.db");
    let url = format!("sqlite://{}", path.display());
    let mut node = TestNode::alone(|settings| settings.database.url = url.into());
    let goods = node.goods(1, 0, 4).await;
    let (seller, buyer) = (node.user(1), node.user(2));
    for liker in 3..33 {
        node.user(liker).like(goods).await;
    }
    let own = json!({"starts_at": node.now().plus_ms(3_600_000), "images": ["/media/a.png", "/media/b.png"]});
    let later = seller.post("/goods/", &goods_body(&own)).await.body["id"].as_i64().unwrap();
    seller.like(later).await;
    assert_eq!(
        buyer.put("/alarms/preferences", &json!({"muted": ["chat", "outbid"], "locale": "en"})).await.status,
        200
    );
    let bid = json!({"price": 1000}).to_string().into_bytes();
    let path_of_bids = format!("/goods/{goods}/bids");
    let placed = buyer.send_with(awc::http::Method::POST, &path_of_bids, Some(bid), &[("Idempotency-Key", "k")]).await;
    assert_eq!(placed.status, 201, "{}", placed.text);
    let mut room = buyer.room(goods).await;
    room.expect_frame("enter").await;
    room.send_json(&json!({"is_money": false, "message": "안녕 'quoted'\n\u{1f44d}"})).await;
    room.expect_frame("message").await;
    room.send_json(&json!({"is_money": false, "message": "rude"})).await;
    let rude = room.expect_frame("message").await["id"].as_i64().unwrap();
    assert_eq!(node.admin().delete(&format!("/admin/lines/{rude}")).await.status, 204);
    let is_over = || async { (buyer.get(&format!("/goods/{goods}/")).await.body["status"] == false).then_some(()) };
    eventually("the end", is_over).await;
    let mut trade = buyer.try_trade(goods).await.unwrap();
    trade.expect_frame("goods_info").await;
    trade.send_json(&json!({"message": "직거래?"})).await;
    trade.expect_frame("message").await;
    assert_eq!(seller.post("/alarms/read", &json!({"up_to": 2})).await.status, 200);
    drop((room, trade));
    node.stop();
    // A fan-out that is not complete yet, with an empty audience.
    let mut conn = database::sqlite(&path);
    conn.batch_execute(
        "INSERT INTO fanouts (event_id, goods_id, max_like, max_bid_seq, after_user_id) VALUES (1, 2, 0, 0, 0); \
         INSERT INTO erasures VALUES (77, 1)",
    )
    .unwrap();
    path
}

/// Asserts that all rows of these two files are the same.
fn same(one: &Path, other: &Path) {
    let mut conn = database::sqlite(one);
    conn.batch_execute(&format!("ATTACH '{}' AS other", other.display())).unwrap();
    let tables: Vec<String> =
        sql::<Text>("SELECT name FROM main.sqlite_master WHERE type = 'table'").load(&mut conn).unwrap();
    let of_the_service = tables.iter().filter(|table| !table.starts_with("__") && !table.starts_with("sqlite_"));
    let mut compared = 0;
    // A writer's commit marker, the probe's padding and a stop only mean something in their own database.
    for table in of_the_service.filter(|table| !["writer_marks", "probe", "stops"].contains(&table.as_str())) {
        let mut number =
            |what: String| -> i64 { sql::<BigInt>(&format!("SELECT {what}")).get_result(&mut conn).unwrap() };
        let rows = number(format!("count(*) FROM main.{table}"));
        assert_eq!(rows, number(format!("count(*) FROM other.{table}")), "{table}");
        for (here, there) in [("main", "other"), ("other", "main")] {
            let differ = format!("count(*) FROM (SELECT * FROM {here}.{table} EXCEPT SELECT * FROM {there}.{table})");
            assert_eq!(number(differ), 0, "{table}");
        }
        assert!(rows > 0, "{table} has something to compare");
        compared += 1;
    }
    assert!(compared >= 14, "{tables:?}");
}

#[actix_web::test]
async fn a_copy_of_a_copy_equals_the_original_on_any_engines() {
    let handsup = Handsup::new();
    let original = evening(handsup.folder()).await;
    let between = database::url_of(&handsup.folder().join("between.db"));
    let back = handsup.folder().join("back.db");
    let urls = [format!("sqlite://{}", original.display()), between.clone(), format!("sqlite://{}", back.display())];
    for pair in urls.windows(2) {
        let copied = handsup.run(&["copy", "--from", &pair[0], "--to", &pair[1]]);
        assert!(copied.status.success(), "{}", text(&copied.stderr));
        assert!(text(&copied.stdout).contains(" 31 likes\n"), "{}", text(&copied.stdout));
        assert!(text(&copied.stdout).ends_with("copied, and counted on both sides\n"), "{}", text(&copied.stdout));
    }
    same(&original, &back);
    // And it can be served.
    let node = TestNode::alone(|settings| settings.database.url = between.into());
    assert_eq!(node.visitor().history(1).await.len(), 1);
    assert_eq!(node.user(2).bid(1, 5000).await.code(), "auction_ended");
    let made = node.goods(1, 3_600_000, 60).await;
    assert_eq!(made, 3, "ids go on where they were");
    let chat: Value = node.user(1).get("/chat/").await.body;
    assert_eq!(chat[0]["last_message"]["message"], "직거래?");
}

#[actix_web::test]
async fn a_copy_that_would_do_harm_is_refused() {
    let handsup = Handsup::new();
    let mut node = TestNode::start();
    node.live_goods(1).await;
    let used = database::url(node.folder());
    let fresh = database::url_of(&handsup.folder().join("fresh.db"));
    let refused = |from: &str, to: &str| {
        let ran = handsup.run(&["copy", "--from", from, "--to", to]);
        assert!(!ran.status.success(), "{from} to {to}");
        let stderr = text(&ran.stderr);
        assert_eq!(stderr.lines().filter(|line| line.starts_with("handsup: ")).count(), 1, "{stderr}");
        stderr
    };
    assert!(refused(&used, &fresh).contains("--from: "), "the source is in use");
    assert!(refused(&fresh, &used).contains("--"), "the target is in use");
    node.stop();
    let other = database::url_of(&handsup.folder().join("other.db"));
    assert!(handsup.run(&["copy", "--from", &used, "--to", &other]).status.success());
    assert!(refused(&used, &other).contains("not empty: "), "the target has rows");
    assert!(refused("sqlite://no/such.db", &fresh).contains("no such database"));
    assert!(!handsup.folder().join("no").exists(), "nothing was made");
    assert!(refused("mysql://x", &fresh).contains("--from: "));
    assert!(refused(&used, "nowhere").contains("--to: "));
    let node = TestNode::alone(|settings| settings.database.url = other.into());
    assert_eq!(node.visitor().get("/goods/1/").await.status, 200, "the refused copy left it as it was");
}
