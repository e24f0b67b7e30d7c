//! SIGHUP: the settings are read again, those that can change at runtime take effect, and no socket ends.

use std::{net::SocketAddr, time::Duration};

use handsup::test_support::{
    domain::UserId,
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, DEADLINE, Handsup, Issuer, Raw, RunningProgram, SECRET, Socket, claims, goods_body, signed,
};

const READ_AGAIN: &str = "SIGHUP: settings reloaded";
const NOTHING_CHANGED: &str = "SIGHUP: settings not reloaded";
const OTHER: &str = "another-test-key-that-is-long-enough-too";
const MARKET: &str = "https://market.example";

/// A running server whose settings are in a file.
struct Changing {
    handsup: Handsup,
    served: RunningProgram,
    base: String,
    times: usize,
}

impl Changing {
    fn start(text: &str) -> Self {
        let handsup = Handsup::new().set("server.bind", "127.0.0.1:0").file("config/local.toml", text);
        let served = handsup.start(&["serve"]);
        let base = served.base();
        Self { handsup, served, base, times: 0 }
    }

    /// Makes it read these settings; returns the whole log.
    async fn read(&mut self, text: &str) -> String {
        self.handsup.write("config/local.toml", text);
        self.served.signal(Signal::HUP);
        self.times += 1;
        self.served.logged(READ_AGAIN, self.times).await
    }

    /// Makes it refuse these settings.
    async fn refuse(&mut self, text: &str, times: usize) -> String {
        self.handsup.write("config/local.toml", text);
        self.served.signal(Signal::HUP);
        self.served.logged(NOTHING_CHANGED, times).await
    }

    /// A user with a token of this key.
    fn user(&self, id: i64, key: &str) -> Client {
        RunningProgram::client(&self.base, Some(&token(id, key)))
    }

