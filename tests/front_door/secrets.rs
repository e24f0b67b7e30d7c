//! No secret of the settings is ever shown: not in the log at its finest level, on stdout, in what a command prints, or in
//! a response; neither while all is well nor while the database or Redis fails.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    settings::use_everywhere,
    support::{
        Client, DEADLINE, Handsup, RedisServer, RunningProgram, can_run_several_nodes,
        database::{self, Stopped},
        eventually, goods_body,
    },
};

/// Part of every secret here.
const MARK: &str = "never-shown";
const KEY: &str = "never-shown-key-in-force-0123456789";
const PREVIOUS: &str = "never-shown-key-of-before-0123456789";
const NEXT: &str = "never-shown-key-of-later-0123456789";
const SCRAPER: &str = "never-shown-token-of-the-scraper";
const PASSWORD: &str = "never-shown-password";

/// The file with the secrets that a reload can change.
fn keys(key: &str, previous: &str) -> String {
    format!("[auth]\njwt_secret = \"{key}\"\njwt_secret_previous = \"{previous}\"\nmetrics_token = \"{SCRAPER}\"\n")
}

fn assert_hidden(shown: &str, what: &str) {
    assert_eq!(shown.lines().find(|line| line.contains(MARK)), None, "{what}");
}

/// What a command that ends by itself prints.
fn printed(handsup: &Handsup, words: &[&str]) -> String {
    let ran = handsup.run(words);
    String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap()
}

/// Sends requests of many kinds; no response may show a secret. Returns their statuses.
async fn ask(client: &Client) -> Vec<u16> {
    let goods = goods_body(&json!({"starts_at": "2099-01-01T00:00:00Z"}));
    let answers = [
        client.get("/goods/").await,
        client.get("/goods/1/").await,
        client.get(&format!("/goods/?page=x&token={KEY}")).await,
        client.get("/nothing/here").await,
        client.get("/alarms").await,
        client.get("/alarms/stream?token=x").await,
        client.get("/health/ready").await,
        client.get("/admin/health").await,
        client.get("/admin/users").await,
        client.get("/metrics").await,
        client.get("/openapi.json").await,
        client.post("/goods/", &goods).await,
        client.post("/goods/", &Value::Null).await,
        client.bid(1, 1000).await,
        client.put("/alarms/preferences", &json!({"locale": "en"})).await,
    ];
    for answer in &answers {
        assert_hidden(&format!("{:?}\n{}", answer.headers, answer.text), "a response");
    }
    answers.iter().map(|answer| answer.status).collect()
}

/// A connection to Redis that changes which password it wants.
struct Guard(TcpStream);

impl Guard {
    fn of(redis: &RedisServer) -> Self {
        let address = redis.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(tcp)
    }

    fn run(&mut self, command: &str) {
        self.0.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 64];
        let length = self.0.read(&mut answer).unwrap();
        assert!([b'+', b':'].contains(&answer[0]), "{}", String::from_utf8_lossy(&answer[..length]));
    }
}

