//! The database fails: bids are refused in time and honestly, sockets stay open, and the service recovers by itself.

use std::time::{Duration, Instant};

use diesel::{QueryableByName, RunQueryDsl, sql_types::Text};
use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    Answer, Client, DEADLINE, Process, TestNode, check_answered, check_history,
    database::{self, Locked, Silent, Stopped},
    eventually,
};

fn is_honest_refusal(answer: &Answer) -> bool {
    assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"));
    answer.body["outcome"] == "not_stored"
}

/// Waits until this user's bid is accepted again and every node is ready.
async fn wait_for_bids(node: &TestNode, bidder: &Client, goods: i64, price: i64) {
    let bid = || async { (bidder.bid(goods, price).await.status == 201).then_some(()) };
    eventually("bids are accepted again", bid).await;
    for admin in node.admins() {
        let poll = || async { (admin.get("/health/ready").await.status == 200).then_some(()) };
        eventually("it is ready", poll).await;
    }
}

#[actix_web::test]
async fn a_locked_database_refuses_bids_in_time_keeps_sockets_and_recovers_by_itself() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (victim, other) = (node.user(2), node.user(3));
    assert_eq!(victim.bid(goods, 1000).await.status, 201);
    assert_eq!(other.bid(goods, 2000).await.status, 201);
    let mut socket = victim.socket().await;
    socket.expect_alarm("outbid").await;

    let locked = Locked::by_another_connection(node.folder());
    let bidders: Vec<_> = (0..30).map(|i| node.user(2 + i % 2)).collect();
    let begun = Instant::now();
    let refused = join_all(bidders.iter().zip(3000..).map(|(bidder, price)| bidder.bid(goods, price))).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(refused.iter().all(is_honest_refusal));
    // Also for a user whose own row would have to be written first.
    let begun = Instant::now();
    assert!(is_honest_refusal(&node.user(77).bid(goods, 9000).await));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let admin = node.visitor();
    assert_eq!(admin.get("/health/ready").await.status, 503);
    assert_eq!(admin.get("/health/live").await.status, 200);
    // Reading still works.
    assert_eq!(admin.history(goods).await.len(), 2);

    drop(locked);
    let recovered = Instant::now();
    wait_for_bids(&node, &victim, goods, 5000).await;
    assert!(recovered.elapsed() < Duration::from_secs(5));
    assert_eq!(other.bid(goods, 6000).await.status, 201);
    assert_eq!(socket.expect_alarm("outbid").await["high_price"], 6000, "the socket has stayed");
    let prices: Vec<i64> = admin.history(goods).await.iter().map(|bid| bid["price"].as_i64().unwrap()).collect();
    assert_eq!(prices, [1000, 2000, 5000, 6000], "nothing that was refused is stored");
}

#[actix_web::test]
async fn the_operators_page_shows_that_the_ledger_fails() {
    let node = TestNode::start();
    let admin = node.admin();
    let healthy = admin.get("/admin/health").await;
    assert_eq!((healthy.status, &healthy.body["status"]), (200, &json!("pass")));
    let locked = Locked::by_another_connection(node.folder());
    let failing = admin.get("/admin/health").await;
    assert_eq!((failing.status, &failing.body["status"]), (503, &json!("fail")));
    assert_eq!(failing.body["checks"]["ledger"]["status"], "fail");
    assert_eq!(failing.body["checks"]["database"]["status"], "pass");
    drop(locked);
    assert_eq!(admin.get("/admin/health").await.status, 200);
}

/// The operator's page explains every figure that it shows.
#[actix_web::test]
async fn every_figure_of_the_health_page_is_explained() {
    let read = |file: &str| std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let operating = read("docs/operating.md");
    let node = TestNode::start();
    let health = node.admin().get("/admin/health").await.body;
    let checks = health["checks"].as_object().unwrap();
    assert_eq!(checks.len(), 7, "{health}");
    for (name, check) in checks {
        let figures = check.as_object().unwrap();
        assert!(figures.contains_key("status") && figures.len() > 2, "{name}");
        for figure in std::iter::once(name).chain(figures.keys()).filter(|figure| *figure != "status") {
            assert!(operating.contains(&format!("`{figure}`")), "{name}: {figure}");
        }
    }
    assert!(read("README.md").contains("(docs/operating.md)"));
}

