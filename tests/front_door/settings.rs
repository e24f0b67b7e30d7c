//! The real program and its settings: what stops the start, which source takes precedence, what is shown and what is
//! not.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use handsup::test_support::app::DEV_SECRET;
use serde_json::{Value, json};

use crate::support::{
    Client, DEADLINE, Handsup, Raw, RunningProgram, SECRET, Socket, claims, database, goods_body, signed,
};

/// Settings that could serve: a proper key, and port 0.
pub fn good() -> Handsup {
    Handsup::new().set("auth.jwt_secret", SECRET).set("server.bind", "127.0.0.1:0")
}

/// The one line on stderr apart from log lines.
pub fn complaint(stderr: &str) -> &str {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(lines.len(), 1, "exactly one line: {stderr}");
    lines[0]
}

/// Asserts that `serve` ends by itself, says why in one line that names the key, and never listens.
pub fn refuses(handsup: &Handsup, words: &[&str], key: &str) {
    let ran = handsup.run(words);
    let (stdout, stderr) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert!(!ran.status.success(), "{key}: it should not have run: {stdout}{stderr}");
    assert!(ran.status.code().is_some(), "{key}: {:?}", ran.status);
    assert!(complaint(&stderr).contains(key), "{key}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(!stdout.contains("listening") && !stderr.contains("listening"), "{key}: {stdout}{stderr}");
    assert!(!stderr.contains(SECRET), "{stderr}");
}

/// Fault 17: the origin signs with `secret` unless it is configured.
#[test]
fn fault_17_without_a_proper_key_the_program_does_not_serve() {
    // A port that is free now: nothing may listen on it afterwards.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let handsup = || Handsup::new().set("server.bind", &port.to_string());
    for words in [&[][..], &["serve"]] {
        refuses(&handsup(), words, "auth.jwt_secret");
        for short in ["secret", "", &"x".repeat(31)] {
            refuses(&handsup().set("auth.jwt_secret", short), words, "auth.jwt_secret");
        }
    }
    let local = handsup().file("config/local.toml", "[auth]\njwt_secret = \"secret\"\n");
    refuses(&local, &["serve"], "auth.jwt_secret");
    refuses(&handsup().set("auth.insecure_dev_secret", "false"), &["serve"], "auth.jwt_secret");
    assert!(TcpStream::connect(port).is_err(), "nobody listens");
}

#[actix_web::test]
async fn fault_17_the_insecure_key_is_used_only_on_request() {
    let handsup = Handsup::new().set("auth.insecure_dev_secret", "true").set("server.bind", "127.0.0.1:0");
    let served = handsup.start(&["serve"]);
    let base = served.base();
    assert_eq!(RunningProgram::client(&base, None).get("/health/ready").await.status, 200);
    // Even then the origin's key is not accepted.
    let forged = jsonwebtoken::encode(
        &jsonwebtoken::Header::default(),
        &json!({"user_id": 1, "exp": 4_000_000_000i64, "admin": true}),
        &jsonwebtoken::EncodingKey::from_secret(b"secret"),
    );
    let forger = RunningProgram::client(&base, Some(&forged.unwrap()));
    assert_eq!(forger.get("/admin/health").await.code(), "unauthorized");
}

#[test]
fn unknown_keys_stop_the_start_in_every_source() {
    for key in ["auction.duration", "bogus", "auth.jwt_secrets", "limits.prices", "server.port"] {
        refuses(&good().set(key, "5"), &["serve"], key);
        refuses(&good().set(key, "5"), &["config"], key);
    }
    for (text, key) in [
        ("[auction]\nlength = 5\n", "auction.length"),
        ("[nothing]\na = 1\n", "nothing"),
        ("stray = 1\n", "stray"),
        ("[auth]\nsecret = \"x\"\n", "auth.secret"),
    ] {
        refuses(&good().file("config/local.toml", text), &["serve"], key);
        refuses(&good().file("mine.toml", text), &["serve", "--config", "mine.toml"], key);
        refuses(&good().file("mine.toml", text), &["--config", "mine.toml"], key);
    }
}

#[test]
fn invalid_values_stop_the_start() {
    for (key, bad) in [
        ("server.bind", "nowhere"),
        ("server.bind", "127.0.0.1"),
        ("server.bind", "127.0.0.1:99999"),
        ("server.workers", "0"),
        ("server.workers", "many"),
        ("server.trusted_proxies", "10.0.0.1,proxy"),
        ("server.allowed_origins", "*"),
        ("server.allowed_origins", "market.example"),
        ("server.allowed_origins", "https://market.example,https://a.example/path"),
        ("server.allowed_origins", "/"),
        ("server.allowed_origins", "ftp://market.example"),
        ("server.media_dir", "no/such/folder"),
        ("database.pool", "0"),
        ("database.pool", "-1"),
        ("auth.dev_login", "maybe"),
        ("auth.insecure_dev_secret", "2x"),
        ("auction.duration_s", "0"),
        ("auction.duration_s", "2592001"),
        ("auction.duration_s", "20 minutes"),
        ("auction.soft_close_s", "-1"),
        ("auction.close_grace_ms", "-1"),
        ("auction.time_zone", "Mars/Olympus"),
        ("session.heartbeat_s", "0"),
        ("session.timeout_s", "0"),
        ("session.max_pending", "0"),
        ("session.max_pending_bytes", "1"),
        ("session.max_per_user", "0"),
        ("session.max", "0"),
        ("limits.connections_per_address", "0"),
        ("limits.bids_per_second", "0"),
        ("limits.lines_per_second", "-5"),
        ("limits.requests_per_second", "99999999999"),
        ("limits.body_bytes", "1"),
        ("limits.frame_bytes", "0"),
        ("limits.frame_bytes", "6511"),
        ("server.keep_alive_s", "0"),
        ("server.keep_alive_s", "3601"),
        ("limits.max_price", "0"),
        ("limits.max_price", "9007199254740992"),
        ("alarms.locale", "fr"),
        ("alarms.keep_days", "ninety"),
    ] {
        refuses(&good().set(key, bad), &["serve"], key);
    }
    let a_file = good().file("pictures", "not a folder").set("server.media_dir", "pictures");
    refuses(&a_file, &["serve"], "server.media_dir");
    let of_wrong_kind = good().file("config/local.toml", "[auction]\nduration_s = \"long\"\n");
    refuses(&of_wrong_kind, &["serve"], "auction.duration_s");
    refuses(&good().file("mine.toml", "[auction\n"), &["serve", "--config", "mine.toml"], "mine.toml");
    refuses(&good(), &["serve", "--config", "missing.toml"], "missing.toml");
}

/// Each value is valid by itself, but not together with the other. The line names the key to change.
#[test]
fn settings_that_contradict_each_other_stop_the_start() {
    for (pair, key) in [
        (&[("session.timeout_s", "2")][..], "session.timeout_s: 2 must be above session.heartbeat_s (20)"),
        (&[("session.heartbeat_s", "45")], "session.timeout_s: 45 must be above session.heartbeat_s (45)"),
        (&[("session.heartbeat_s", "7"), ("session.timeout_s", "7")], "session.timeout_s"),
        (&[("limits.frame_bytes", "1048577")], "session.max_pending_bytes"),
        (&[("session.max_pending_bytes", "8192"), ("limits.frame_bytes", "8193")], "session.max_pending_bytes"),
        (&[("bus.url", "redis://127.0.0.1"), ("database.url", "sqlite://a.db")], "bus.url"),
        (&[("auth.dev_login", "true"), ("server.bind", "0.0.0.0:0")], "auth.dev_login"),
        (&[("auth.jwt_secret", DEV_SECRET)], "auth.jwt_secret"),
        (&[("auth.jwt_secret_previous", DEV_SECRET)], "auth.jwt_secret_previous"),
        (&[("server.media_dir", "config")], "server.media_dir: config/local.toml"),
        (&[("server.media_dir", ".")], "server.media_dir: database.url"),
        (&[("server.media_dir", "pictures"), ("database.url", "sqlite://pictures/a/b.db")], "server.media_dir"),
        (&[("server.media_dir", "pictures"), ("database.url", "sqlite://link/b.db")], "server.media_dir"),
    ] {
        let folder = good().file("config/local.toml", "").file("pictures/goods/a.png", "a picture");
        std::os::unix::fs::symlink("pictures/goods", folder.folder().join("link")).unwrap();
        let handsup = pair.iter().fold(folder, |handsup, (key, value)| handsup.set(key, value));
        refuses(&handsup, &["serve"], key);
    }
}

/// Unusual values are accepted.
#[test]
fn settings_that_are_only_unusual_do_not_stop_the_start() {
    let strange = good()
        .set("session.heartbeat_s", "2")
        .set("session.timeout_s", "3")
        .set("session.max", "5")
        .set("session.max_pending_bytes", "6512")
        .set("limits.frame_bytes", "6512")
        .set("auction.duration_s", "10")
        .set("auction.soft_close_s", "60")
        .set("auth.jwt_secret_previous", SECRET)
        .file("pictures/goods/a.png", "a picture")
        .set("server.media_dir", "pictures")
        .set("database.url", "sqlite://pictures-and-more/a.db");
    strange.start(&["serve"]).base();
}

#[actix_web::test]
async fn pictures_come_from_the_folder_of_the_settings() {
    let handsup = good().file("pictures/goods/a.png", "a picture").set("server.media_dir", "pictures");
    let served = handsup.start(&["serve"]);
    let picture = RunningProgram::client(&served.base(), None).get("/media/goods/a.png").await;
    assert_eq!((picture.status, picture.text.as_str()), (200, "a picture"));
}

#[test]
fn other_databases_are_refused() {
    let urls = [
        "mysql://localhost/x",
        "handsup.db",
        "sqlite:handsup.db",
        "sqlite://",
        "file:///tmp/x",
        "sqlite://:memory:",
        "http://x",
        "://",
        "postgres:nobody",
        "host=db dbname=x",
        "postgres://me:first-4711%zz@db/x",
        "postgres://me:first-4711@db:port/x",
    ];
    for url in urls {
        let handsup = good().set("database.url", url);
        refuses(&handsup, &["serve"], "database.url");
        refuses(&handsup, &["migrate"], "database.url");
        assert_eq!(std::fs::read_dir(handsup.folder()).unwrap().count(), 0, "{url}: nothing was made");
    }
}

/// Nobody listens there, or a server that never answers.
#[test]
fn an_unreachable_database_server_stops_the_start_in_time_with_one_line() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [closed, silent.local_addr().unwrap()] {
        let handsup = good().set("database.url", &format!("postgres://me:secret-4711@{address}/handsup"));
        for words in ["serve", "migrate"] {
            let begun = Instant::now();
            let ran = handsup.run(&[words]);
            let stderr = String::from_utf8(ran.stderr).unwrap();
            assert!(!ran.status.success());
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            assert!(complaint(&stderr).contains("database.url"), "{stderr}");
            assert!(!stderr.contains("4711") && !stderr.contains("postgres://"), "{stderr}");
        }
    }
}