    async fn live_goods(&self, seller: &Client) -> i64 {
        let body = goods_body(&json!({"starts_at": SystemTime.now(), "duration_s": 1200}));
        let made = seller.post("/goods/", &body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.body["id"].as_i64().unwrap()
    }

    fn handshake_from(&self, origin: &str, key: &str) -> u16 {
        let address: SocketAddr = self.base.trim_start_matches("http://").parse().unwrap();
        let bearer = format!("Bearer {}", token(7, key));
        Raw::connect(address).handshake("/ws/alarms/", &[("Origin", origin), ("Authorization", &bearer)]).status
    }
}

fn token(id: i64, key: &str) -> String {
    let user = UserId::new(id).unwrap();
    let new = NewToken { user, username: Some(format!("name{id}")), ttl_s: 3600, admin: false };
    Keys::new(key, None).mint(&new, SystemTime.now()).unwrap()
}

fn keys(now: &str, previous: Option<&str>) -> String {
    let previous = previous.map(|key| format!("jwt_secret_previous = \"{key}\"\n")).unwrap_or_default();
    format!("[auth]\njwt_secret = \"{now}\"\n{previous}")
}

async fn reads(client: &Client) -> u16 {
    client.get("/alarms").await.status
}

/// A key is rotated and the old one is removed. Connected users stay connected and still get alarms.
#[actix_web::test]
async fn sighup_rotates_the_keys_and_sockets_stay() {
    let mut server = Changing::start(&keys(SECRET, None));
    let (old, new) = (server.user(2, SECRET), server.user(2, OTHER));
    let mut socket = old.socket_since(0).await;
    socket.expect_frame("hello").await;
    assert_eq!((reads(&old).await, reads(&new).await), (200, 401));
    let log = server.read(&keys(OTHER, Some(SECRET))).await;
    assert!(log.contains("changed=\"auth.jwt_secret, auth.jwt_secret_previous\""), "{log}");
    assert_eq!((reads(&old).await, reads(&new).await), (200, 200));
    // A token that the node has just verified is refused as well.
    server.read(&keys(OTHER, None)).await;
    assert_eq!((reads(&old).await, reads(&new).await), (401, 200));
    let goods = server.live_goods(&server.user(1, OTHER)).await;
    assert_eq!(new.bid(goods, 1000).await.status, 201);
    assert_eq!(server.user(3, OTHER).bid(goods, 2000).await.status, 201);
    socket.expect_alarm("outbid").await;
    let log = server.served.log();
    assert!(!log.contains(SECRET) && !log.contains(OTHER), "{log}");
}

/// A file with another key is read although its name is the same. One that holds no key changes nothing.
#[actix_web::test]
async fn sighup_reads_the_public_key_again() {
    let (old, new) = (Issuer::es256("1"), Issuer::es256("1"));
    let settings = "[auth]\nalgorithm = \"ES256\"\npublic_key_file = \"key.pem\"\n";
    let handsup = Handsup::new()
        .set("server.bind", "127.0.0.1:0")
        .file("config/local.toml", settings)
        .file("key.pem", &old.pem());
    let served = handsup.start(&["serve"]);
    let base = served.base();
    let mut server = Changing { handsup, served, base, times: 0 };
    let user = |issuer: &Issuer| RunningProgram::client(&server.base, Some(&issuer.token(2, SystemTime.now())));
    let (old, new, secret) = (user(&old), (user(&new), new), server.user(2, SECRET));
    let (new, pem) = (new.0, new.1.pem());
    let mut socket = old.socket_since(0).await;
    socket.expect_frame("hello").await;
    assert_eq!((reads(&old).await, reads(&new).await, reads(&secret).await), (200, 401, 401));
    server.handsup.write("key.pem", &pem);
    let log = server.read(settings).await;
    assert!(log.contains("changed=auth.public_key_file"), "{log}");
    // A token that the node has just verified is refused as well.
    assert_eq!((reads(&old).await, reads(&new).await, reads(&secret).await), (401, 200, 401));
    server.handsup.write("key.pem", "no key");
    let log = server.refuse(settings, 1).await;
    assert!(log.contains("auth.public_key_file: "), "{log}");
    assert_eq!((reads(&old).await, reads(&new).await), (401, 200));
    // From the one algorithm to the other; the socket stays.
    server.read(&keys(SECRET, None)).await;
    assert_eq!((reads(&old).await, reads(&new).await, reads(&secret).await), (401, 401, 200));
    let goods = server.live_goods(&server.user(1, SECRET)).await;
    assert_eq!(secret.bid(goods, 1000).await.status, 201);
    assert_eq!(server.user(3, SECRET).bid(goods, 2000).await.status, 201);
    socket.expect_alarm("outbid").await;
}

#[actix_web::test]
async fn sighup_changes_what_tokens_must_say() {
    let mut server = Changing::start(&keys(SECRET, None));
    let now = SystemTime.now();
    let made = |own: &Value| RunningProgram::client(&server.base, Some(&signed(&claims(&json!(2), now, own))));
    let (plain, ours) = (made(&json!({})), made(&json!({"iss": "market", "aud": "handsup", "sub": "7"})));
    assert_eq!((reads(&plain).await, reads(&ours).await), (200, 200));
    let own = "issuer = \"market\"\naudience = \"handsup\"\nuser_id_claim = \"sub\"\n";
    let log = server.read(&(keys(SECRET, None) + own)).await;
    assert!(log.contains("changed=\"auth.audience, auth.issuer, auth.user_id_claim\""), "{log}");
    assert_eq!((reads(&plain).await, reads(&ours).await), (401, 200));
    let mut socket = ours.socket_since(0).await;
    assert_eq!(socket.expect_frame("hello").await["user_id"], 7);
}

#[actix_web::test]
async fn sighup_changes_who_may_read_the_metrics() {
    let mut server = Changing::start(&keys(SECRET, None));
    let (visitor, scraper) =
        (RunningProgram::client(&server.base, None), RunningProgram::client(&server.base, Some("of-the-scraper")));
    let both = async || (visitor.get("/metrics").await.status, scraper.get("/metrics").await.status);
    assert_eq!(both().await, (200, 401));
    let with_token = |token: &str| format!("{}metrics_token = \"{token}\"\n", keys(SECRET, None));
    let log = server.read(&with_token("of-the-scraper")).await;
    assert!(log.contains("changed=auth.metrics_token"), "{log}");
    assert_eq!(both().await, (401, 200));
    server.read(&with_token("another")).await;
    assert_eq!(both().await, (401, 401));
    server.refuse(&with_token(""), 1).await;
    assert_eq!(both().await, (401, 401), "an empty one changes nothing");
    server.read(&keys(SECRET, None)).await;
    assert_eq!(both().await, (200, 401));
    let log = server.served.log();
    assert!(!log.contains("of-the-scraper") && !log.contains("another"), "{log}");
}

#[actix_web::test]
async fn sighup_changes_the_origins_the_locale_and_the_rates() {
    let mut server = Changing::start(&keys(SECRET, None));
    let (seller, rival, bidder) = (server.user(1, SECRET), server.user(2, SECRET), server.user(3, SECRET));
    let goods = server.live_goods(&seller).await;
    let mut socket = bidder.socket_since(0).await;
    socket.expect_frame("hello").await;
    assert_eq!(server.handshake_from(MARKET, SECRET), 403);
    assert_eq!((bidder.bid(goods, 1000).await.status, rival.bid(goods, 2000).await.status), (201, 201));
    assert_eq!(socket.expect_alarm("outbid").await["message"], "다른 핸더가 입찰했어요!");

    let own = "[server]\nallowed_origins = [\"https://market.example\"]\n[alarms]\nlocale = \"en\"\n";
    let log = server.read(&(keys(SECRET, None) + own)).await;
    assert!(log.contains("changed=\"alarms.locale, server.allowed_origins\""), "{log}");
    assert_eq!(server.handshake_from(MARKET, SECRET), 101);
    assert_eq!(server.handshake_from("https://evil.example", SECRET), 403);
    let preflight = [("Origin", MARKET), ("Access-Control-Request-Method", "POST")];
    let asked = bidder.send_with(awc::http::Method::OPTIONS, "/goods/", None, &preflight).await;
    assert_eq!(asked.headers.get("access-control-allow-origin").unwrap(), MARKET);
    assert_eq!((bidder.bid(goods, 3000).await.status, rival.bid(goods, 4000).await.status), (201, 201));
    assert_eq!(socket.expect_alarm("outbid").await["message"], "Another bidder has outbid you!");
    assert_eq!(bidder.get("/alarms").await.body["results"][0]["message"], "Another bidder has outbid you!");

    let slow = "[limits]\nrequests_per_second = 1\nbids_per_second = 1\nlines_per_second = 1\n";
    server.read(&(keys(SECRET, None) + slow)).await;
    let statuses = [reads(&rival).await, reads(&rival).await, reads(&rival).await];
    assert_eq!(statuses, [200, 200, 429], "a burst of twice the rate passes");
    // The same rates again do not restart the counting.
    server.read(&(keys(SECRET, None) + slow)).await;
    assert_eq!(reads(&rival).await, 429);
    let mut room =
        Socket::open(&server.base, &format!("/ws/auction/{goods}/"), &[], Some(&token(4, SECRET))).await.unwrap();
    room.expect_frame("enter").await;
    for _ in 0..3 {
        room.send_json(&json!({"is_money": false, "message": "hello"})).await;
    }
    let mut received = Vec::new();
    while received.last() != Some(&json!("alert")) {
        received.push(room.next().await["response_type"].clone());
    }
    assert_eq!(server.handshake_from(MARKET, SECRET), 403, "origins that are left out are refused again");
}

#[actix_web::test]
async fn sighup_changes_what_the_log_shows_and_how() {
    let mut server = Changing::start(&keys(SECRET, None));
    let log = server.read(&(keys(SECRET, None) + "[log]\nlevel = \"debug\"\nformat = \"json\"\n")).await;
    assert!(log.contains("\"changed\":\"log.format, log.level\""), "{log}");
    server.read(&keys(SECRET, None)).await;
    let log = server.read(&keys(SECRET, None)).await;
    assert!(log.contains("changed=nothing"), "{log}");
    let lines: Vec<&str> = log.lines().collect();
    let is_json = |line: &&&str| serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object());
    assert_eq!(lines.iter().filter(is_json).count(), 1, "the first one alone was in force then: {log}");
    assert!(lines.last().unwrap().starts_with('['), "{log}");
}

