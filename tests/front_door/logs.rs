//! The log of the real program: a line a record, in the form that is asked for; and that nothing ends because it, or
//! stdout, can't be written.

use std::{
    fs::OpenOptions,
    io::Read,
    net::SocketAddr,
    process::{Child, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    settings::{complaint, good, refuses},
    support::{Client, DEADLINE, Handsup, Raw, Served, eventually},
};

/// What nobody can write to any more, or not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    /// A device that is full.
    Full,
    /// A pipe whose reader is gone.
    Gone,
    /// A pipe that nobody reads.
    Unread,
}

impl Bad {
    fn stdio(self) -> Stdio {
        match self {
            Self::Full => OpenOptions::new().write(true).open("/dev/full").unwrap().into(),
            Self::Gone | Self::Unread => Stdio::piped(),
        }
    }
}

/// A program that is ended with the test.
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

/// A free place to listen, which no socket that the kernel places by itself can take meanwhile.
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

/// Serves, is asked much while everything is logged, and ends in order.
async fn serves_and_ends(stdout: Bad, stderr: Bad) {
    let place = place();
    let handsup = good().set("server.bind", &place.to_string()).log("trace");
    let mut child = handsup.command(&["serve"]).stdout(stdout.stdio()).stderr(stderr.stdio()).spawn().unwrap();
    // What is dropped has no reader any more.
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
async fn a_stdout_or_stderr_that_cannot_be_written_ends_nothing() {
    for bad in [Bad::Full, Bad::Gone, Bad::Unread] {
        serves_and_ends(bad, bad).await;
    }
}

/// A command that is asked for something says by its exit code that it could not print it.
#[test]
fn a_command_whose_answer_cannot_be_printed_fails_with_one_line() {
    for words in [&["config"][..], &["migrate"], &["token", "--user-id", "1", "--username", "x"]] {
        for bad in [Bad::Full, Bad::Gone] {
            let handsup = good();
            let mut child = handsup.command(words).stdout(bad.stdio()).stderr(Stdio::piped()).spawn().unwrap();
            drop(child.stdout.take());
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            assert_eq!(Running(child).ended(), Some(1), "{words:?}");
            assert!(complaint(&stderr).starts_with("handsup: stdout: "), "{stderr}");
        }
    }
    // Nobody can be told at all.
    let untold = Handsup::new();
    let child = untold.command(&["serve"]).stdout(Bad::Full.stdio()).stderr(Bad::Full.stdio()).spawn();
    assert_eq!(Running(child.unwrap()).ended(), Some(1));
}

/// What stood in a pipe that was read again late: the count of what is missing.
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
    // What comes now brings the count with it.
    answers(&client).await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&running.0), rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.ended(), Some(0));
    let all = reader.join().unwrap();
    let lost = all.lines().find(|line| line.contains("lines of the log were lost"));
    assert!(lost.is_some(), "{} bytes without a count", all.len());
    assert!(all.lines().last().unwrap().ends_with("ended"), "the end of it is there");
}

/// Requests that are none, and everything else that is logged while a node starts, serves and ends.
#[actix_web::test]
async fn every_record_is_one_line_of_json_if_that_is_asked_for() {
    let handsup = good().set("log.format", "json").set("log.level", "trace");
    let mut served = handsup.start(&["serve"]);
    let base = served.base();
    let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    answers(&Served::client(&base, None)).await;
    for garbage in ["\x16\x03\x01 no HTTP \x1b[31m\r\n\r\n", "GET / HTTP/1.1\r\nX: \0\r\n\r\n"] {
        let mut raw = Raw::connect(address);
        raw.write(garbage.as_bytes());
        raw.ends();
    }
    served.interrupt();
    assert_eq!(served.ended(DEADLINE).code(), Some(0));
    let log = served.stderr();
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let keys: Vec<&String> = record.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["level", "message", "target", "time"], "{line}");
        assert!(crate::support::is_instant(&record["time"]), "{line}");
        assert!(["error", "warn", "info", "debug", "trace"].contains(&record["level"].as_str().unwrap()), "{line}");
    }
    assert!(log.contains(&format!("listening on {base}")), "{log}");
}

#[test]
fn what_is_no_level_and_no_format_stops_the_start() {
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

/// As everybody who knows `RUST_LOG` expects: it goes over the setting.
#[actix_web::test]
async fn rust_log_goes_over_the_setting() {
    let handsup = good().set("log.level", "info").log("off");
    let mut quiet = handsup.start(&["serve"]);
    quiet.base();
    quiet.interrupt();
    assert_eq!(quiet.ended(DEADLINE).code(), Some(0));
    assert_eq!(quiet.stderr(), "");
    let handsup = good().set("log.level", "warn,handsup=info");
    let mut loud = handsup.start(&["serve"]);
    loud.base();
    loud.interrupt();
    assert_eq!(loud.ended(DEADLINE).code(), Some(0));
    assert!(loud.stderr().contains("INFO  handsup::cli"), "{}", loud.log());
}
