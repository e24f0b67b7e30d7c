//! The Redis that tests start has the properties that they rely on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/redis.rs"]
mod redis;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use self::redis::{RedisServer, redis_is_here};

fn connection(server: &RedisServer) -> TcpStream {
    let url = server.url();
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    tcp
}

/// Sends a command; returns this many bytes of the answer.
fn ask(tcp: &mut TcpStream, command: &str, bytes: usize) -> String {
    tcp.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut answer = vec![0; bytes];
    tcp.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn each_test_has_its_own_redis_and_a_kill_loses_its_data() {
    if !redis_is_here() {
        return;
    }
    let (mut server, other) = (RedisServer::start(), RedisServer::start());
    assert_ne!(server.url(), other.url());
    let mut before = connection(&server);
    assert_eq!(ask(&mut before, "SET a 1", 5), "+OK\r\n");
    assert_eq!(ask(&mut connection(&other), "EXISTS a", 4), ":0\r\n");
    let url = server.url();
    server.kill();
    let end = before.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    server.start_again();
    assert_eq!(server.url(), url);
    assert_eq!(ask(&mut connection(&server), "EXISTS a", 4), ":0\r\n");
}

#[test]
fn a_suspended_redis_accepts_connections_and_answers_when_it_is_resumed() {
    if !redis_is_here() {
        return;
    }
    let server = RedisServer::start();
    let mut early = connection(&server);
    assert_eq!(ask(&mut early, "PING", 7), "+PONG\r\n");
    server.suspend();
    let mut late = connection(&server);
    for tcp in [&mut early, &mut late] {
        tcp.write_all(b"PING\r\n").unwrap();
        tcp.set_nonblocking(true).unwrap();
        assert_eq!(tcp.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        tcp.set_nonblocking(false).unwrap();
    }
    server.resume();
    for mut tcp in [early, late] {
        let mut answer = [0; 7];
        tcp.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
    }
}