/// Libpq is linked without OpenSSL by default. The start must fail rather than connect without encryption.
#[cfg(not(feature = "postgres-tls"))]
#[test]
fn tls_that_is_requested_but_not_built_in_stops_the_start() {
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("postgres://me:secret-4711@127.0.0.1:1/handsup?sslmode={mode}");
        let ran = good().set("database.url", &url).run(&["serve"]);
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert!(complaint(&stderr).contains("database.url: this program is built without TLS"), "{stderr}");
        assert!(!stderr.contains("4711"), "{stderr}");
    }
}

#[actix_web::test]
async fn the_operator_sees_which_engine_is_used() {
    let node = crate::support::TestNode::start();
    let engine = node.admin().get("/admin/health").await.body["checks"]["database"]["engine"].take();
    assert_eq!(engine, if database::on_sqlite_only() { "sqlite" } else { "postgres" });
}

#[test]
fn the_dev_login_is_refused_where_others_could_reach_it() {
    for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        refuses(&good().set("server.bind", bind).set("auth.dev_login", "true"), &["serve"], "auth.dev_login");
    }
    let handsup = good().set("auth.dev_login", "true");
    handsup.start(&["serve"]).base();
}

#[test]
fn a_port_that_is_taken_stops_the_start_with_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuses(&good().set("server.bind", &address), &["serve"], "server.bind");
}

