//! What the log has about requests: their ids, which their answers have too; one line for each on demand; slow ones.

use std::{net::SocketAddr, time::Duration};

use awc::http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    settings::good,
    support::{Answer, Client, DEADLINE, Handsup, Raw, RunningProgram, SECRET, TestNode, goods_body},
};

const ORIGIN: &str = "https://evil.example";

fn id_of(answer: &Answer) -> String {
    let mut ids = answer.headers.get_all("x-request-id");
    let id = ids.next().unwrap_or_else(|| panic!("no id: {} {:?}", answer.status, answer.headers));
    assert!(ids.next().is_none(), "one id");
    id.to_str().unwrap().to_owned()
}

/// The ids that a raw answer has.
fn ids_in(head: &str) -> Vec<String> {
    let header = |line: &str| line.to_ascii_lowercase().strip_prefix("x-request-id: ").map(str::to_owned);
    head.lines().filter_map(header).collect()
}

fn is_made(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Method, path, headers, and the status of the answer.
type Request<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], u16);

#[actix_web::test]
async fn every_answer_has_the_id_that_its_request_had() {
    let node = TestNode::start();
    let (user, visitor) = (node.user(2), node.visitor());
    let preflight = [("Origin", ORIGIN), ("Access-Control-Request-Method", "POST")];
    let requests: [Request<'_>; 8] = [
        (Method::GET, "/goods/", &[], 200),
        (Method::HEAD, "/goods/", &[], 200),
        (Method::GET, "/no/such/path", &[], 404),
        (Method::GET, "/goods/?page=0", &[], 422),
        (Method::PATCH, "/goods/", &[], 405),
        (Method::GET, "/admin/health", &[], 403),
        (Method::OPTIONS, "/goods/", &preflight, 403),
        (Method::GET, "/alarms", &[("Authorization", "Bearer no token")], 401),
    ];
    for (method, path, headers, status) in requests {
        let client = if status == 401 { &visitor } else { &user };
        let given = [headers, &[("X-Request-Id", "given-1")]].concat();
        let answer = client.send_with(method.clone(), path, None, &given).await;
        assert_eq!((answer.status, id_of(&answer).as_str()), (status, "given-1"), "{method} {path}");
        let answer = client.send_with(method.clone(), path, None, headers).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(is_made(&id_of(&answer)), "{method} {path}: {:?}", answer.headers);
    }
    let bad = user.send_with(Method::POST, "/goods/", Some(b"{".to_vec()), &[("X-Request-Id", "given-2")]).await;
    assert_eq!((bad.status, id_of(&bad).as_str()), (400, "given-2"));
    for (token, status) in [(user.token(), 101), ("none", 401)] {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("X-Request-Id", "given-3")];
        let answer = Raw::connect(node.address()).handshake("/ws/alarms/", &headers);
        assert_eq!((answer.status, ids_in(&answer.head)), (status, vec!["given-3".to_owned()]));
    }
}

