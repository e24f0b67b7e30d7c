//! The file of the database is deleted, replaced, moved or cut while the service runs: it answers nothing that a
//! restart would not find, and a file that was only moved away is taken up again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Answer, Client, Process, check_answered, check_history, database, eventually, eventually_within, goods_body,
};

/// How long the service may take to notice, with some room.
const DETECTION_LIMIT: Duration = Duration::from_secs(2);

/// A running service whose database is in a folder of its own, with live goods that have bids.
struct Service {
    folder: TempDir,
    process: Process,
    goods: i64,
}

impl Service {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let process = Process::start(&folder.path().join("data/x.db"));
        let body = goods_body(&json!({"starts_at": SystemTime.now()}));
        let goods = process.user(1).retrying().post("/goods/", &body).await.body["id"].as_i64().unwrap();
        let service = Self { folder, process, goods };
        for (user, price) in [(2, 1000), (3, 2000)] {
            assert_eq!(service.bid(user, price).await.status, 201);
        }
        // The service knows this admin from here on.
        assert_eq!(service.process.admin().get("/admin/health").await.status, 200);
        service
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("data/x.db")
    }

    /// A path beside the folder of the database.
    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn bid(&self, user: i64, price: i64) -> Answer {
        self.process.user(user).bid(self.goods, price).await
    }

    /// Asserts that every request is refused.
    async fn is_lost(&self, how: &str) {
        for price in 3000..3003 {
            is_refused(&self.bid(2, price).await, how);
        }
        // Bids are not refused from memory either.
        is_refused(&self.bid(2, 1).await, how);
        let visitor = self.process.visitor();
        let poll = || async { (visitor.get("/health/ready").await.status == 503).then_some(()) };
        eventually_within(DETECTION_LIMIT, &format!("{how}: not ready"), poll).await;
        let page = format!("/goods/{}/", self.goods);
        let poll = || async { (visitor.get(&page).await.status == 503).then_some(()) };
        eventually_within(DETECTION_LIMIT, &format!("{how}: nothing is read"), poll).await;
        let health = self.process.admin().get("/admin/health").await;
        assert_eq!(health.status, 503, "{how}: {}", health.text);
        assert_eq!(health.body["checks"]["ledger"]["status"], "fail", "{how}: {}", health.text);
        assert_eq!(health.body["checks"]["database"]["status"], "fail", "{how}: {}", health.text);
        assert_eq!(visitor.get("/health/live").await.status, 200, "{how}");
        // The log has a thread of its own, so its line may come later.
        let is_about = |line: &str| line.contains("the database is lost") && line.contains("x.db error=");
        let said = || async { Some(self.process.stderr()).filter(|said| said.lines().any(is_about)) };
        let said = eventually_within(DETECTION_LIMIT, "the line", said).await;
        assert_eq!(said.lines().filter(|line| is_about(line)).count(), 1, "{how}: {said}");
    }
}

fn is_refused(answer: &Answer, how: &str) {
    assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{how}: {}", answer.text);
    assert_eq!(answer.body["outcome"], "not_stored", "{how}");
}

