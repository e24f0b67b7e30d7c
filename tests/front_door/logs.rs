//! The log of the real program: one line a record, in the requested form. And the program survives if the log or stdout
//! cannot be written.

use std::{
    fs::OpenOptions,
    io::Read,
    net::SocketAddr,
    process::{Child, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::{Value, json};

use crate::{
    settings::{complaint, good, refuses},
    support::{
        Client, DEADLINE, Handsup, Process, Raw, RedisServer, RunningProgram, can_run_several_nodes,
        database::{self, Locked, Stopped},
        eventually, eventually_within, goods_body,
    },
};

/// An output that cannot be written to, for good or for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    /// A device that is full.
    Full,
    /// A pipe whose reader is gone.
    Gone,
    /// A pipe that is not read.
    Unread,
}

impl Bad {
    fn stdio(self) -> Stdio {
        match self {
            Self::Full => OpenOptions::new().write(true).open("/dev/full").unwrap().into(),
            // Closed before the program starts, which might otherwise write and end first.
            Self::Gone => std::io::pipe().unwrap().1.into(),
            Self::Unread => Stdio::piped(),
        }
    }
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    fn ended(&mut self) -> Option<i32> {
        let give_up = Instant::now() + DEADLINE;
        while Instant::now() < give_up {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A free address to listen on that the kernel gives to no other socket meanwhile.
fn place() -> SocketAddr {
    static PLACES: AtomicU16 = AtomicU16::new(20_000);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 1 + high % 200, low, 7], PLACES.fetch_add(1, Ordering::Relaxed)))
}

async fn answers(client: &Client) {
    for path in ["/goods/", "/nothing/here", "/alarms"] {
        let answer = client.try_send_with(awc::http::Method::GET, path, None, &[]).await;
        assert!(answer.as_ref().is_ok_and(|answer| answer.status < 500), "{path}: {answer:?}");
    }
}

/// Serves, is asked much while everything is logged, and stops in order.
async fn serves_and_ends(stdout: Bad, stderr: Bad) {
    let place = place();
    let handsup = good().set("server.bind", &place.to_string()).log("trace");
    let mut child = handsup.command(&["serve"]).stdout(stdout.stdio()).stderr(stderr.stdio()).spawn().unwrap();
    // A dropped pipe has no reader.
    let out = child.stdout.take().filter(|_| stdout == Bad::Unread);
    let err = child.stderr.take().filter(|_| stderr == Bad::Unread);
    let mut running = Running(child);
    let client = Client::new(format!("http://{place}"), None);
    eventually("an answer", || async {
        client.try_send_with(awc::http::Method::GET, "/health/live", None, &[]).await.ok()
    })
    .await;
    // Far more than a pipe holds.
    for _ in 0..60 {
        answers(&client).await;
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&running.0), rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.ended(), Some(0), "stdout {stdout:?}, stderr {stderr:?}");
    drop((out, err));
}

#[actix_web::test]
async fn an_unwritable_stdout_or_stderr_does_not_end_the_program() {
    for bad in [Bad::Full, Bad::Gone, Bad::Unread] {
        serves_and_ends(bad, bad).await;
    }
}

/// A command that prints an answer reports by its exit code that it could not.
#[test]
fn a_command_whose_answer_cannot_be_printed_fails_with_one_line() {
    for words in [&["config"][..], &["migrate"], &["token", "--user-id", "1", "--username", "x"]] {
        for bad in [Bad::Full, Bad::Gone] {
            let handsup = good();
            let mut child = handsup.command(words).stdout(bad.stdio()).stderr(Stdio::piped()).spawn().unwrap();
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            assert_eq!(Running(child).ended(), Some(1), "{words:?}");
            assert!(complaint(&stderr).starts_with("handsup: stdout: "), "{stderr}");
        }
    }
    // There is nowhere to complain.
    let silent = Handsup::new();
    let child = silent.command(&["serve"]).stdout(Bad::Full.stdio()).stderr(Bad::Full.stdio()).spawn();
    assert_eq!(Running(child.unwrap()).ended(), Some(1));
}