#[actix_web::test]
async fn no_secret_is_shown_whatever_happens() {
    let folder = tempfile::tempdir().unwrap();
    let url = database::url(folder.path()).replace("//postgres@", &format!("//postgres:{PASSWORD}@"));
    let mut handsup = Handsup::new()
        .set("server.bind", "127.0.0.1:0")
        .set("database.url", &url)
        .file("config/local.toml", &keys(KEY, PREVIOUS))
        .log("trace");
    let redis = can_run_several_nodes().then(RedisServer::start);
    let mut guard = redis.as_ref().map(Guard::of);
    if let (Some(redis), Some(guard)) = (&redis, &mut guard) {
        guard.run(&format!("CONFIG SET requirepass {PASSWORD}"));
        handsup = handsup.set("bus.url", &redis.url().replace("//", &format!("//:{PASSWORD}@")));
    }
    assert_hidden(&printed(&handsup, &["config"]), "handsup config");
    let mut served = handsup.start(&["serve"]);
    let base = served.base();
    let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    let admin = RunningProgram::client(&base, Some(&handsup.token(&["--user-id", "9", "--username", "a", "--admin"])));
    eventually("all of it works", || async {
        let health = admin.get("/admin/health").await;
        (health.body["status"] == "pass").then_some(())
    })
    .await;

    // Right and wrong tokens, and secrets where a token belongs.
    let before = Handsup::new().set("auth.jwt_secret", PREVIOUS);
    let of_before = before.token(&["--user-id", "2", "--username", "b"]);
    for token in [&of_before, "x.y.z", KEY, PREVIOUS, SCRAPER, PASSWORD] {
        use_everywhere(&base, address, token).await;
        ask(&RunningProgram::client(&base, Some(token))).await;
    }
    ask(&RunningProgram::client(&base, None)).await;
    let statuses = ask(&admin).await;
    assert_eq!((statuses[8], statuses[11]), (200, 201), "the requests reach what they are for: {statuses:?}");
    let scraper = RunningProgram::client(&base, Some(SCRAPER));
    assert_eq!(scraper.get("/metrics").await.status, 200);

    // New keys, then a bad one, and a file that is no TOML.
    for (text, line) in [
        (keys(NEXT, KEY), "SIGHUP: settings reloaded"),
        (keys("never-shown-short", KEY), "SIGHUP: settings not reloaded"),
        (keys(NEXT, KEY).replace("0123456789\"", "0123456789"), "SIGHUP: settings not reloaded"),
    ] {
        let times = served.log().matches(line).count();
        handsup.write("config/local.toml", &text);
        served.signal(Signal::HUP);
        served.logged(line, times + 1).await;
    }
    handsup.write("config/local.toml", &keys(NEXT, KEY));

    // Statements fail, then (on PostgreSQL) no connection can be opened.
    let database = database::default_path(folder.path());
    database::run(&database, "ALTER TABLE goods RENAME TO goods_away");
    assert_eq!(ask(&admin).await[0], 503);
    database::run(&database, "ALTER TABLE goods_away RENAME TO goods");
    if database::on_postgres_only() {
        let stopped = Stopped::server_of(folder.path());
        assert_eq!(ask(&admin).await[0], 503);
        drop(stopped);
    }
    // Redis wants another password.
    if let Some(guard) = &mut guard {
        let lost = "no connection to Redis";
        let times = served.log().matches(lost).count();
        guard.run("CONFIG SET requirepass another");
        guard.run("CLIENT KILL TYPE pubsub");
        guard.run("CLIENT KILL TYPE normal SKIPME yes");
        served.logged(lost, times + 1).await;
        ask(&admin).await;
    }
    served.interrupt();
    assert!(served.wait_for_exit(DEADLINE).success());
    let (stdout, log) = (served.rest_of_stdout(), served.stderr());
    assert!(log.contains("TRACE") && log.contains("DEBUG"), "all of it is logged");
    assert_hidden(&stdout, "stdout");
    assert_hidden(&log, "the log");
}

/// Nor in what a command says of a database that it can't reach.
#[test]
fn no_command_shows_the_password_of_a_database() {
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:1/none?sslpassword={PASSWORD}");
    let handsup = Handsup::new().set("database.url", &url).file("config/local.toml", &keys(KEY, PREVIOUS)).log("trace");
    for words in [
        &["config"][..],
        &["migrate"],
        &["serve"],
        &["copy", "--from", &url, "--to", "sqlite://there.db"],
        &["copy", "--from", "sqlite://missing.db", "--to", &url],
        &["backup", "--from", &url, "--to", "there.db"],
    ] {
        let said = printed(&handsup, words);
        assert!(!said.is_empty(), "{words:?}");
        assert_hidden(&said, &format!("{words:?}"));
    }
}