#[test]
fn a_database_in_use_stops_the_start_with_one_line() {
    let handsup = good();
    let served = handsup.start(&["serve"]);
    served.base();
    refuses(&handsup, &["serve"], "database.url");
}

fn shown(handsup: &Handsup, words: &[&str]) -> Value {
    let ran = handsup.run(words);
    let stdout = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::to_value(toml::from_str::<toml::Value>(&stdout).expect("TOML")).unwrap()
}

#[test]
fn later_sources_take_precedence_over_earlier_ones() {
    let default = shown(&Handsup::new(), &["config"]);
    assert_eq!(default["auction"]["duration_s"], 1200);
    assert_eq!(default["server"]["bind"], "127.0.0.1:8000");
    assert_eq!(default["limits"]["max_price"], 1_000_000_000_000i64);
    assert_eq!((&default["server"]["keep_alive_s"], &default["limits"]["frame_bytes"]), (&json!(75), &json!(8192)));
    let local = "[auction]\nduration_s = 100\nsoft_close_s = 1\nclose_grace_ms = 1\n";
    let mine = "[auction]\nduration_s = 200\nsoft_close_s = 2\n";
    let handsup = Handsup::new()
        .file("config/local.toml", local)
        .file("mine.toml", mine)
        .set("auction.duration_s", "300")
        .set("server.allowed_origins", "https://a.example, https://b.example")
        .set("server.workers", "3");
    let all = shown(&handsup, &["--config", "mine.toml", "config"]);
    let auction = &all["auction"];
    let values = [&auction["duration_s"], &auction["soft_close_s"], &auction["close_grace_ms"], &auction["time_zone"]];
    assert_eq!(values, [&json!(300), &json!(2), &json!(1), &json!("Asia/Seoul")]);
    assert_eq!(all["server"]["allowed_origins"], json!(["https://a.example", "https://b.example"]));
    assert_eq!(all["server"]["workers"], 3);
    let without = shown(&handsup, &["config"]);
    assert_eq!(without["auction"]["soft_close_s"], 1, "the file only counts when it is given");
    // A `config/default.toml` in the folder takes precedence over the built-in one, but not over any other source.
    let handsup = Handsup::new().file("config/default.toml", local).file("config/local.toml", mine);
    let auction = &shown(&handsup, &["config"])["auction"];
    assert_eq!((&auction["duration_s"], &auction["close_grace_ms"]), (&json!(200), &json!(1)));
}

