//! Backups as docs/operating.md describes them: its own commands are run here in its order.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use diesel::{Connection, PgConnection, RunQueryDsl, SqliteConnection, dsl::sql, sql_types::Text};
use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::{Value, json};

use crate::support::{Handsup, Process, Socket, count, database, goods_body, wait_until_settled};

/// The page's commands in order: for each part the backup, then the restore.
fn commands(part: &str) -> [String; 2] {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Backup and restore\n")).unwrap();
    let part = section.split("\n### ").find(|found| found.starts_with(part)).unwrap();
    let blocks = part.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.take(2).collect::<Vec<_>>().try_into().unwrap()
}

/// The service that the page is about, in another place than the page names.
struct Service {
    folder: PathBuf,
    /// Paths and names on the page, and what they are here.
    places: Vec<(&'static str, String)>,
    process: Option<Process>,
    /// `database.url`.
    url: String,
}

impl Service {
    fn start(&mut self) {
        let settings = [("database.url", self.url.as_str())];
        self.process = Some(Process::start_with(&self.folder.join("handsup.db"), &settings));
    }

    async fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.terminate();
        assert_eq!(process.exit().await.code(), Some(0), "{}", process.stderr());
    }

    /// Runs commands of the page. Commands for another user and for starting and stopping the service are replaced.
    async fn run(&mut self, commands: &str) {
        let played = "set -eu
            handsup() { \"$HANDSUP\" \"$@\"; }
            runuser() { shift 3; \"$@\"; }
            systemctl() { echo \"systemctl $1\"; read -r _; }\n";
        let here = self.places.iter().fold(commands.to_owned(), |text, (there, here)| text.replace(there, here));
        let mut shell = Command::new("bash")
            .args(["-c", &format!("{played}{here}")])
            .env("HANDSUP", env!("CARGO_BIN_EXE_handsup"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut done = shell.stdin.take().unwrap();
        for line in BufReader::new(shell.stdout.take().unwrap()).lines() {
            match line.unwrap().as_str() {
                "systemctl stop" => self.stop().await,
                "systemctl start" => self.start(),
                _ => continue,
            }
            done.write_all(b"\n").unwrap();
        }
        assert!(shell.wait().unwrap().success(), "{here}");
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Uses up ids of every kind: goods sold to user 2, their messages, and live goods.
    async fn evening(&self) -> Given {
        let process = self.process();
        let (seller, buyer) = (process.user(1).retrying(), process.user(2).retrying());
        let make = async |lasts_s: i64| {
            let body = goods_body(&json!({"starts_at": SystemTime.now(), "duration_s": lasts_s}));
            seller.post("/goods/", &body).await.body["id"].as_i64().unwrap()
        };
        let live = make(1200).await;
        buyer.like(live).await;
        let mut room = buyer.room(live).await;
        room.send_json(&json!({"is_money": false, "message": "hello"})).await;
        until(&mut room, "response_type", "message").await;
        // On a busy machine a short auction may end before anybody has bid.
        let (goods, bid) = loop {
            let goods = make(1).await;
            if let Some(bid) = buyer.bid(goods, 1000).await.body["bid_id"].as_i64() {
                break (goods, bid);
            }
        };
        wait_until_settled(&process.admin(), SystemTime.now().plus_ms(1000)).await;
        let mut trade = buyer.try_trade(goods).await.unwrap();
        trade.expect_frame("goods_info").await;
        trade.send_json(&json!({"message": "when?"})).await;
        trade.expect_frame("message").await;
        let alarm = seller.inbox().await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).max().unwrap();
        Given { goods, bid, alarm }
    }

    async fn is_there(&self, goods: i64) -> bool {
        self.process().visitor().get(&format!("/goods/{goods}/")).await.status == 200
    }
}

/// Reads frames until this one. A start may come before it.
async fn until(socket: &mut Socket, field: &str, value: &str) -> Value {
    loop {
        let frame = socket.next().await;
        if frame[field] == value {
            return frame;
        }
    }
}

/// The newest ids that clients have seen.
#[derive(Debug)]
struct Given {
    goods: i64,
    bid: i64,
    alarm: i64,
}

/// All id counters with their values.
fn counters(url: &str) -> Vec<(String, i64)> {
    let name_and_value = |names: Vec<String>, number: &mut dyn FnMut(&str) -> i64| {
        names.into_iter().map(|name| (name.clone(), number(&name))).collect()
    };
    let value = |name: &str| sql::<diesel::sql_types::BigInt>(&format!("SELECT {name} FROM id_counters"));
    match url.strip_prefix("sqlite://") {
        Some(path) => {
            let mut conn = SqliteConnection::establish(path).unwrap();
            let names = sql::<Text>("SELECT name FROM pragma_table_info('id_counters') WHERE name <> 'one'");
            name_and_value(names.load(&mut conn).unwrap(), &mut |name| value(name).get_result(&mut conn).unwrap())
        }
        None => {
            let mut conn = PgConnection::establish(url).unwrap();
            let names = "SELECT column_name::text FROM information_schema.columns \
                 WHERE table_name = 'id_counters' AND column_name <> 'one' ORDER BY ordinal_position";
            let names = sql::<Text>(names).load(&mut conn).unwrap();
            name_and_value(names, &mut |name| value(name).get_result(&mut conn).unwrap())
        }
    }
}

/// Asserts that all future ids are new: the lost service has given none of them after the backup.
fn all_raised(lost: &[(String, i64)], restored: &[(String, i64)]) {
    assert!(lost.len() >= 7, "{lost:?}");
    for ((name, lost), (same, restored)) in lost.iter().zip(restored) {
        assert_eq!(name, same);
        assert!(*lost > 0 && *restored >= lost + 900_000_000, "{name}: {lost} were given, {restored} is the next");
    }
}

fn files(folder: &Path, begin: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(begin);
    let mut found: Vec<PathBuf> = entries.filter(is_one).collect();
    found.sort();
    found
}

/// Follows the page for one engine, from the first backup to the second restore.
async fn as_the_page_says(service: &mut Service, part: &str, backups: &str, restored_url: String) {
    let [backup, restore] = commands(part);
    service.start();
    let kept = service.evening().await;
    service.run(&backup).await;
    // A second backup on the same day while the service runs.
    let kept_too = service.evening().await;
    service.run(&backup).await;
    let found = files(&service.folder, backups);
    assert_eq!(found.len(), 2, "{found:?}");
    for backup in &found {
        let mode = fs::metadata(backup).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", backup.display());
    }
    let gone = service.evening().await;
    let lost = counters(&service.url);
    // What the page leaves to the operator before the start.
    service.url = restored_url;
    service.run(&restore).await;

    assert!(service.is_there(kept.goods).await && service.is_there(kept_too.goods).await);
    assert!(!service.is_there(gone.goods).await, "it came after the backup");
    all_raised(&lost, &counters(&service.url));
    // A client with a cursor from the lost time gets new alarms.
    let mut socket = service.process().user(2).socket_since(gone.alarm).await;
    let new = service.evening().await;
    assert!(new.goods > gone.goods && new.bid > gone.bid && new.alarm > gone.alarm, "{gone:?} {new:?}");
    let won = until(&mut socket, "kind", "auction_won").await;
    assert_eq!(won["goods_id"], new.goods);
}

#[actix_web::test]
async fn the_pages_commands_make_and_restore_a_backup() {
    if !database::on_sqlite_only() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap().to_owned();
    let url = format!("sqlite://{place}/handsup.db");
    let mut service = Service {
        folder: folder.path().to_owned(),
        places: vec![("/var/lib/handsup", place)],
        url: url.clone(),
        process: None,
    };
    as_the_page_says(&mut service, "SQLite\n", "backup-", url).await;
    // Once more: what the first restore moved away is not in the way.
    let [backup, restore] = commands("SQLite\n");
    service.run(&backup).await;
    service.run(&restore).await;
    assert_eq!(files(&service.folder, "broken.").len(), 2);
    service.evening().await;
    // And once with no database left.
    service.stop().await;
    for file in files(&service.folder, "handsup.db") {
        fs::remove_file(file).unwrap();
    }
    let without_stop = restore.replace("systemctl stop handsup\n", "");
    service.run(&without_stop).await;
    service.evening().await;
}

#[actix_web::test]
async fn the_pages_commands_make_and_restore_a_dump() {
    if !database::on_postgres_only() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, url) = (database::server().unwrap(), database::url_of(&folder.path().join("handsup.db")));
    // A name that is cleaned up if this fails.
    let restored = format!("test_{}_restored", std::process::id());
    let mut conn = PgConnection::establish(&format!("{server}/postgres")).unwrap();
    let user = "DO $$ BEGIN CREATE ROLE handsup; EXCEPTION WHEN duplicate_object THEN NULL; END $$";
    diesel::sql_query(user).execute(&mut conn).unwrap();
    let restored_url = format!("{server}/{restored}");
    let mut service = Service {
        folder: folder.path().to_owned(),
        places: vec![
            ("postgres://handsup@HOST/handsup_restored", restored_url.clone()),
            ("postgres://handsup@HOST/handsup", url.clone()),
            ("postgres://postgres@HOST", server),
            ("handsup_restored", restored.clone()),
            ("/var/backups", folder.path().to_str().unwrap().to_owned()),
        ],
        url,
        process: None,
    };
    as_the_page_says(&mut service, "PostgreSQL\n", "handsup-", restored_url).await;
    drop(service);
    diesel::sql_query(format!("DROP DATABASE {restored} WITH (FORCE)")).execute(&mut conn).unwrap();
}

#[actix_web::test]
async fn a_backup_overwrites_nothing_and_leaves_no_partial_file() {
    if !database::on_sqlite_only() {
        return;
    }
    let handsup = Handsup::new().file("notes.txt", "not a database");
    let at = |name: &str| handsup.folder().join(name);
    let url = |name: &str| format!("sqlite://{}", at(name).display());
    let process = Process::start(&at("x.db"));
    let run = |from: &str, to: &str| {
        let ran = handsup.run(&["backup", "--from", from, "--to", to]);
        (ran.status.success(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    let (done, said, _) = run(&url("x.db"), "backup.db");
    assert!(done && said.contains("backup.db: 0 goods"), "{said}");
    let written = fs::read(at("backup.db")).unwrap();
    fs::write(at("mine.txt"), "mine").unwrap();
    fs::create_dir(at("folder")).unwrap();
    database::run(&at("other.db"), "CREATE TABLE t (x)");
    let before = files(handsup.folder(), "");
    for (from, to, which) in [
        (url("x.db"), "backup.db", "--to"),
        (url("x.db"), "mine.txt", "--to"),
        (url("x.db"), "folder", "--to"),
        (url("x.db"), "no/such/folder/b.db", "--to"),
        (url("nothing.db"), "b.db", "--from"),
        (url("notes.txt"), "b.db", "--from"),
        (url("folder"), "b.db", "--from"),
        (url("other.db"), "b.db", "broken"),
        ("postgres://me:s3cret-4711@127.0.0.1:1/x".to_owned(), "b.db", "--from"),
        ("mysql://x".to_owned(), "b.db", "--from"),
    ] {
        let (done, _, said) = run(&from, to);
        assert!(!done && said.contains(which) && !said.contains("4711"), "{from} to {to}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(files(handsup.folder(), ""), before);
    assert_eq!(fs::read(at("backup.db")).unwrap(), written);
    assert_eq!(fs::read(at("mine.txt")).unwrap(), b"mine");
    assert_eq!(count(&at("x.db"), "id_counters WHERE alarm > 1000"), 0, "the ids of the database itself stay");
    assert_eq!(process.visitor().get("/health/ready").await.status, 200);
}
