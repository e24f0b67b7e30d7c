//! `GET /metrics`: who may read it, what it counts, and that no client can make it large.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use awc::http::Method;
use serde_json::{Value, json};

use crate::{
    openapi::DatabaseGone,
    support::{
        Client, Figures, ManualTime, Raw, TestNode, bid_frame, eventually, line_frame, noon_in_seoul, outbid_times,
    },
};

const TOKEN: &str = "a token for the scraper";

fn with_token(node: &TestNode, token: &str) -> Client {
    node.client(Some(token.to_owned()))
}

#[actix_web::test]
async fn without_a_metrics_token_everybody_may_read_them() {
    let node = TestNode::start();
    for client in [node.visitor(), node.user(2), node.admin()] {
        for path in ["/metrics", "/metrics/", "/metrics?x=1"] {
            let answer = client.get(path).await;
            assert_eq!(answer.status, 200, "{path}");
            let content_type = answer.headers.get("content-type").unwrap();
            assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
            assert_eq!(answer.headers.get("cache-control").unwrap(), "no-store");
            assert!(answer.text.contains("\n# TYPE handsup_bids_total counter\n"), "{}", answer.text);
        }
    }
    let head = node.visitor().send(Method::HEAD, "/metrics", None).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(with_token(&node, TOKEN).get("/metrics").await.code(), "unauthorized", "a token that is none");
    assert_eq!(node.visitor().post("/metrics", &Value::Null).await.code(), "method_not_allowed");
}

#[actix_web::test]
async fn with_a_metrics_token_only_its_bearer_may_read_them() {
    let node = TestNode::with(|settings| settings.auth.metrics_token = Some(TOKEN.into()));
    assert_eq!(with_token(&node, TOKEN).get("/metrics").await.status, 200);
    let wrong = ["", "a token", "a token for the scrapes", "a token for the scraper!", "x"];
    let mut refused: Vec<_> = wrong.iter().map(|wrong| with_token(&node, wrong)).collect();
    refused.extend([node.visitor(), node.user(2), node.admin()]);
    for client in refused {
        let answer = client.get("/metrics").await;
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"));
        assert_eq!(answer.headers.get("content-type").unwrap(), "application/problem+json");
        assert_eq!(answer.headers.get("www-authenticate").unwrap(), "Bearer");
        assert!(!answer.text.contains("handsup_") && !answer.text.contains(TOKEN), "{}", answer.text);
    }
    let basic = node.visitor().send_with(Method::GET, "/metrics", None, &[("Authorization", "Basic eDp5")]).await;
    assert_eq!(basic.code(), "unauthorized");
    // It opens nothing else.
    assert_eq!(with_token(&node, TOKEN).get("/admin/health").await.code(), "unauthorized");
}

#[actix_web::test]
async fn no_rate_limits_them() {
    let node = TestNode::with(|settings| settings.limits.requests_per_second = 1);
    let (visitor, user) = (node.visitor(), node.user(2));
    for _ in 0..20 {
        for client in [&visitor, &user] {
            assert_eq!(client.get("/metrics").await.status, 200);
        }
    }
}