#[actix_web::test]
async fn sighup_names_what_needs_a_restart_until_it_comes() {
    let mut server = Changing::start(&keys(SECRET, None));
    let both = "[session]\nmax_per_user = 1\n[database]\nurl = \"sqlite://other.db\"\n[alarms]\nlocale = \"en\"\n";
    for time in 1..=2 {
        server.read(&(keys(SECRET, None) + both)).await;
        let named = "SIGHUP: needs a restart changed=\"database.url, session.max_per_user\"";
        server.served.logged(named, time).await;
    }
    let user = server.user(2, SECRET);
    let (first, second) = (user.socket_since(0).await, user.socket_since(0).await);
    drop((first, second));
    assert!(!server.handsup.folder().join("other.db").exists());
    let log = server.read(&keys(SECRET, None)).await;
    assert_eq!(log.matches("needs a restart").count(), 2, "as it was: {log}");
}

/// Whatever is wrong: an unknown key, an invalid value, a contradiction, invalid TOML, a check that only `serve` makes.
#[actix_web::test]
async fn an_invalid_file_at_sighup_changes_nothing() {
    let mut server = Changing::start(&keys(SECRET, None));
    let old = server.user(2, SECRET);
    let mut socket = old.socket_since(0).await;
    socket.expect_frame("hello").await;
    let with_locale = keys(OTHER, None) + "[alarms]\nlocale = \"en\"\n";
    for (time, (text, key)) in (1..).zip([
        (with_locale.clone() + "[session]\ntimeout = 1\n", "session.timeout"),
        (with_locale.clone() + "[limits]\nbids_per_second = 0\n", "limits.bids_per_second"),
        (with_locale.clone() + "[session]\ntimeout_s = 5\n", "session.timeout_s"),
        (with_locale.clone() + "[log]\nlevel = \"inof\"\n", "log.level"),
        (with_locale.clone() + "[log]\nformat = \"xml\"\n", "log.format"),
        (with_locale.clone() + "[server]\nmedia_dir = \"nowhere\"\n", "server.media_dir"),
        (keys("short", None), "auth.jwt_secret"),
        // Allowing a short key needs a restart, so this key would be in force without its permission.
        (keys("short", None) + "insecure_dev_secret = true\n", "auth.jwt_secret"),
        (keys(SECRET, None) + "algorithm = \"RS256\"\n", "auth.public_key_file"),
        (keys(OTHER, None) + "admin_claim = \"username\"\n", "auth.admin_claim"),
        ("[auth\n".to_owned() + &with_locale, "config/local.toml"),
        (String::new(), "auth.jwt_secret"),
    ]) {
        let log = server.refuse(&text, time).await;
        let line = log.lines().rfind(|line| line.contains(NOTHING_CHANGED)).unwrap();
        assert!(line.contains(key), "{key}: {line}");
        assert_eq!((reads(&old).await, reads(&server.user(2, OTHER)).await), (200, 401), "{key}");
    }
    let goods = server.live_goods(&server.user(1, SECRET)).await;
    assert_eq!((old.bid(goods, 1000).await.status, server.user(3, SECRET).bid(goods, 2000).await.status), (201, 201));
    assert_eq!(socket.expect_alarm("outbid").await["message"], "다른 핸더가 입찰했어요!");
    assert!(!server.served.log().contains(OTHER), "{}", server.served.log());
    let served = &mut server.served;
    served.interrupt();
    assert_eq!(served.wait_for_exit(DEADLINE).code(), Some(0));
}

/// However many signals arrive, and while it starts.
#[actix_web::test]
async fn many_sighups_do_no_harm() {
    let handsup = crate::settings::good();
    let mut served = handsup.start(&["serve"]);
    let base = served.base();
    for _ in 0..200 {
        served.signal(Signal::HUP);
    }
    served.logged(READ_AGAIN, 1).await;
    assert_eq!(RunningProgram::client(&base, None).get("/health/ready").await.status, 200);
    served.interrupt();
    assert_eq!(served.wait_for_exit(Duration::from_secs(20)).code(), Some(0));
}