#[test]
fn secrets_are_never_shown() {
    let secrets =
        ["first-key-4711-first-key-4711-first-key", "second-key-0815-second-key-0815-second", "token-of-the-scraper"];
    let keys = ["jwt_secret", "jwt_secret_previous", "metrics_token"];
    let set = |handsup: Handsup, (key, secret): (&str, &str)| handsup.set(&format!("auth.{key}"), secret);
    let handsup = keys.into_iter().zip(secrets).fold(Handsup::new().log("trace"), set);
    let ran = handsup.run(&["config"]);
    let printed = String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{printed}");
    for key in keys {
        let line = printed.lines().find(|line| line.starts_with(&format!("{key} = "))).expect(key);
        assert!(line.contains("***"), "{line}");
    }
    for secret in secrets {
        assert!(!printed.contains(secret) && !printed.contains(&secret[..9]), "{printed}");
    }
    let with_password = Handsup::new().set("database.url", "postgres://me:s3cret-4711@db/handsup?sslpassword=4712");
    let url = shown(&with_password, &["config"])["database"]["url"].take();
    assert_eq!(url, "postgres://me:********@db/handsup?sslpassword=********");
    // Nor in a complaint about another key, or about the secret itself.
    for handsup in [good().set("auction.duration_s", "x"), good().set("auth.jwt_secret", "short-4711")] {
        let stderr = String::from_utf8(handsup.run(&["serve"]).stderr).unwrap();
        assert!(!stderr.contains(SECRET) && !stderr.contains("4711"), "{stderr}");
    }
}

/// A key of digits, or one that looks like a boolean, is a valid key.
#[actix_web::test]
async fn a_key_of_digits_is_valid() {
    let digits = "12345678901234567890123456789012";
    let handsup = Handsup::new().set("auth.jwt_secret", digits).set("server.bind", "127.0.0.1:0");
    let served = handsup.start(&["serve"]);
    let token = handsup.token(&["--user-id", "5", "--username", "kim"]);
    assert_eq!(RunningProgram::client(&served.base(), Some(&token)).get("/alarms").await.status, 200);
}

