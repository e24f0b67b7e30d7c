//! Open files: every connection is one. A `session.max` that can't be had stops the start, and clients who take all
//! there are neither hang nor keep the node from its database.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;

use crate::{
    settings::{good, refuses},
    support::{DEADLINE, Handsup, Raw, Served, eventually},
};

/// Few files: so many sockets fit beside what the node needs itself, with two workers.
const FEW: &str = "-n 300";
const FIT: usize = 195;

fn small() -> Handsup {
    good().set("server.workers", "2").ulimit(FEW)
}

#[test]
fn a_session_max_that_open_files_do_not_allow_stops_the_start() {
    refuses(&small(), &["serve"], "session.max: 15000 sockets do not fit");
    let over = small().set("session.max", &(FIT + 1).to_string());
    refuses(&over, &["serve"], "which is enough for 195");
    // More readers need more themselves.
    refuses(&small().set("session.max", &FIT.to_string()).set("database.pool", "9"), &["serve"], "session.max");
    for words in [&["migrate"][..], &["config"], &["token", "--user-id", "1", "--username", "x"]] {
        assert!(small().run(words).status.success(), "{words:?} needs no sockets");
    }
}

/// The limit that holds for a process is often the soft one of a shell, far below what it may have.
#[actix_web::test]
async fn the_soft_limit_of_open_files_is_raised_and_the_log_says_what_fits() {
    let handsup = good().set("session.max", "500").ulimit("-S -n 64");
    let served = handsup.start(&["serve"]);
    let base = served.base();
    let (soft, hard) = served.limit("Max open files");
    assert!(soft == hard && soft > 500, "{soft} of {hard}");
    served.logged("the limit of open files allows session.max up to ", 1).await;
    let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    let visitors: Vec<Raw> = (0..100).map(|_| Raw::connect(address)).collect();
    assert_eq!(Served::client(&base, None).get("/health/ready").await.status, 200);
    drop(visitors);
}

/// All sockets that are promised can be had, whoever else is connected; who is too many is ended at once.
#[actix_web::test]
async fn who_takes_all_files_is_refused_and_costs_nobody_else() {
    let handsup =
        small().set("session.max", "195").set("session.max_per_user", "195").set("limits.requests_per_second", "1000");
    let mut served = handsup.start(&["serve"]);
    let base = served.base();
    let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    let token = handsup.token(&["--user-id", "2", "--username", "kim"]);
    let seller = Served::client(&base, Some(&handsup.token(&["--user-id", "1", "--username", "lee"])));
    let bidder = Served::client(&base, Some(&token));
    let sockets: Vec<Raw> = (0..FIT).map(|_| Raw::socket(address, &token)).collect();
    let body = json!({"title": "camera", "start_price": 1000, "starts_at": "2090-01-01T00:00:00Z"});
    let made = seller.post("/goods/", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    // Those who say nothing take what is left; whoever comes then is not left waiting.
    let mut idle: Vec<Raw> = (0..45).map(|_| Raw::connect(address)).collect();
    assert!(idle.last_mut().unwrap().ends() < Duration::from_secs(3));
    served.logged("a connection is refused", 1).await;
    // Who is connected goes on, and so does the database.
    assert_eq!(seller.put("/goods/1/like", &json!(null)).await.status, 204);
    assert_eq!(seller.get("/goods/1/").await.status, 200);
    // Far more at once than there are files, and all of them go.
    idle.extend((0..400).map(|_| Raw::connect(address)));
    drop(idle);
    let comes_in = || async {
        let client = Served::client(&base, None);
        client.try_send_with(awc::http::Method::GET, "/health/ready", None, &[]).await.ok()
    };
    assert_eq!(eventually("room again", comes_in).await.status, 200);
    assert_eq!(bidder.bid(1, 1000).await.code(), "auction_not_started");
    drop(sockets);
    let log = served.log();
    assert_eq!(log.matches("a connection is refused").count(), 1, "once, not for each: {log}");
    served.interrupt();
    assert_eq!(served.ended(DEADLINE).code(), Some(0));
}

/// The demo needs nothing, so it makes do with what there is.
#[test]
fn the_demo_makes_do_with_few_open_files() {
    let handsup = Handsup::new().ulimit("-n 200");
    let mut demo = handsup.start(&["demo"]);
    demo.line_with("listening on http://127.0.0.1:", DEADLINE);
    demo.interrupt();
    assert_eq!(demo.ended(DEADLINE).code(), Some(0));
}