/// The parts count, and the health page shows the same counts.
#[actix_web::test]
async fn bids_alarms_sessions_and_commits_are_counted() {
    let node = TestNode::alone(|settings| settings.server.workers = Some(1));
    let goods = node.live_goods(1).await;
    let mut socket = node.user(2).socket_since(0).await;
    socket.expect_frame("hello").await;
    let mut room = node.user(3).room(goods).await;
    room.expect_frame("enter").await;
    assert_eq!(node.user(2).bid(goods, 1000).await.status, 201);
    room.expect_frame("bid").await;
    assert_eq!(node.user(2).bid(goods, 500).await.status, 409);
    assert_eq!(node.user(1).bid(goods, 9000).await.status, 403);
    assert_eq!(node.user(2).bid(777, 9000).await.status, 404);
    room.send_json(&bid_frame(goods, 3, 2000)).await;
    room.expect_frame("bid").await;
    room.send_json(&bid_frame(goods, 3, 1)).await;
    room.expect_frame("alert").await;
    room.send_json(&line_frame(goods, 3, "hello")).await;
    room.expect_frame("message").await;
    let alarm = socket.expect_alarm("outbid").await["id"].as_i64().unwrap();
    socket.send_json(&json!({"type": "ack", "up_to": alarm})).await;
    node.wait_for_receipt(2, alarm).await;

    let visitor = node.visitor();
    let figures = eventually("the counts", || async {
        let figures = Figures::of(&visitor).await;
        (figures.get("handsup_bids_total{door=\"room\",result=\"bid_too_low\"}") == 1.0).then_some(figures)
    })
    .await;
    let bids =
        |door: &str, result: &str| figures.get(&format!("handsup_bids_total{{door=\"{door}\",result=\"{result}\"}}"));
    for (door, result, count) in [
        ("http", "accepted", 1.0),
        ("http", "bid_too_low", 1.0),
        ("http", "seller_cannot_bid", 1.0),
        ("http", "not_found", 1.0),
        ("http", "not_stored", 0.0),
        ("room", "accepted", 1.0),
    ] {
        assert_eq!(bids(door, result), count, "{door} {result}");
    }
    assert_eq!(figures.get("handsup_bid_seconds_count{door=\"http\"}"), 4.0);
    assert_eq!(figures.get("handsup_alarms_total{kind=\"outbid\"}"), 1.0);
    assert_eq!(figures.get("handsup_alarms_total{kind=\"chat\"}"), 0.0, "each kind is there from the start");
    assert_eq!(figures.get("handsup_auction_events_total{event=\"started\"}"), 1.0);
    assert_eq!(figures.get("handsup_alarm_socket_seconds_count"), 1.0);
    assert_eq!(figures.get("handsup_alarm_receipt_seconds_count"), 1.0);
    assert!(figures.get("handsup_alarm_receipt_seconds_sum") >= figures.get("handsup_alarm_socket_seconds_sum"));
    assert_eq!((figures.get("handsup_sessions"), figures.get("handsup_users")), (2.0, 2.0));
    assert_eq!(figures.get("handsup_sessions_opened_total{kind=\"alarms\"}"), 1.0);
    assert_eq!(figures.get("handsup_sessions_opened_total{kind=\"auction\"}"), 1.0);
    assert!(figures.get("handsup_clock_lag_seconds_count") >= 1.0);
    assert!(figures.get("handsup_ledger_commit_seconds_count") >= 3.0);
    assert!(figures.get("handsup_ledger_commit_entries_sum") >= 3.0);
    assert!(figures.get("handsup_database_connection_wait_seconds_count") >= 1.0);
    let placed = figures.get("handsup_http_requests_total{method=\"POST\",route=\"/goods/{id}/bids\",status=\"201\"}");
    assert_eq!(placed, 1.0);
    assert_eq!(figures.get("handsup_http_request_seconds_count{method=\"POST\",route=\"/goods/{id}/bids\"}"), 4.0);
    assert_eq!(figures.get("handsup_http_requests_total{method=\"GET\",route=\"/ws/alarms\",status=\"101\"}"), 1.0);
    for name in ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds", "max_fds", "threads"] {
        assert!(figures.get(&format!("process_{name}")) > 0.0, "{name}");
    }

    // Nothing has happened since, but the requests themselves.
    let same = [
        ("alarm_hub", "delivered", "handsup_alarm_frames_total"),
        ("alarm_hub", "undelivered", "handsup_frames_waiting"),
        ("sessions", "room_frames", "handsup_room_frames_total"),
        ("sessions", "sessions", "handsup_sessions"),
        ("sessions", "users", "handsup_users"),
        ("bid_actors", "live", "handsup_bid_actors"),
        ("bid_actors", "turned_away", "handsup_bids_turned_away_total"),
        ("bid_actors", "shed", "handsup_bids_shed_total"),
        ("ledger", "failures", "handsup_ledger_failures_total"),
        ("ledger", "overflows", "handsup_ledger_overflows_total"),
    ];
    // A room says every few seconds how many watch.
    eventually("the report and the metrics say the same", || async {
        let health = node.admin().get("/admin/health").await.body["checks"].take();
        let later = Figures::of(&visitor).await;
        same.iter().all(|(check, figure, name)| health[check][figure].as_f64() == Some(later.get(name))).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn each_end_of_a_session_is_counted_by_its_code() {
    let node = TestNode::alone(|settings| settings.session.max_per_user = 1);
    let ended = |code: &str, by: &str| format!("handsup_sessions_closed_total{{code=\"{code}\",by=\"{by}\"}}");
    // Evicted, by a token of somebody inactive, by binary, by itself, without a close frame.
    let mut first = node.user(2).socket_since(0).await;
    let second = node.user(2).socket_since(0).await;
    assert_eq!(first.close_code().await, 4409);
    second.close().await;
    let mut inactive = node.user(3).socket_since(0).await;
    assert_eq!(node.admin().put("/admin/users/3", &json!({"is_active": false})).await.status, 200);
    assert_eq!(inactive.close_code().await, 4401);
    let mut binary = node.user(4).socket_since(0).await;
    binary.send(awc::ws::Message::Binary("x".into())).await;
    assert_eq!(binary.close_code().await, 1003);
    drop(node.user(5).socket_since(0).await);
    eventually("the counts", || async {
        let figures = Figures::of(&node.visitor()).await;
        let counts =
            [("4409", "server"), ("4401", "server"), ("1003", "server"), ("1006", "client"), ("4413", "server")]
                .map(|(code, by)| figures.get(&ended(code, by)));
        let by_clients = figures.sum("handsup_sessions_closed_total", &[("by", "client")]);
        (counts == [1.0, 1.0, 1.0, 1.0, 0.0] && by_clients == 2.0 && figures.get("handsup_sessions") == 0.0)
            .then_some(())
    })
    .await;
}

/// What a session reads from the store is no delivery of a fresh alarm.
#[actix_web::test]
async fn replayed_alarms_are_counted_apart() {
    let node = TestNode::alone(|_| {});
    outbid_times(&node, 3).await;
    let mut socket = node.user(2).socket_since(0).await;
    socket.expect_frame("hello").await;
    for _ in 0..3 {
        socket.expect_alarm("outbid").await;
    }
    eventually("the counts", || async {
        let figures = Figures::of(&node.visitor()).await;
        let counts = ["alarms_replayed_total", "backlog_reads_total", "alarm_socket_seconds_count"]
            .map(|name| figures.get(&format!("handsup_{name}")));
        (counts == [3.0, 1.0, 0.0]).then_some(())
    })
    .await;
}

/// No path, id, method, status or user makes a series of its own.
#[actix_web::test]
async fn clients_cannot_make_more_than_two_thousand_series() {
    let node = TestNode::alone(|_| {});
    let goods = node.live_goods(1).await;
    let visitor = node.visitor();
    let document = visitor.get("/openapi.json").await.body;
    // A stream has no end, and a picture is no text.
    let left_out = |path: &&String| ["/alarms/stream", "/media/default.jpeg"].contains(&path.as_str());
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().filter(|path| !left_out(path)).collect();
    let clients = [node.visitor(), node.user(2), node.admin(), with_token(&node, "bad")];
    for number in [goods, 4_711_000, 4_711_001] {
        for path in &paths {
            let path = path.replace("{id}", &number.to_string()).replace("{event_id}", "1").replace("{path}", "no.png");
            for client in &clients {
                for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
                    client.send(method, &path, Some(b"{}".to_vec())).await;
                }
            }
            for method in ["PATCH", "OPTIONS", "TRACE", "BREW", "X1", "X2"] {
                visitor.send(Method::from_bytes(method.as_bytes()).unwrap(), &path, None).await;
            }
        }
    }
    for number in 0..300 {
        visitor.get(&format!("/no/such/path/4711{number}")).await;
        visitor.get(&format!("/goods/4711{number}")).await;
        node.user(4_711_000 + number).get("/alarms").await;
    }
    for malformed in ["GET / HTTP/1.1\r\nbad header\r\n\r\n", "nonsense\r\n\r\n"] {
        let mut raw = Raw::connect(node.address());
        raw.write(malformed.as_bytes());
        raw.read_to_end();
    }
    let text = visitor.get("/metrics").await.text;
    let figures = Figures::parse(&text);
    let count = figures.series().count();
    assert!((500..=2000).contains(&count), "{count} series");
    // What a client has sent is in no label.
    for series in figures.series() {
        assert!(["4711", "/no/such", "BREW"].iter().all(|sent| !series.contains(sent)), "{series}");
    }
    assert!(figures.get("handsup_http_requests_total{method=\"other\",route=\"none\",status=\"404\"}") >= 300.0);
    assert_eq!(figures.sum("handsup_http_malformed_requests_total", &[("status", "400")]), 2.0);
    assert_eq!(figures.sum("handsup_http_requests_total", &[("status", "500")]), 0.0);
}

/// Base units, counters with `_total`, and a help text for each.
#[actix_web::test]
async fn names_follow_prometheus_rules() {
    let node = TestNode::alone_with_time(ManualTime::at(noon_in_seoul()), |_| {});
    node.live_goods(1).await;
    let text = node.visitor().get("/metrics").await.text;
    let kinds: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(kinds.len() > 60, "{kinds:?}");
    for (name, kind) in &kinds {
        assert!(name.starts_with("handsup_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}: {kind}");
        assert!(["counter", "gauge", "histogram"].contains(kind), "{name}: {kind}");
        for unit in ["ms", "us", "milliseconds", "kib", "mb", "percent"] {
            assert!(name.split('_').all(|word| word != unit), "{name}");
        }
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    for name in Figures::parse(&text).names() {
        let ends = ["_bucket", "_sum", "_count"];
        let family = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(kinds.iter().any(|(one, _)| *one == family || *one == name), "{name} has no type");
    }
}

/// Names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("handsup_") || word.starts_with("process_")).collect()
}

#[actix_web::test]
async fn the_dashboard_and_the_alerts_name_only_metrics_that_the_server_has() {
    let node = TestNode::alone(|_| {});
    let (visitor, deploy) = (node.visitor(), Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy"));
    assert_eq!(visitor.get("/health/live").await.status, 200);
    let figures = Figures::of(&visitor).await;
    for (file, at_least) in [("grafana-dashboard.json", 50), ("alerts.yml", 25)] {
        let text = fs::read_to_string(deploy.join(file)).unwrap();
        let used = named(&text);
        assert!(used.len() >= at_least, "{file}: {used:?}");
        let unknown: Vec<_> = used.difference(&figures.names()).copied().collect();
        assert!(unknown.is_empty(), "{file} names what the server has not: {unknown:?}");
    }
}

/// What fails, and that the node takes no bids then, is in the metrics too.
#[actix_web::test]
async fn the_checks_are_shown() {
    let node = TestNode::alone(|_| {});
    let parts = ["database", "ledger", "alarm_hub", "auction_clock", "bid_actors", "bus", "sessions"];
    eventually("all checks pass", || async {
        let figures = Figures::of(&node.visitor()).await;
        let passes = |check: &str| figures.get(&format!("handsup_check_status{{check=\"{check}\"}}")) == 0.0;
        (parts.into_iter().all(passes) && figures.get("handsup_ready") == 1.0).then_some(())
    })
    .await;
    let _gone = DatabaseGone::of(&node);
    eventually("the checks fail", || async {
        let figures = Figures::of(&node.visitor()).await;
        let failing = |check: &str| figures.get(&format!("handsup_check_status{{check=\"{check}\"}}")) == 2.0;
        let is_seen = failing("database") && failing("ledger") && !failing("alarm_hub") && !failing("bus");
        (is_seen && figures.get("handsup_ready") == 0.0).then_some(())
    })
    .await;
}

/// `promtool`, of Debian's package `prometheus`, finds nothing to say. `scripts/test --all` installs it.
#[actix_web::test]
async fn promtool_accepts_them() {
    if std::env::var("HANDSUP_TEST_PROMTOOL").is_err() {
        return;
    }
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    assert_eq!(node.user(2).bid(goods, 1000).await.status, 201);
    let text = node.visitor().get("/metrics").await.text;
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = check.spawn().unwrap();
    running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = running.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(done.status.success() && said.is_empty(), "{said}");
}