/// A pipe that is read again later: the log then counts the lines that are missing.
#[actix_web::test]
async fn lines_that_could_not_be_written_are_counted_in_the_log() {
    let place = place();
    let handsup = good().set("server.bind", &place.to_string()).log("trace");
    let mut child = handsup.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = child.stderr.take().unwrap();
    let mut running = Running(child);
    let client = Client::new(format!("http://{place}"), None);
    eventually("an answer", || async {
        client.try_send_with(awc::http::Method::GET, "/health/live", None, &[]).await.ok()
    })
    .await;
    for _ in 0..600 {
        answers(&client).await;
    }
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        log.read_to_string(&mut all).unwrap();
        all
    });
    // The next line brings the count with it.
    answers(&client).await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&running.0), rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.ended(), Some(0));
    let all = reader.join().unwrap();
    let lost = all.lines().find(|line| line.contains("lines of the log were lost"));
    assert!(lost.is_some(), "{} bytes without a count", all.len());
    assert!(all.lines().last().unwrap().ends_with("stopped"), "the end of it is there");
}

/// Invalid requests, and everything else that is logged while a node starts, serves and stops.
#[actix_web::test]
async fn in_the_json_format_every_record_is_one_line() {
    let handsup = good().set("log.format", "json").set("log.level", "trace");
    let mut served = handsup.start(&["serve"]);
    let base = served.base();
    let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    answers(&RunningProgram::client(&base, None)).await;
    for garbage in ["\x16\x03\x01 no HTTP \x1b[31m\r\n\r\n", "GET / HTTP/1.1\r\nX: \0\r\n\r\n"] {
        let mut raw = Raw::connect(address);
        raw.write(garbage.as_bytes());
        raw.ends();
    }
    served.interrupt();
    assert_eq!(served.wait_for_exit(DEADLINE).code(), Some(0));
    let log = served.stderr();
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["level", "message", "target"] {
            assert!(record[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {line}");
        }
        assert!(crate::support::is_instant(&record["time"]), "{line}");
        assert!(["error", "warn", "info", "debug", "trace"].contains(&record["level"].as_str().unwrap()), "{line}");
    }
    assert!(log.contains(&format!(r#""message":"listening","address":"{base}""#)), "{log}");
}

#[test]
fn an_unknown_level_or_format_stops_the_start() {
    for (key, bad) in [
        ("log.level", "inof"),
        ("log.level", "handsup"),
        ("log.level", "handsup=loud"),
        ("log.level", "info,,"),
        ("log.format", "xml"),
        ("log.format", "JSON"),
    ] {
        refuses(&good().set(key, bad), &["serve"], key);
    }
    refuses(&good().log("handsup=loud"), &["serve"], "RUST_LOG");
}

/// A server of the real program, with clients of two users and an admin.
struct Watched {
    handsup: Handsup,
    served: RunningProgram,
    base: String,
}

impl Watched {
    fn start(handsup: Handsup) -> Self {
        let served = handsup.start(&["serve"]);
        let base = served.base();
        Self { handsup, served, base }
    }

    fn user(&self, id: i64) -> Client {
        let token = self.handsup.token(&["--user-id", &id.to_string(), "--username", &format!("secret-name-{id}")]);
        RunningProgram::client(&self.base, Some(&token))
    }

    fn admin(&self) -> Client {
        let token = self.handsup.token(&["--user-id", "9", "--username", "operator", "--admin"]);
        RunningProgram::client(&self.base, Some(&token))
    }

    fn address(&self) -> SocketAddr {
        self.base.trim_start_matches("http://").parse().unwrap()
    }

    async fn goods(&self, lasts_s: i64) -> i64 {
        let seller = self.user(1);
        let body = goods_body(&json!({"starts_at": SystemTime.now(), "duration_s": lasts_s}));
        let made = seller.post("/goods/", &body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.body["id"].as_i64().unwrap()
    }

    fn end(mut self) -> String {
        self.served.interrupt();
        assert_eq!(self.served.wait_for_exit(Duration::from_secs(20)).code(), Some(0));
        self.served.stderr()
    }
}

/// Each event once with its ids, without names, texts or credentials.
#[actix_web::test]
async fn the_log_says_what_happened() {
    let watched = Watched::start(good());
    let bidder = watched.user(2);
    let (unwanted, goods) = (watched.goods(1).await, watched.goods(3).await);
    assert_eq!(bidder.bid(goods, 1000).await.status, 201);
    assert_eq!(bidder.bid(goods, 999).await.status, 409);
    let mut room = bidder.room(goods).await;
    room.expect_frame("enter").await;
    room.send_json(&json!({"is_money": false, "message": "secret words"})).await;
    room.expect_frame("message").await;
    let change = json!({"is_active": false, "username": "secret-new-name"});
    assert_eq!(watched.admin().put("/admin/users/5", &change).await.status, 200);
    let token = format!("/ws/alarms/?token={}", bidder.token());
    assert_eq!(Raw::connect(watched.address()).handshake(&token, &[("Origin", "https://evil.example")]).status, 403);
    let sold = format!("an auction has ended with a buyer goods={goods} buyer=2 price=1000 bids=1");
    for line in [sold, format!("an auction has ended without a buyer goods={unwanted}")] {
        watched.served.logged(&line, 1).await;
    }
    let token = bidder.token().to_owned();
    let log = watched.end();
    for line in [
        format!("an auction has started goods={goods}"),
        format!(" user=2 goods={goods} price=1000 seq=1"),
        "admin=9 user=5 changed=\"inactive, username\"".to_owned(),
        "path=/ws/alarms origin=https://evil.example address=127.0.0.1".to_owned(),
    ] {
        let found: Vec<&str> = log.lines().filter(|found| found.contains(&line)).collect();
        assert_eq!(found.len(), 1, "{line}: {log}");
        assert!(found[0].contains(" INFO "), "{found:?}");
    }
    assert!(!log.contains("secret") && !log.contains(&token), "{log}");
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "nothing was wrong: {log}");
}

/// A page with a refused origin cannot fill the disk, and its name does no harm in the log.
#[actix_web::test]
async fn refused_origins_are_only_counted_after_the_first_ones() {
    let watched = Watched::start(good().set("limits.requests_per_second", "10000"));
    let long = format!("https://{}.example", "x".repeat(4000));
    for origin in std::iter::once(long.as_str()).chain(std::iter::repeat_n("https://\"évil\"] ERROR", 300)) {
        assert_eq!(Raw::connect(watched.address()).handshake("/ws/alarms/", &[("Origin", origin)]).status, 403);
    }
    let preflight = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    watched.user(2).send_with(awc::http::Method::OPTIONS, "/goods/", None, &preflight).await;
    let log = watched.end();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("refused a page of another origin")).collect();
    assert_eq!(refused.len(), 20, "{log}");
    assert!(refused.iter().all(|line| line.len() < 400), "{refused:?}");
}

/// A client's error is not one of the service. At debug level the log shows who made it.
#[actix_web::test]
async fn garbage_of_clients_is_logged_at_debug_with_the_address() {
    for (level, is_shown) in [("info", false), ("debug", true)] {
        let watched = Watched::start(good().set("log.level", level));
        let mut raw = Raw::connect(watched.address());
        let peer = raw.local_address();
        raw.write(b"\x16\x03\x01 no HTTP\r\n\r\n");
        raw.ends();
        // A client that breaks off in the middle of a request.
        let mut broken = Raw::connect(watched.address());
        broken.write(b"POST /goods/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
        drop(broken);
        answers(&RunningProgram::client(&watched.base, None)).await;
        let log = watched.end();
        assert_eq!(log.contains(&format!("a connection has ended address={peer}")), is_shown, "{log}");
        assert!(!log.contains(" ERROR ") && !log.contains(" WARN "), "{log}");
    }
}

/// Lines about an outage and its end.
fn of_outages(log: &str) -> Vec<&str> {
    let of_outage =
        |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ") || line.contains(" again failures=");
    log.lines().filter(of_outage).collect()
}

/// Everything that uses the database keeps trying, and one line says so.
async fn uses_while_it_is_away(process: &Process, goods: i64, until: Instant) {
    let (a, b) = (process.user(2), process.user(3));
    let mut price = 2000;
    while Instant::now() < until {
        price += 1;
        let path = format!("/goods/{goods}/");
        let (bid, page) = futures_util::join!(a.bid(goods, price), b.get(&path));
        assert!([503, 409].contains(&bid.status), "{}", bid.text);
        assert!([200, 503].contains(&page.status), "{}", page.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A start and an end that fall due meanwhile keep trying, too.
async fn with_auctions(folder: &std::path::Path) -> (Process, i64) {
    let process = Process::start(&database::default_path(folder));
    let mut all = Vec::new();
    for (starts_in_ms, lasts_s) in [(0, 1200), (2000, 1200), (0, 2)] {
        let body = json!({"starts_at": SystemTime.now().plus_ms(starts_in_ms), "duration_s": lasts_s});
        let made = process.user(1).post("/goods/", &goods_body(&body)).await;
        all.push(made.body["id"].as_i64().unwrap());
    }
    let bid = || async { (process.user(2).bid(all[0], 1000).await.status == 201).then_some(()) };
    eventually("the start", bid).await;
    assert_eq!(process.user(3).bid(all[0], 1500).await.status, 201);
    (process, all[0])
}

async fn wait_for_bids(process: &Process, goods: i64) {
    let user = process.user(2);
    eventually("bids are accepted", || async { (user.bid(goods, 100_000).await.status == 201).then_some(()) }).await;
}

/// Waits until the log says that the database or Redis is back, without any request.
async fn wait_until_back(process: &Process, said: &[&str]) -> String {
    let poll = || async { Some(process.stderr()).filter(|log| said.iter().all(|said| log.contains(said))) };
    eventually_within(Duration::from_secs(30), "its return in the log", poll).await
}

#[actix_web::test]
async fn a_database_that_takes_no_writes_is_logged_once_and_so_is_its_return() {
    let folder = tempfile::tempdir().unwrap();
    let (process, goods) = with_auctions(folder.path()).await;
    let locked = Locked::by_another_connection(folder.path());
    uses_while_it_is_away(&process, goods, Instant::now() + Duration::from_secs(4)).await;
    drop(locked);
    wait_for_bids(&process, goods).await;
    let log = wait_until_back(&process, &["writes to the database work again ", "starts and ends are"]).await;
    let lines = of_outages(&log);
    for once in ["writes to the database fail ", "task of the auction clock failed, ", "work again", "starts and ends"]
    {
        let count = lines.iter().filter(|line| line.contains(once)).count();
        assert!(count == 1 || (once.contains("clock") && count < 2), "{once}: {log}");
    }
    assert!(lines.len() <= 4, "{log}");
}

#[actix_web::test]
async fn a_database_that_is_down_is_logged_once_and_so_is_its_return() {
    if !database::on_postgres_only() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (process, goods) = with_auctions(folder.path()).await;
    let mut socket = process.user(2).socket().await;
    socket.expect_alarm("outbid").await;
    let stopped = Stopped::server_of(folder.path());
    uses_while_it_is_away(&process, goods, Instant::now() + Duration::from_secs(5)).await;
    drop(stopped);
    wait_for_bids(&process, goods).await;
    let back = ["the database can be read again ", "writes to the database work again ", "starts and ends are"];
    let log = wait_until_back(&process, &back).await;
    let lines = of_outages(&log);
    for once in back.into_iter().chain(["writes to the database fail ", "the database can't be read "]) {
        assert_eq!(lines.iter().filter(|line| line.contains(once)).count(), 1, "{once}: {log}");
    }
    assert!(lines.len() <= 6, "{log}");
    assert!(log.lines().all(|line| line.starts_with('[')), "a line for each record: {log}");
    assert_eq!(process.user(3).bid(goods, 200_000).await.status, 201);
    socket.expect_alarm("outbid").await;
}

#[actix_web::test]
async fn a_redis_that_is_down_is_logged_once_and_so_is_its_return() {
    if !can_run_several_nodes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start();
    let process = Process::start_with(&database::default_path(folder.path()), &[("bus.url", &redis.url())]);
    wait_until_back(&process, &["connected to Redis"]).await;
    redis.kill();
    wait_until_back(&process, &["no connection to Redis, reconnecting "]).await;
    // For a while, in which it tries again and again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.start_again();
    let log = wait_until_back(&process, &["connected to Redis again "]).await;
    assert_eq!(of_outages(&log).len(), 2, "{log}");
    assert_eq!(log.matches("connected to Redis").count(), 2, "{log}");
}

/// `RUST_LOG` takes precedence over the setting, as its users expect.
#[actix_web::test]
async fn rust_log_takes_precedence_over_the_setting() {
    let handsup = good().set("log.level", "info").log("off");
    let mut quiet = handsup.start(&["serve"]);
    quiet.base();
    quiet.interrupt();
    assert_eq!(quiet.wait_for_exit(DEADLINE).code(), Some(0));
    assert_eq!(quiet.stderr(), "");
    let handsup = good().set("log.level", "warn,handsup=info");
    let mut loud = handsup.start(&["serve"]);
    loud.base();
    loud.interrupt();
    assert_eq!(loud.wait_for_exit(DEADLINE).code(), Some(0));
    assert!(loud.stderr().contains("INFO  handsup::cli"), "{}", loud.log());
}
