//! Every connection is an open file. A `session.max` that does not fit stops the start, and clients that take all files
//! are refused and do not keep the node from its database.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;

use crate::{
    settings::{good, refuses},
    support::{DEADLINE, Handsup, Raw, RunningProgram, eventually, eventually_within},
};

/// The limit of open files. With two workers, so many sockets fit beside what the node needs itself.
const OPEN_FILES_LIMIT: &str = "-n 300";
const FITTING_SESSIONS: usize = 195;

fn small() -> Handsup {
    good().set("server.workers", "2").ulimit(OPEN_FILES_LIMIT)
}

#[test]
fn a_session_max_over_the_limit_of_open_files_stops_the_start() {
    refuses(&small(), &["serve"], "session.max: 15000 sockets do not fit");
    let over = small().set("session.max", &(FITTING_SESSIONS + 1).to_string());
    refuses(&over, &["serve"], "which is enough for 195");
    // More readers need more files themselves.
    refuses(
        &small().set("session.max", &FITTING_SESSIONS.to_string()).set("database.pool", "9"),
        &["serve"],
        "session.max",
    );
    for words in [&["migrate"][..], &["config"], &["token", "--user-id", "1", "--username", "x"]] {
        assert!(small().run(words).status.success(), "{words:?} needs no sockets");
    }
}

/// The limit of a process is often the shell's soft one, far below the hard one.
#[actix_web::test]
async fn the_soft_limit_of_open_files_is_raised_and_the_log_says_what_fits() {
    let handsup = good().set("session.max", "500").ulimit("-S -n 64");
    let served = handsup.start(&["serve"]);
    let base = served.base();
    let (soft, hard) = served.limit("Max open files");
    assert!(soft == hard && soft > 500, "{soft} of {hard}");
    served.logged("the limit of open files allows this many sockets session_max=", 1).await;
    let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    let visitors: Vec<Raw> = (0..100).map(|_| Raw::connect(address)).collect();
    assert_eq!(RunningProgram::client(&base, None).get("/health/ready").await.status, 200);
    drop(visitors);
}

/// All promised sockets are available, whoever else is connected. A connection over the limit is ended at once.
#[actix_web::test]
async fn clients_that_take_all_files_are_refused_and_cost_nobody_else() {
    let handsup =
        small().set("session.max", "195").set("session.max_per_user", "195").set("limits.requests_per_second", "1000");
    let mut served = handsup.start(&["serve"]);
    let base = served.base();
    let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    let token = handsup.token(&["--user-id", "2", "--username", "kim"]);
    let seller = RunningProgram::client(&base, Some(&handsup.token(&["--user-id", "1", "--username", "lee"])));
    let bidder = RunningProgram::client(&base, Some(&token));
    let sockets: Vec<Raw> = (0..FITTING_SESSIONS).map(|_| Raw::socket(address, &token)).collect();
    let body = json!({"title": "camera", "start_price": 1000, "starts_at": "2090-01-01T00:00:00Z"});
    let made = seller.post("/goods/", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    // Idle connections take the remaining files. The others are ended at once; which ones is open, because the workers
    // take connections in any order.
    let mut idle: Vec<Raw> = (0..45).map(|_| Raw::connect(address)).collect();
    let one_is_refused = || async { idle.iter().any(Raw::has_ended).then_some(()) };
    eventually_within(Duration::from_secs(3), "a connection is refused", one_is_refused).await;
    served.logged("a connection is refused", 1).await;
    // Existing connections still work, and so does the database.
    // Without a body: a connection whose body comes after the answer is closed.
    seller.like(1).await;
    assert_eq!(seller.get("/goods/1/").await.status, 200);
    // Far more at once than there are files, and all of them end.
    idle.extend((0..400).map(|_| Raw::connect(address)));
    drop(idle);
    let comes_in = || async {
        let client = RunningProgram::client(&base, None);
        client.try_send_with(awc::http::Method::GET, "/health/ready", None, &[]).await.ok()
    };
    assert_eq!(eventually("room again", comes_in).await.status, 200);
    assert_eq!(bidder.bid(1, 1000).await.code(), "auction_not_started");
    drop(sockets);
    let log = served.log();
    assert_eq!(log.matches("a connection is refused").count(), 1, "once, not for each: {log}");
    served.interrupt();
    assert_eq!(served.wait_for_exit(DEADLINE).code(), Some(0));
}

/// The demo must run anywhere, so it manages with the files there are.
#[test]
fn the_demo_runs_with_few_open_files() {
    let handsup = Handsup::new().ulimit("-n 200");
    let mut demo = handsup.start(&["demo"]);
    demo.line_with("listening on http://127.0.0.1:", DEADLINE);
    demo.interrupt();
    assert_eq!(demo.wait_for_exit(DEADLINE).code(), Some(0));
}