/// When a ping of the health page is over it is on disk. It may join a transaction that has begun, so it can take less
/// time than the whole of that.
#[actix_web::test]
async fn the_ledgers_ping_is_a_write_to_disk() {
    let node = TestNode::alone(|_| {});
    let (admin, database) = (node.admin(), node.database());
    let written = || database::number(&database, "like_mark FROM id_counters");
    for _ in 0..3 {
        let before = written();
        let ledger = admin.get("/admin/health").await.body["checks"]["ledger"].take();
        assert_eq!(written(), before + 1, "{ledger}");
        let [ping, commit] = ["ping_ms", "last_commit_ms"].map(|figure| ledger[figure].as_f64().unwrap());
        assert!(ping > 0.0 && commit > 0.0, "both took time: {ledger}");
        // Anybody may ask whether the node is ready; it costs the node nothing.
        assert_eq!(node.visitor().get("/health/ready").await.status, 200);
        assert_eq!(written(), before + 1);
    }
}

/// The server is down for a while, with all its connections.
#[actix_web::test]
async fn a_database_server_that_stops_and_comes_back_costs_no_socket_and_no_restart() {
    if !database::on_postgres_only() {
        return;
    }
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (victim, other) = (node.user(2), node.user(3));
    assert_eq!(victim.bid(goods, 1000).await.status, 201);
    let mut socket = victim.socket().await;

    let stopped = Stopped::server_of(node.folder());
    for price in 2000..2003 {
        let begun = Instant::now();
        assert!(is_honest_refusal(&other.bid(goods, price).await));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    let admin = node.visitor();
    let begun = Instant::now();
    assert_eq!(admin.get(&format!("/goods/{goods}/")).await.status, 503);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(admin.get("/health/ready").await.status, 503);
    assert_eq!(admin.get("/health/live").await.status, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let back = Instant::now();
    drop(stopped);
    wait_for_bids(&node, &other, goods, 5000).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    assert_eq!(socket.expect_alarm("outbid").await["high_price"], 5000, "the socket has stayed");
    let prices: Vec<i64> = admin.history(goods).await.iter().map(|bid| bid["price"].as_i64().unwrap()).collect();
    assert_eq!(prices, [1000, 5000], "nothing that was refused is stored");
}

/// The server neither answers nor breaks its connections: every client still gets an answer in time.
#[actix_web::test]
async fn a_database_server_that_falls_silent_keeps_nobody_waiting() {
    if !database::on_postgres_only() {
        return;
    }
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let bidders = [node.user(2), node.user(3), node.user(4)];
    for (bidder, price) in bidders.iter().zip(1000..) {
        assert_eq!(bidder.bid(goods, price).await.status, 201);
    }
    let mut socket = bidders[2].socket().await;
    let Some(silent) = Silent::server_of(node.folder()) else {
        eprintln!("not done: the server's processes are somebody else's");
        return;
    };
    let begun = Instant::now();
    let pending = join_all(bidders.iter().zip(2000..).map(|(bidder, price)| bidder.bid(goods, price))).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let mut refused = Vec::new();
    for (answer, price) in pending.iter().zip(2000..) {
        if is_honest_refusal(answer) {
            refused.push(price);
        } else {
            assert_eq!(answer.body["outcome"], "unknown");
        }
    }
    let visitor = node.visitor();
    let begun = Instant::now();
    assert_eq!(visitor.get(&format!("/goods/{goods}/")).await.status, 503);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(visitor.get("/health/live").await.status, 200);

    let back = Instant::now();
    drop(silent);
    eventually("bids are accepted again", || async { (bidders[0].bid(goods, 5000).await.status == 201).then_some(()) })
        .await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    let history = visitor.history(goods).await;
    check_history(&history);
    assert!(history.iter().all(|bid| !refused.contains(&bid["price"].as_i64().unwrap())), "{history:?}");
    // The socket has stayed open: the inbox arrives on it without a gap, including what was unknown and is stored.
    for (_, alarm) in (0..).zip(bidders[2].inbox().await) {
        assert_eq!(socket.next().await["id"], alarm["id"]);
    }
}

/// All connections break again and again while bids are pending, in the middle of statements and of commits.
#[actix_web::test]
async fn connections_that_break_under_load_make_no_answer_wrong() {
    if !database::on_postgres_only() {
        return;
    }
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let bidders: Vec<Client> = (2..10).map(|id| node.user(id)).collect();
    let (price, broken) = (std::cell::Cell::new(1000), std::cell::Cell::new(false));
    let fire = async |bidder: &Client| {
        let (mut accepted, mut refused, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        while !broken.get() {
            let mine = price.replace(price.get() + 1);
            let answer = bidder.bid(goods, mine).await;
            match answer.status {
                201 => accepted.push(answer.body),
                409 => refused.push(mine),
                _ if is_honest_refusal(&answer) => refused.push(mine),
                _ => unknown.push(mine),
            }
        }
        (accepted, refused, unknown)
    };
    let breaking = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(37)).await;
            let folder = node.folder().to_owned();
            tokio::task::spawn_blocking(move || database::break_all_connections(&folder)).await.unwrap();
        }
        broken.set(true);
    };
    let (fired, ()) = futures_util::join!(join_all(bidders.iter().map(fire)), breaking);
    let visitor = node.visitor();
    eventually("it is ready", || async { (visitor.get("/health/ready").await.status == 200).then_some(()) }).await;
    let history = visitor.history(goods).await;
    check_history(&history);
    let accepted: Vec<_> = fired.iter().flat_map(|(accepted, _, _)| accepted).collect();
    check_answered(&history, accepted.into_iter());
    for bid in &history {
        let stored = bid["price"].as_i64().unwrap();
        assert!(fired.iter().all(|(_, refused, _)| !refused.contains(&stored)), "{stored} was refused");
    }
    let unknown: usize = fired.iter().map(|(_, _, unknown)| unknown.len()).sum();
    let answered: usize = fired.iter().map(|(accepted, refused, _)| accepted.len() + refused.len()).sum();
    eprintln!("{} stored, {answered} answered for certain, {unknown} not", history.len());
    assert!(history.len() > 20, "some bids were taken");
}