#[actix_web::test]
async fn the_token_command_prints_what_the_server_accepts() {
    let handsup = good();
    let served = handsup.start(&[]);
    let base = served.base();
    let of = |words: &[&str]| RunningProgram::client(&base, Some(&handsup.token(words)));
    let kim = of(&["--user-id", "5", "--username", "김철수"]);
    assert_eq!(kim.get("/alarms").await.status, 200);
    assert_eq!(kim.get("/admin/health").await.code(), "forbidden");
    assert_eq!(of(&["--user-id", "6", "--username", "op", "--admin"]).get("/admin/health").await.status, 200);
    let made = of(&["--username", "김철수", "--user-id", "5", "--ttl", "60"])
        .post("/goods/", &goods_body(&json!({"starts_at": "2090-01-01T00:00:00Z"})))
        .await;
    assert_eq!((&made.body["seller"]["id"], &made.body["seller"]["username"]), (&json!(5), &json!("김철수")));
    let short = of(&["--user-id", "7", "--username", "x", "--ttl", "1"]);
    crate::support::eventually("the token's end", || async {
        (short.get("/alarms").await.status == 401).then_some(())
    })
    .await;
    for bad in [
        &["--user-id", "0", "--username", "x"][..],
        &["--user-id", "abc", "--username", "x"],
        &["--username", "x"],
        &["--user-id", "5"],
        &["--user-id", "5", "--username", "x", "--ttl", "0"],
        &["--user-id", "5", "--username", "x", "--ttl", "-5"],
    ] {
        let ran = handsup.run(&[&["token"], bad].concat());
        assert!(!ran.status.success() && ran.stdout.is_empty(), "{bad:?}");
    }
    let without_key = Handsup::new().run(&["token", "--user-id", "5", "--username", "x"]);
    assert!(!without_key.status.success() && without_key.stdout.is_empty());
    assert!(complaint(&String::from_utf8(without_key.stderr).unwrap()).contains("auth.jwt_secret"));
}

#[test]
fn migrate_creates_the_database_and_nothing_else() {
    let handsup = Handsup::new().set("database.url", "sqlite://deep/down/market.db");
    for time in ["first", "second"] {
        let ran = handsup.run(&["migrate"]);
        assert!(ran.status.success(), "{time}: {}", String::from_utf8_lossy(&ran.stderr));
        assert!(handsup.folder().join("deep/down/market.db").metadata().unwrap().len() > 0, "{time}");
    }
    let served = handsup.set("auth.jwt_secret", SECRET).set("server.bind", "127.0.0.1:0");
    served.start(&["serve"]).base();
}