#[actix_web::test]
async fn an_id_that_is_long_doubled_or_not_visible_is_replaced() {
    let node = TestNode::start();
    let long = "x".repeat(65);
    let of = |headers: &str| {
        let mut raw = Raw::connect(node.address());
        raw.write(format!("GET /goods/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
        let answer = raw.answer().expect("an answer");
        assert_eq!(answer.status, 200, "{headers}");
        ids_in(&answer.head)
    };
    assert_eq!(of(&format!("X-Request-Id: {}\r\n", &long[1..])), [&long[1..]]);
    let lines = |ids: &[&str]| ids.iter().map(|id| format!("X-Request-Id: {id}\r\n")).collect::<String>();
    for sent in [lines(&[&long]), lines(&["one", "two"]), lines(&["a b"]), lines(&[""]), lines(&["에이"])] {
        let ids = of(&sent);
        assert!(ids.len() == 1 && is_made(&ids[0]), "{sent}: {ids:?}");
    }
    // One that is no header value at all makes the request malformed, and its refusal has an id, too.
    let mut raw = Raw::connect(node.address());
    raw.write(b"GET /goods/ HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\0b\r\n\r\n");
    let answer = raw.answer().expect("an answer");
    assert_eq!(answer.status, 400);
    assert!(is_made(&ids_in(&answer.head)[0]), "{}", answer.head);
}

/// A server of the real program, and its clients.
struct Served {
    handsup: Handsup,
    program: RunningProgram,
    base: String,
}

impl Served {
    fn start(handsup: Handsup) -> Self {
        let program = handsup.start(&["serve"]);
        let base = program.base();
        Self { handsup, program, base }
    }

    fn token(&self, id: i64) -> String {
        self.handsup.token(&["--user-id", &id.to_string(), "--username", &format!("secret-name-{id}")])
    }

    fn user(&self, id: i64) -> Client {
        RunningProgram::client(&self.base, Some(&self.token(id)))
    }

    fn address(&self) -> SocketAddr {
        self.base.trim_start_matches("http://").parse().unwrap()
    }

    /// The whole log, after the end.
    fn end(mut self) -> String {
        self.program.interrupt();
        assert_eq!(self.program.wait_for_exit(DEADLINE).code(), Some(0));
        self.program.stderr()
    }
}

/// The access line of the request with this id, as JSON.
fn access_line(log: &str, id: &str) -> Value {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")));
    let mut lines: Vec<Value> =
        lines.filter(|line| line["target"] == "handsup::access" && line["request"] == id).collect();
    assert_eq!(lines.len(), 1, "{id}: {log}");
    lines.remove(0)
}

#[actix_web::test]
async fn log_access_logs_each_request_once_with_its_fields_and_no_token() {
    let served = Served::start(good().set("log.access", "true").set("log.format", "json").set("log.level", "warn"));
    let (user, visitor) = (served.user(7), RunningProgram::client(&served.base, None));
    let token = user.token().to_owned();
    let body = serde_json::to_vec(&goods_body(&json!({"starts_at": "2090-01-01T00:00:00Z"}))).unwrap();
    let with = |id: &'static str| [("X-Request-Id", id)];
    assert_eq!(user.send_with(Method::POST, "/goods/", Some(body), &with("made")).await.status, 201);
    let bid = br#"{"price":1000}"#.to_vec();
    assert_eq!(served.user(8).send_with(Method::POST, "/goods/1/bids", Some(bid), &with("early")).await.status, 409);
    assert_eq!(visitor.send_with(Method::GET, "/goods/?search=secret", None, &with("list")).await.status, 200);
    assert_eq!(visitor.send_with(Method::GET, "/goods/user/7/", None, &with("of-user")).await.status, 200);
    let path = format!("/x/{token}/?token={token}");
    assert_eq!(visitor.send_with(Method::GET, &path, None, &with("lost")).await.status, 404);
    let path = format!("/ws/auction/1/?token={token}");
    assert_eq!(Raw::connect(served.address()).handshake(&path, &with("room")).status, 101);
    let mut raw = Raw::connect(served.address());
    raw.write(b"GARBAGE\r\n\r\n");
    let malformed = ids_in(&raw.answer().unwrap().head).remove(0);
    let log = served.end();
    let cases = [
        ("made", json!({"method": "POST", "route": "/goods", "path": "/goods", "user": 7, "code": 201})),
        (
            "early",
            json!({
                "method": "POST", "route": "/goods/{id}/bids", "path": "/goods/1/bids", "user": 8, "goods": 1, "code": 409,
            }),
        ),
        ("list", json!({"method": "GET", "route": "/goods", "path": "/goods", "code": 200})),
        ("of-user", json!({"method": "GET", "route": "/goods/user/{id}", "path": "/goods/user/7", "code": 200})),
        ("lost", json!({"method": "GET", "path": "/x/…", "code": 404})),
        (
            "room",
            json!({
                "method": "GET", "route": "/ws/auction/{id}", "path": "/ws/auction/1", "user": 7, "goods": 1, "code": 101,
            }),
        ),
        (&malformed, json!({"code": 400})),
    ];
    for (id, mut expected) in cases {
        let mut line = access_line(&log, id);
        let took = line.as_object_mut().unwrap().remove("duration_ms");
        assert!(id == malformed || took.is_some_and(|took| took.as_f64().unwrap() > 0.0), "{line}");
        assert!(crate::support::is_instant(&line.as_object_mut().unwrap().remove("time").unwrap()), "{line}");
        let own = json!({
            "level": "info", "target": "handsup::access", "message": "request", "request": id, "address": "127.0.0.1",
        });
        expected.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        assert_eq!(line, expected);
    }
    for part in token.split('.').skip(1).chain(["secret"]) {
        assert!(!log.contains(part), "{log}");
    }
}

#[actix_web::test]
async fn log_access_is_off_by_default_and_sighup_switches_it_on() {
    let settings = |more: &str| format!("[auth]\njwt_secret = \"{SECRET}\"\n{more}");
    let handsup = Handsup::new().set("server.bind", "127.0.0.1:0").file("config/local.toml", &settings(""));
    let served = Served::start(handsup);
    let visitor = RunningProgram::client(&served.base, None);
    let with = |id: &'static str| [("X-Request-Id", id)];
    assert_eq!(visitor.send_with(Method::GET, "/goods/", None, &with("before")).await.status, 200);
    for (times, more, id) in [(1, "[log]\naccess = true\n", "within"), (2, "", "after")] {
        served.handsup.write("config/local.toml", &settings(more));
        served.program.signal(Signal::HUP);
        let log = served.program.logged("SIGHUP: settings reloaded", times).await;
        assert_eq!(log.matches("changed=log.access").count(), times, "{log}");
        assert_eq!(visitor.send_with(Method::GET, "/goods/", None, &with(id)).await.status, 200);
    }
    let log = served.end();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("handsup::access] ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let part = "] request request=within method=GET route=/goods path=/goods code=200 duration_ms=";
    assert!(lines[0].contains(part) && lines[0].ends_with(" address=127.0.0.1"), "{}", lines[0]);
}

/// Slow is what the service takes long for, not a client that sends its body slowly.
#[actix_web::test]
async fn a_body_that_comes_slowly_does_not_make_a_request_slow() {
    let served = Served::start(good().set("log.access", "true"));
    let user = served.user(2);
    assert_eq!(user.bid(1, 1000).await.status, 404);
    let mut raw = Raw::connect(served.address());
    let head = "POST /goods/1/bids HTTP/1.1\r\nHost: x\r\nX-Request-Id: held\r\nContent-Length: 14\r\n";
    raw.write(format!("{head}Authorization: Bearer {}\r\n\r\n{{", user.token()).as_bytes());
    // Longer than a slow request.
    tokio::time::sleep(Duration::from_millis(2000)).await;
    raw.write(b"\"price\":1000}");
    assert_eq!(raw.answer().expect("an answer").status, 404);
    let log = served.end();
    let line = log.lines().find(|line| line.contains("] request request=held ")).expect("its access line");
    let took = line.split("code=404 duration_ms=").nth(1).unwrap().split(' ').next().unwrap();
    assert!(took.parse::<f64>().unwrap() >= 1000.0, "{line}");
    let is_slow = |line: &str| line.contains("a request was slow") && line.contains("request=held");
    assert!(!log.lines().any(is_slow), "{log}");
}