#[derive(QueryableByName)]
struct Checked {
    #[diesel(sql_type = Text)]
    integrity_check: String,
}

#[actix_web::test]
async fn a_full_disk_corrupts_nothing_and_free_space_is_enough_to_go_on() {
    if !database::on_sqlite_only() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("x.db");
    let process = Process::start_on_small_disk(&database, 2500);
    let seller = process.user(1);
    let starts_at =
        handsup::test_support::time_source::TimeSource::now(&handsup::test_support::time_source::SystemTime);
    let made = seller.post("/goods/", &crate::support::goods_body(&json!({"starts_at": starts_at}))).await;
    let goods = made.body["id"].as_i64().unwrap();
    let (a, b) = (process.user(2), process.user(3));
    let mut socket = a.socket().await;
    let (mut stored, mut unknown) = (Vec::new(), Vec::new());
    let mut price = 1000;
    let give_up = Instant::now() + DEADLINE;
    // Until the disk has been full for a while.
    let mut refused = 0;
    while refused < 20 {
        assert!(Instant::now() < give_up, "the disk never fills");
        let bidder = if price % 2 == 0 { &a } else { &b };
        let answer = bidder.bid(goods, price).await;
        match answer.status {
            201 => stored.push(price),
            _ if is_honest_refusal(&answer) => refused += 1,
            _ => {
                refused += 1;
                unknown.push(price);
            }
        }
        price += 1;
    }
    assert!(stored.len() > 20, "it was not full from the start");
    eventually("it is not ready", || async {
        (process.visitor().get("/health/ready").await.status == 503).then_some(())
    })
    .await;
    process.lift_limit();
    eventually("bids are accepted again", || async { (a.bid(goods, 1_000_000).await.status == 201).then_some(()) })
        .await;
    let history = process.visitor().history(goods).await;
    check_history(&history);
    let prices: Vec<i64> = history.iter().map(|bid| bid["price"].as_i64().unwrap()).collect();
    assert!(stored.iter().all(|price| prices.contains(price)), "every 201 is there");
    let strange = prices.iter().find(|p| !stored.contains(p) && !unknown.contains(p) && **p != 1_000_000);
    assert_eq!(strange, None, "what was answered not_stored is not there");
    // The socket has stayed open: what was stored before the disk was full arrives first, in order.
    let mut ids = Vec::new();
    while ids.len() < a.inbox_kinds().await.len() {
        ids.push(socket.next().await["id"].as_i64().unwrap());
    }
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    process.kill();
    let mut conn = database::sqlite(&database);
    let checked: Vec<Checked> = diesel::sql_query("PRAGMA integrity_check").load(&mut conn).unwrap();
    assert_eq!(checked[0].integrity_check, "ok");
}