fn cut(file: &Path, bytes: u64) {
    fs::File::options().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

fn wal(file: &Path) -> PathBuf {
    file.with_extension("db-wal")
}

/// The bids on the goods after a restart with the files as they are now.
async fn after_a_restart(service: Service) -> Vec<Value> {
    let Service { folder, process, goods } = service;
    process.kill();
    let process = Process::start(&folder.path().join("data/x.db"));
    process.visitor().history(goods).await
}

/// A change of the files behind the service's back.
type Spoil = fn(&Service);

#[actix_web::test]
async fn a_service_whose_file_is_gone_replaced_or_cut_refuses_everything() {
    if !database::on_sqlite_only() {
        return;
    }
    let ways: [(&str, Spoil); 11] = [
        ("deleted", |service| fs::remove_file(service.file()).unwrap()),
        ("deleted with its folder", |service| fs::remove_dir_all(service.file().parent().unwrap()).unwrap()),
        ("moved", |service| fs::rename(service.file(), service.beside("y.db")).unwrap()),
        ("moved with its folder", |service| {
            fs::rename(service.file().parent().unwrap(), service.beside("other")).unwrap();
        }),
        ("replaced by another", |service| fs::rename(service.beside("backup.db"), service.file()).unwrap()),
        ("overwritten by an earlier state", |service| {
            fs::copy(service.beside("backup.db"), service.file()).unwrap();
        }),
        ("overwritten by something else", |service| fs::write(service.file(), "nothing".repeat(100_000)).unwrap()),
        ("emptied", |service| cut(&service.file(), 0)),
        ("cut", |service| {
            // Its pages are in the WAL until a checkpoint writes them into the file.
            database::run(&service.file(), "PRAGMA wal_checkpoint");
            cut(&service.file(), 8192);
        }),
        ("without its WAL", |service| fs::remove_file(wal(&service.file())).unwrap()),
        ("with a WAL that was emptied", |service| cut(&wal(&service.file()), 0)),
    ];
    for (how, spoil) in ways {
        let service = Service::start().await;
        let backup = format!("VACUUM INTO '{}'", service.beside("backup.db").display());
        database::run(&service.file(), &backup);
        assert_eq!(service.bid(2, 2500).await.status, 201);
        spoil(&service);
        service.is_lost(how).await;
    }
}

/// Even without any bid or health request.
#[actix_web::test]
async fn a_reader_gets_nothing_from_a_database_that_is_gone() {
    if !database::on_sqlite_only() {
        return;
    }
    let service = Service::start().await;
    fs::remove_file(service.file()).unwrap();
    let (visitor, page) = (service.process.visitor(), format!("/goods/{}/", service.goods));
    let poll = || async { (visitor.get(&page).await.status == 503).then_some(()) };
    eventually_within(DETECTION_LIMIT, "nothing is read", poll).await;
}

/// Another program that keeps to SQLite's rules does no harm: it reads, writes, and empties the WAL.
#[actix_web::test]
async fn another_program_that_keeps_the_engines_rules_loses_nothing() {
    if !database::on_sqlite_only() {
        return;
    }
    let service = Service::start().await;
    let by_the_rules = [
        "PRAGMA wal_checkpoint",
        "UPDATE users SET rating_score = 7 WHERE id = 2",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "UPDATE users SET rating_score = 8 WHERE id = 2; PRAGMA wal_checkpoint(TRUNCATE)",
        "VACUUM",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ];
    for (statements, price) in by_the_rules.into_iter().zip(3000..) {
        database::run(&service.file(), &format!("PRAGMA busy_timeout = 5000; {statements}"));
        assert_eq!(service.bid(2, price).await.status, 201, "{statements}");
        assert_eq!(service.process.visitor().get("/health/ready").await.status, 200, "{statements}");
    }
    assert!(!service.process.stderr().contains("is lost"), "{}", service.process.stderr());
    let prices: Vec<Value> = after_a_restart(service).await.into_iter().map(|mut bid| bid["price"].take()).collect();
    assert_eq!(prices, [1000, 2000, 3000, 3001, 3002, 3003, 3004, 3005].map(|price| json!(price)));
}

/// Bids that are pending while the files are moved away are stored or not, as their answers say. Once the files are
/// back, the service works again without a restart, and its sockets have stayed open.
#[actix_web::test]
async fn a_database_moved_away_under_load_and_back_has_every_answered_bid() {
    if !database::on_sqlite_only() {
        return;
    }
    let service = Service::start().await;
    let bidders: Vec<Client> = (10..18).map(|id| service.process.user(id)).collect();
    let mut socket = service.process.user(3).socket().await;
    let [here, away] = [service.file().parent().unwrap().to_owned(), service.beside("away")];
    let (price, mut accepted, mut refused) = (std::cell::Cell::new(3000), Vec::new(), Vec::new());
    for round in 0..5 {
        let (moved, done) = (std::cell::Cell::new(false), std::cell::Cell::new(false));
        let fire = async |bidder: &Client| {
            let (mut accepted, mut refused, mut after) = (Vec::new(), Vec::new(), 0);
            while !done.get() {
                let (mine, sent_after) = (price.replace(price.get() + 1), moved.get());
                let answer = bidder.bid(service.goods, mine).await;
                match answer.status {
                    201 => {
                        assert!(!sent_after, "round {round}: {}", answer.text);
                        accepted.push(answer.body);
                    }
                    409 => refused.push(mine),
                    _ => {
                        assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{}", answer.text);
                        if answer.body["outcome"] == "not_stored" {
                            refused.push(mine);
                        }
                        after += i32::from(sent_after);
                        done.set(after > 20);
                    }
                }
            }
            (accepted, refused)
        };
        let mover = async {
            let enough = price.get() + 60;
            eventually("some bids", || async { (price.get() > enough).then_some(()) }).await;
            fs::rename(&here, &away).unwrap();
            moved.set(true);
        };
        let (fired, ()) = futures_util::join!(join_all(bidders.iter().map(fire)), mover);
        for (some, others) in fired {
            accepted.extend(some);
            refused.extend(others);
        }
        fs::rename(&away, &here).unwrap();
        let back = Instant::now();
        let bid = || async {
            let answer = service.bid(2, price.replace(price.get() + 1)).await;
            (answer.status == 201).then_some(answer.body)
        };
        accepted.push(eventually("bids are taken again", bid).await);
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    }
    // The outbid of the time before, by the first of those bids.
    assert!(socket.expect_alarm("outbid").await["high_price"].as_i64().unwrap() >= 3000);
    let history = after_a_restart(service).await;
    check_history(&history);
    check_answered(&history, &accepted);
    for bid in &history {
        assert!(!refused.contains(&bid["price"].as_i64().unwrap()), "{bid} was refused");
    }
}

/// As docs/operating.md describes it.
#[actix_web::test]
async fn a_deleted_database_is_rescued_from_the_process_that_still_has_it_open() {
    if !database::on_sqlite_only() {
        return;
    }
    let service = Service::start().await;
    for file in [service.file(), wal(&service.file())] {
        fs::remove_file(file).unwrap();
    }
    service.is_lost("deleted").await;
    for name in ["x.db", "x.db-wal"] {
        fs::copy(service.process.open_file(name), service.beside(name)).unwrap();
    }
    let (Service { folder, mut process, goods }, file) = (service, "x.db");
    process.terminate();
    assert_eq!(process.exit().await.code(), Some(0), "{}", process.stderr());
    let process = Process::start(&folder.path().join(file));
    let history = process.visitor().history(goods).await;
    assert_eq!(history.iter().map(|bid| &bid["price"]).collect::<Vec<_>>(), [1000, 2000]);
    assert_eq!(process.user(4).bid(goods, 3000).await.status, 201);
}

/// A process whose files were moved away stops without touching the files that have their names by then.
#[actix_web::test]
async fn the_stop_of_a_process_without_its_file_does_no_harm_to_its_successor() {
    if !database::on_sqlite_only() {
        return;
    }
    let mut first = Service::start().await;
    fs::create_dir(first.beside("away")).unwrap();
    for file in fs::read_dir(first.file().parent().unwrap()).unwrap() {
        let file = file.unwrap().path();
        fs::rename(&file, first.beside("away").join(file.file_name().unwrap())).unwrap();
    }
    let second = Process::start(&first.file());
    let body = goods_body(&json!({"starts_at": SystemTime.now()}));
    let goods = second.user(1).retrying().post("/goods/", &body).await.body["id"].as_i64().unwrap();
    assert_eq!(second.user(2).retrying().bid(goods, 1000).await.status, 201);
    first.process.terminate();
    assert_eq!(first.process.exit().await.code(), Some(0), "{}", first.process.stderr());
    assert_eq!(second.user(3).retrying().bid(goods, 2000).await.status, 201);
    second.kill();
    let again = Process::start(&first.file());
    assert_eq!(again.visitor().history(goods).await.len(), 2);
    // The data of the first one is complete as well.
    let moved = Process::start(&first.beside("away/x.db"));
    assert_eq!(moved.visitor().history(first.goods).await.len(), 2);
}
