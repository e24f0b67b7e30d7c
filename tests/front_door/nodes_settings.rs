//! `bus.url`: which values are refused, what of it is never shown, and that nodes with and without a bus do not mix.

use std::time::Duration;

use crate::{
    settings::{complaint, good, refuses},
    support::{Fleet, Handsup, Process, RedisServer, can_run_several_nodes, database, eventually},
};

const PASSWORD: &str = "hunter-2-hunter";

#[test]
fn a_bus_needs_redis_and_a_database_that_nodes_can_share() {
    let postgres = || good().set("database.url", "postgres://nobody@127.0.0.1:1/none");
    for bad in [
        "redis",
        "http://127.0.0.1:6379",
        "rediss://127.0.0.1:6379",
        "redis+unix:///tmp/socket",
        "unix:///tmp/socket",
        "valkey://127.0.0.1",
        "redis://",
        "redis:///0",
        "redis://127.0.0.1:notaport",
        "127.0.0.1:6379",
    ] {
        for words in [&["serve"][..], &["config"]] {
            refuses(&postgres().set("bus.url", bad), words, "bus.url");
        }
    }
    for words in [&["serve"][..], &["config"]] {
        refuses(&good().set("bus.url", "redis://127.0.0.1:6379"), words, "bus.url");
    }
}

#[test]
fn the_password_of_the_bus_is_not_shown() {
    let postgres = || good().set("database.url", "postgres://nobody@127.0.0.1:1/none");
    let with_password = |url: &str| postgres().set("bus.url", &url.replace("PASSWORD", PASSWORD));
    for url in [
        "redis://:PASSWORD@127.0.0.1:6379",
        "redis://user:PASSWORD@127.0.0.1:6379/3",
        "redis://user:PASSWORD@127.0.0.1",
        "redis://127.0.0.1/?password=PASSWORD",
    ] {
        let shown = with_password(url).run(&["config"]);
        let text = format!("{}{}", String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
        assert!(!text.contains(PASSWORD), "{text}");
        if shown.status.success() {
            assert!(text.contains("redis://"), "{text}");
        }
    }
    for bad in [
        "http://:PASSWORD@127.0.0.1",
        "redis://:PASSWORD@127.0.0.1:port",
        "redis://user:PASS/PASSWORD@127.0.0.1",
        "redis://user:PASSWORD@",
        "redis://user:PASSWORD#@127.0.0.1",
        "redis://user:PASSWORD?@127.0.0.1",
    ] {
        for words in [&["serve"][..], &["config"]] {
            let ran = with_password(bad).run(words);
            let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
            assert!(!ran.status.success(), "{bad}");
            assert!(complaint(&stderr).contains("bus.url"), "{stderr}");
            let said = stderr + &String::from_utf8_lossy(&ran.stdout);
            assert!(!said.contains(PASSWORD), "{said}");
        }
    }
}

/// Not while the service runs, nor when Redis refuses the password, nor when Redis is down.
#[actix_web::test]
async fn the_password_of_the_bus_is_in_no_log() {
    if !can_run_several_nodes() {
        return;
    }
    let mut redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let url = redis.url().replace("redis://", &format!("redis://user:{PASSWORD}@"));
    let handsup = Handsup::new()
        .set("auth.jwt_secret", crate::support::SECRET)
        .set("server.bind", "127.0.0.1:0")
        .set("database.url", &database::url(folder.path()))
        .set("bus.url", &url)
        .log("trace");
    let mut served = handsup.start(&["serve"]);
    let base = served.base();
    let client = crate::support::RunningProgram::client(&base, None);
    eventually("it serves", || async { (client.get("/health/ready").await.status == 200).then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    redis.kill();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    served.interrupt();
    assert!(served.wait_for_exit(Duration::from_secs(15)).success());
    let said = served.rest_of_stdout() + &served.stderr();
    assert!(said.contains("no connection to Redis"), "it was tried");
    assert!(!said.contains(PASSWORD), "it is shown");
}

/// Asserts that a program that cannot serve ends with one line.
async fn ends_with_reason(mut process: Process, what: &str) {
    let exit = process.exit_within(Duration::from_secs(20)).await;
    assert!(exit.code().is_some_and(|code| code != 0), "{exit}");
    let said = process.stderr();
    let said = complaint(&said);
    assert!(said.contains("database.url") && said.contains(what), "{said}");
}

#[actix_web::test]
async fn nodes_with_and_without_a_bus_refuse_each_other() {
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::start(1, &[]).await;
    ends_with_reason(Process::spawn(&fleet.database()), "in use").await;
    assert_eq!(fleet.visitor(0).unwrap().get("/health/ready").await.status, 200);
    fleet.kill(0);
    let alone = Process::start(&fleet.database());
    let url = fleet.redis.borrow().url();
    ends_with_reason(Process::spawn_with(&fleet.database(), &[("bus.url", &url)]), "in use").await;
    assert_eq!(alone.visitor().get("/health/ready").await.status, 200);
    alone.kill();
    fleet.start_at(0).await;
    assert_eq!(fleet.visitor(0).unwrap().get("/health/ready").await.status, 200);
}
