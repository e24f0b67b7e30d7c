//! `GET /alarms/stream`: the same alarms as server-sent events.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use handsup::test_support::domain::Timestamp;
use serde_json::{Value, json};

use crate::support::{DEADLINE, ManualTime, SilentTime, TestNode, eventually, outbid_times};

/// The fields of an event, in order.
type Event = Vec<(String, String)>;

/// An event stream read by hand on the test's own thread.
pub struct Stream(BufReader<TcpStream>);

impl Stream {
    pub fn open(node: &TestNode, token: &str, path: &str, headers: &str) -> Self {
        let mut tcp = TcpStream::connect(node.address()).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        tcp.write_all(request.as_bytes()).unwrap();
        let mut stream = Self(BufReader::new(tcp));
        let head: Vec<String> = std::iter::from_fn(|| stream.line().filter(|line| !line.is_empty())).collect();
        assert!(head[0].contains(" 200 "), "{head:?}");
        assert!(head.iter().any(|line| line.eq_ignore_ascii_case("content-type: text/event-stream")), "{head:?}");
        stream
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).expect("a line in time");
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next event; chunk sizes and comments are skipped. `None` at the end.
    pub fn next(&mut self) -> Option<Event> {
        let mut event = Event::new();
        loop {
            // The chunk without bytes is the last one.
            let line = self.line().filter(|line| line != "0")?;
            match line.split_once(": ") {
                Some((field, value)) if !field.is_empty() => event.push((field.to_owned(), value.to_owned())),
                _ if line.is_empty() && !event.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    /// Whether the next event is the close with this code, and the last one.
    pub fn is_closed_with(&mut self, code: &str) -> bool {
        let goodbye = self.next().expect("an event");
        goodbye[0] == ("event".to_owned(), "close".to_owned()) && goodbye[1].1.contains(code) && self.next().is_none()
    }

    pub fn data(&mut self) -> Value {
        let event = self.next().expect("an event");
        let (_, data) = event.iter().find(|(field, _)| field == "data").expect("data");
        serde_json::from_str(data).unwrap()
    }

    /// The id of the next alarm. Asserts that its event has the same id.
    pub fn alarm(&mut self) -> i64 {
        let event = self.next().expect("an event");
        assert_eq!(event[0].0, "id", "{event:?}");
        let alarm: Value = serde_json::from_str(&event[1].1).unwrap();
        assert_eq!(alarm["id"].to_string(), event[0].1);
        alarm["id"].as_i64().unwrap()
    }
}

#[actix_web::test]
async fn backlog_and_live_alarms_come_as_events_and_a_last_event_id_resumes() {
    let node = TestNode::start();
    let user = node.user(2);
    outbid_times(&node, 250).await;
    let mut stream = Stream::open(&node, user.token(), "/alarms/stream?since=0", "");
    assert_eq!(stream.data()["response_type"], "hello");
    let seen: Vec<i64> = (0..250).map(|_| stream.alarm()).collect();
    outbid_times(&node, 1).await;
    let live = stream.alarm();
    let mut all = user.inbox().await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!(all.pop(), Some(live));
    assert_eq!(seen, all);
    let resumed = format!("Last-Event-ID: {}\r\n", seen[248]);
    let mut again = Stream::open(&node, user.token(), "/alarms/stream?since=0", &resumed);
    assert_eq!(again.data()["last_id"], live);
    assert_eq!([again.alarm(), again.alarm()], [seen[249], live]);
    // Alarms read elsewhere are reported here too.
    assert_eq!(user.post("/alarms/read", &json!({"up_to": live})).await.status, 200);
    assert_eq!(again.data(), json!({"response_type": "unread", "unread": 0, "last_id": live}));
}

#[actix_web::test]
async fn an_event_stream_confirms_no_receipt() {
    let node = TestNode::start();
    outbid_times(&node, 2).await;
    let user = node.user(2);
    for _ in 0..2 {
        let mut stream = Stream::open(&node, user.token(), "/alarms/stream", "");
        assert_eq!([stream.alarm(), stream.alarm()], [1, 2]);
    }
}

#[actix_web::test]
async fn a_stream_ends_with_its_token_and_frees_its_place() {
    let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |_| {});
    let mut stream = Stream::open(&node, node.user(2).token(), "/alarms/stream?since=0", "");
    assert_eq!(stream.data()["response_type"], "hello");
    time.advance_ms(3_600_000);
    let goodbye = stream.next().unwrap();
    assert_eq!(goodbye[0], ("event".to_owned(), "close".to_owned()));
    assert!(goodbye[1].1.contains("4401"), "{goodbye:?}");
    assert_eq!(stream.next(), None);
    let admin = node.admin();
    eventually("the place is free", || async {
        (admin.get("/admin/health").await.body["checks"]["sessions"]["sessions"] == 0).then_some(())
    })
    .await;
}

/// No timer fires, as when a machine's clock is set forward, but each heartbeat checks the clock.
#[actix_web::test]
async fn sessions_of_expired_tokens_end_at_the_next_heartbeat_after_the_clock_is_set_forward() {
    let time = SilentTime::at(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap());
    let node = TestNode::with_time(time.clone(), |settings| {
        settings.session.heartbeat_s = 1;
        settings.session.timeout_s = 60;
    });
    let user = node.user(2);
    let goods = node.goods(1, 3_600_000, 600).await;
    let mut alarms = user.socket_since(0).await;
    alarms.expect_frame("hello").await;
    let mut room = user.room(goods).await;
    room.expect_frame("enter").await;
    let mut stream = Stream::open(&node, user.token(), "/alarms/stream?since=0", "");
    assert_eq!(stream.data()["response_type"], "hello");
    time.set(node.now().plus_ms(3_600_000));
    assert_eq!((alarms.close_code().await, room.close_code().await), (4401, 4401));
    assert!(stream.is_closed_with("4401"));
}

/// A refusal would end the page's `EventSource` for good.
#[actix_web::test]
async fn a_last_event_id_that_is_not_an_id_counts_as_none() {
    let node = TestNode::start();
    let user = node.user(2);
    outbid_times(&node, 2).await;
    let ids: Vec<i64> = user.inbox().await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect();
    for garbage in ["garbage", "", "-1", "1.5", "\u{20ac}", "0x10", "null"] {
        let header = format!("Last-Event-ID: {garbage}\r\n");
        let mut stream = Stream::open(&node, user.token(), "/alarms/stream", &header);
        // Unreceived alarms come, as without the header, and no greeting.
        assert_eq!([stream.alarm(), stream.alarm()], ids[..], "{garbage}");
        let path = format!("/alarms/stream?since={}", ids[0]);
        let mut stream = Stream::open(&node, user.token(), &path, &header);
        assert_eq!(stream.data()["response_type"], "hello", "{garbage}");
        assert_eq!(stream.alarm(), ids[1], "the page's own `since` counts");
    }
    let wrong = user.get("/alarms/stream?since=garbage").await;
    assert_eq!((wrong.status, &wrong.body["field"]), (422, &json!("since")), "the page's own `since` is checked");
}

#[actix_web::test]
async fn streams_count_as_sockets_and_need_a_token() {
    let node = TestNode::with(|settings| settings.session.max_per_user = 1);
    assert_eq!(node.visitor().get("/alarms/stream").await.code(), "unauthorized");
    let user = node.user(2);
    let mut socket = user.socket_since(0).await;
    socket.expect_frame("hello").await;
    // After this an `EventSource` does not reconnect; and it closes no other session.
    let refused = user.get("/alarms/stream").await;
    assert_eq!((refused.status, refused.text.as_str()), (204, ""));
    socket.send_json(&json!({"type": "ping"})).await;
    socket.expect_frame("pong").await;
}

/// However the client ends it, and although no heartbeat would notice within an hour.
#[actix_web::test]
async fn a_stream_whose_client_is_gone_frees_its_place_at_once() {
    let node = TestNode::with(|settings| {
        settings.session.heartbeat_s = 3600;
        settings.session.timeout_s = 7200;
    });
    let user = node.user(2);
    let open = |headers: &str| Stream::open(&node, user.token(), "/alarms/stream?since=0", headers);
    let admins = node.admins();
    let all_are_free = || async {
        eventually("the places are free", || async {
            let figures = crate::support::session_figures(&admins).await;
            (figures["sessions"] == 0).then_some(())
        })
        .await;
    };
    for headers in ["", "Connection: upgrade\r\nUpgrade: websocket\r\n"] {
        let mut read = open(headers);
        assert_eq!(read.data()["response_type"], "hello");
        drop(read);
        all_are_free().await;
        // Unread bytes turn its end into a reset.
        drop(open(headers));
        all_are_free().await;
        let half = open(headers);
        half.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        all_are_free().await;
        drop(half);
    }
}

#[actix_web::test]
async fn a_user_who_keeps_reloading_a_page_with_a_stream_is_not_locked_out() {
    let node = TestNode::start();
    let user = node.user(2);
    for _ in 0..40 {
        // The node may not have noticed yet that the one before is gone.
        let again = eventually("a stream", || async {
            let mut raw = crate::support::Raw::connect(node.address());
            raw.write(
                format!("GET /alarms/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", user.token())
                    .as_bytes(),
            );
            (raw.exactly(12).as_deref() == Some(b"HTTP/1.1 200")).then_some(raw)
        })
        .await;
        drop(again);
    }
    user.socket_since(0).await.expect_frame("hello").await;
}