#[test]
fn unknown_commands_are_refused() {
    for words in [&["sevre"][..], &["serve", "now"], &["--port", "1"], &["config", "--secret"]] {
        let ran = good().run(words);
        assert!(!ran.status.success() && ran.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn a_signal_stops_the_server_in_order() {
    let handsup = good();
    let mut served = handsup.start(&["serve"]);
    served.base();
    served.interrupt();
    assert_eq!(served.wait_for_exit(DEADLINE).code(), Some(0));
}

/// The demo needs nothing, and nothing in the folder interferes.
#[test]
fn the_demo_runs_and_ends_with_ctrl_c() {
    let handsup = Handsup::new()
        .set("no.such", "1")
        .set("server.bind", "nowhere")
        .set("database.url", "mysql://x")
        .set("auth.jwt_secret", "short")
        .file("config/local.toml", "[nothing]\na = 1\n");
    let mut demo = handsup.start(&["demo"]);
    demo.line_with("listening on http://127.0.0.1:", DEADLINE);
    let received = demo.line_with("\"response_type\":\"alram\"", Duration::from_secs(60));
    assert!(received.contains("\"kind\":"), "{received}");
    demo.interrupt();
    assert_eq!(demo.wait_for_exit(DEADLINE).code(), Some(0));
    assert!(!demo.stderr().contains("panicked"));
    let left: Vec<_> = std::fs::read_dir(handsup.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config"], "nothing of it stays");
}

/// Contract 2: no token is ever logged, at any level and however it was sent.
#[actix_web::test]
async fn no_token_and_no_key_is_ever_logged() {
    for filter in ["debug", "trace"] {
        let handsup = good().set("auth.dev_login", "true").log(filter);
        let mut served = handsup.start(&["serve"]);
        let base = served.base();
        let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
        let now = handsup::test_support::time_source::TimeSource::now(&handsup::test_support::time_source::SystemTime);
        let good = handsup.token(&["--user-id", "7", "--username", "kim"]);
        let fresh = handsup.token(&["--user-id", "7", "--username", "kim"]);
        let expired = signed(&claims(&json!(7), now, &json!({"exp": now.secs() - 1})));
        let refresh = signed(&claims(&json!(7), now, &json!({"token_type": "refresh"})));
        let given = RunningProgram::client(&base, None).post("/dev/token", &json!({"user_id": 7})).await;
        let given = given.body["token"].as_str().unwrap().to_owned();
        let mut tokens = vec![good.clone(), fresh.clone(), expired.clone(), refresh.clone(), given.clone()];
        for token in [&good, &given, &expired, &refresh] {
            use_everywhere(&base, address, token).await;
        }
        let mut socket = Socket::open(&base, "/ws/alarms/", &["handsup.v1"], Some(&good)).await.unwrap();
        assert_eq!(socket.next().await["response_type"], "hello");
        socket.send_json(&json!({"type": "auth", "token": fresh})).await;
        assert_eq!(socket.next().await["response_type"], "auth");
        socket.send_json(&json!({"type": "auth", "token": expired})).await;
        assert_eq!(socket.closed().await.code, Some(4401));
        // A request that breaks off in the middle of a token.
        Raw::connect(address)
            .write(format!("GET /alarms HTTP/1.1\r\nAuthorization: Bearer {good}\r\nX: \0").as_bytes());
        served.interrupt();
        assert_eq!(served.wait_for_exit(Duration::from_secs(20)).code(), Some(0));
        let log = served.rest_of_stdout() + &served.stderr();
        assert!(
            log.contains("DEBUG") || log.contains("TRACE") || log.contains("INFO"),
            "something is logged: {log:.300}"
        );
        tokens.push(SECRET.to_owned());
        for token in tokens {
            // The signature alone, or the body alone, would be too much as well.
            for part in token.split('.').skip(1).chain([&*token]) {
                let line = log.lines().find(|line| line.contains(part));
                assert_eq!(line, None, "with RUST_LOG={filter}");
            }
        }
    }
}

/// Sends the token in every possible place; the answers do not matter.
pub async fn use_everywhere(base: &str, address: SocketAddr, token: &str) {
    let client: Client = RunningProgram::client(base, Some(token));
    client.get("/alarms").await;
    client.get("/nothing/here").await;
    client.bid(1, 1000).await;
    client.post("/goods/", &json!({"token": token})).await;
    client.get(&format!("/alarms?token={token}&limit=x")).await;
    RunningProgram::client(base, None).get(&format!("/goods/1/?token={token}")).await;
    let bearer = format!("bearer.{token}");
    for path in [format!("/ws/alram/?token={token}"), format!("/ws/alarms/?since=x&token={token}")] {
        Raw::connect(address).handshake(&path, &[]);
        Raw::connect(address).handshake(&path, &[("Origin", "https://evil.example")]);
        RunningProgram::client(base, None).get(&path).await;
    }
    Raw::connect(address).handshake("/ws/alarms/", &[("Sec-WebSocket-Protocol", &format!("handsup.v1, {bearer}"))]);
    if let Ok(mut socket) = Socket::open(base, &format!("/ws/alram/?token={token}"), &[], None).await {
        socket.send_text("no JSON").await;
        assert_eq!(socket.closed().await.code, Some(1007));
    }
}

/// The part that a parser cites of a broken file may be a secret.
#[test]
fn a_broken_file_is_named_without_its_contents() {
    let key = "a-key-that-nobody-else-may-know-4711";
    let broken = [
        format!("[auth]\njwt_secret = \"{key}\njwt_secret_previous = 1\n"),
        format!("[auth]\njwt_secret = \"{key}\"\njwt_secret = \"{key}\"\n"),
        format!("[database]\nurl = postgres://me:{key}@db/x\n"),
    ];
    for text in broken {
        let handsup = good().file("mine.toml", &text);
        let ran = handsup.run(&["--config", "mine.toml", "config"]);
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert!(!ran.status.success());
        assert!(!stderr.contains("4711"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("line"), "where it is: {stderr}");
    }
}
