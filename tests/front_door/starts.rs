//! What a start reads and opens: it logs what it has opened, and stops rather than open something else.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    settings::{complaint, good, refuses},
    support::{Handsup, Process, database, eventually, goods_body},
};

/// Asserts that the folder has only the test's files, so that no database was created.
fn made_nothing(handsup: &Handsup) {
    assert!(!handsup.folder().join("data").exists(), "it opened a database");
}

/// Makes something of this name that cannot be read.
type Spoil = fn(&Path);

#[test]
fn an_unreadable_settings_file_stops_the_start() {
    for (path, words) in [
        ("config/default.toml", &["serve"][..]),
        ("config/local.toml", &["serve"]),
        ("mine.toml", &["serve", "--config", "mine.toml"]),
    ] {
        let spoils: [(&str, Spoil); 5] = [
            ("a folder", |file| fs::create_dir(file).unwrap()),
            ("a link to nowhere", |file| symlink("nowhere.toml", file).unwrap()),
            ("a link to itself", |file| symlink(file.file_name().unwrap(), file).unwrap()),
            ("no text", |file| fs::write(file, b"# \xff\n").unwrap()),
            ("somebody else's", |file| {
                fs::write(file, "[database]\nurl = \"sqlite://mine.db\"\n").unwrap();
                fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
            }),
        ];
        for (what, spoil) in spoils {
            let handsup = good().file("config/README", "");
            let file = handsup.folder().join(path);
            spoil(&file);
            if what == "somebody else's" && fs::read(&file).is_ok() {
                // Root can read everything.
                continue;
            }
            refuses(&handsup, words, path);
            refuses(&handsup, &[&["config"], &words[1..]].concat(), path);
            made_nothing(&handsup);
        }
    }
    // Without the file, or without its folder, the settings are complete.
    for handsup in [good(), good().file("config", "a file of another program")] {
        assert!(handsup.run(&["config"]).status.success());
    }
}

#[test]
fn an_empty_value_stops_the_start_in_every_source() {
    for key in [
        "database.url",
        "server.bind",
        "server.workers",
        "server.media_dir",
        "server.allowed_origins",
        "server.trusted_proxies",
        "bus.url",
        "auth.jwt_secret",
        "auth.jwt_secret_previous",
        "auth.dev_login",
        "auction.time_zone",
        "alarms.locale",
        "session.max",
    ] {
        for empty in ["", "  "] {
            let handsup = good().set(key, empty);
            refuses(&handsup, &["serve"], key);
            refuses(&handsup, &["config"], key);
            made_nothing(&handsup);
        }
    }
    for (text, key) in [
        ("[database]\nurl = \"\"\n", "database.url"),
        ("[auth]\njwt_secret_previous = \" \"\n", "auth.jwt_secret_previous"),
        ("[server]\nallowed_origins = [\"https://market.example\", \"\"]\n", "server.allowed_origins"),
    ] {
        let handsup = good().file("config/local.toml", text);
        refuses(&handsup, &["serve"], key);
        made_nothing(&handsup);
    }
    // An item of a list is a value as well.
    refuses(&good().set("server.trusted_proxies", "10.0.0.1,,10.0.0.2"), &["serve"], "server.trusted_proxies");
    refuses(&good().set("server.allowed_origins", ","), &["serve"], "server.allowed_origins");
}

/// The line of the log that says what was opened. The log has a thread of its own, so the line may come later.
async fn opening(process: &Process) -> String {
    let said = || async { Some(process.stderr()).filter(|said| said.contains("schema=")) };
    let said = eventually("the line", said).await;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("schema=")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    lines[0].to_owned()
}

#[actix_web::test]
async fn the_start_logs_which_database_it_created_or_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let url = database::url_of(&path);
    let engine = if database::on_sqlite_only() { "engine=sqlite" } else { "engine=postgres" };
    let database = url.rsplit('/').next().unwrap().to_owned();
    let mut schema = None;
    for (what, goods) in [("new=true", 0), ("new=false", 1), ("new=false", 2)] {
        let process = Process::start(&path);
        let line = opening(&process).await;
        let version = format!("version={}", env!("CARGO_PKG_VERSION"));
        for part in [&version, engine, what, &database, &format!("goods={goods}")] {
            assert!(line.contains(part), "{part}: {line}");
        }
        if database::on_sqlite_only() {
            assert!(line.contains(&url), "the whole path: {line}");
        }
        let number: String = line.split("schema=").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
        assert_eq!(number.len(), 14, "{line}");
        assert_eq!(*schema.get_or_insert(number.clone()), number, "the same each time");
        let body = goods_body(&json!({"starts_at": "2090-01-01T00:00:00Z"}));
        assert_eq!(process.user(1).retrying().post("/goods/", &body).await.status, 201);
        process.kill();
    }
}

/// Asserts that a second process ends by itself with one line, under any name of the database.
pub async fn in_use(database: &Path) {
    let mut second = Process::spawn(database);
    let exit = second.exit().await;
    assert!(exit.code().is_some_and(|code| code != 0), "{}: {exit}", database.display());
    let said = second.stderr();
    let complaint = complaint(&said);
    assert!(complaint.contains("database.url") && complaint.contains("in use"), "{said}");
}

#[actix_web::test]
async fn one_database_file_has_one_process_under_any_of_its_names() {
    if !database::on_sqlite_only() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("data")).unwrap();
    symlink("data", at("linked")).unwrap();
    symlink("data/x.db", at("symlink.db")).unwrap();
    symlink("symlink.db", at("symlink-of-symlink.db")).unwrap();
    let process = Process::start(&at("data/x.db"));
    fs::hard_link(at("data/x.db"), at("hardlink.db")).unwrap();
    let names: Vec<PathBuf> =
        ["data/x.db", "symlink.db", "symlink-of-symlink.db", "hardlink.db", "linked/x.db", "data/../linked/./x.db"]
            .map(at)
            .to_vec();
    for name in &names {
        in_use(name).await;
    }
    // Whatever else is in the folder: no file there is the lock, since somebody could delete it.
    for entry in fs::read_dir(at("data")).unwrap() {
        let path = entry.unwrap().path();
        if !["x.db", "x.db-wal", "x.db-shm"].iter().any(|name| path.ends_with(name)) {
            fs::remove_file(path).unwrap();
        }
    }
    for name in &names {
        in_use(name).await;
    }
    // The process's death frees all of them at once.
    process.kill();
    let process = Process::start(&at("symlink.db"));
    in_use(&at("data/x.db")).await;
    process.kill();
}

/// After a loss of the database file the WAL may still contain the last answered writes; a new database would replace
/// it.
#[actix_web::test]
async fn a_start_keeps_a_wal_whose_database_is_missing() {
    if !database::on_sqlite_only() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [file, wal, away] = ["x.db", "x.db-wal", "away.db"].map(|name| folder.path().join(name));
    let process = Process::start(&file);
    let body = goods_body(&json!({"starts_at": "2090-01-01T00:00:00Z"}));
    assert_eq!(process.user(1).retrying().post("/goods/", &body).await.status, 201);
    process.kill();
    fs::rename(&file, &away).unwrap();
    let left = fs::read(&wal).unwrap();
    assert!(!left.is_empty());
    let url = format!("sqlite://{}", file.display());
    for empty in [false, true] {
        if empty {
            fs::write(&file, "").unwrap();
        }
        for words in [&["serve"], &["migrate"]] {
            refuses(&good().set("database.url", &url), words, "-wal");
        }
        assert_eq!((file.exists(), fs::read(&wal).unwrap() == left), (empty, true), "nothing was made or changed");
    }
    fs::rename(&away, &file).unwrap();
    assert_eq!(Process::start(&file).visitor().get("/goods/1/").await.status, 200);
}

/// Migrating and copying would write beside the running process as well.
#[actix_web::test]
async fn no_command_writes_to_a_database_in_use_under_any_of_its_names() {
    if !database::on_sqlite_only() {
        return;
    }
    let handsup = Handsup::new();
    let [file, link, other] = ["x.db", "link.db", "other.db"].map(|name| handsup.folder().join(name));
    let process = Process::start(&file);
    symlink("x.db", &link).unwrap();
    let [url, fresh] = [&link, &other].map(|path| format!("sqlite://{}", path.display()));
    for words in [&["copy", "--from", &url, "--to", &fresh][..], &["copy", "--from", &fresh, "--to", &url]] {
        let ran = handsup.run(words);
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(!ran.status.success() && said.contains("in use"), "{said}");
        fs::write(&other, "").unwrap();
    }
    refuses(&good().set("database.url", &url), &["migrate"], "in use");
    process.kill();
    // Neither may a copy read and write the same file.
    let own = format!("sqlite://{}", file.display());
    let ran = handsup.run(&["copy", "--from", &own, "--to", &url]);
    assert!(!ran.status.success());
    assert!(String::from_utf8(ran.stderr).unwrap().contains("in use"));
}

/// Rows of an unknown schema would be misread, and lost when they are written again.
#[actix_web::test]
async fn a_database_of_a_newer_version_is_refused_and_unchanged() {
    let handsup = Handsup::new();
    let [newer, other] = ["newer.db", "other.db"].map(|name| handsup.folder().join(name));
    Process::start(&newer).kill();
    database::run(
        &newer,
        "CREATE TABLE newer (id INTEGER); INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000001')",
    );
    let url = database::url_of(&newer);
    for words in ["serve", "migrate"] {
        refuses(&good().set("database.url", &url), &[words], "database.url");
        refuses(&good().set("database.url", &url), &[words], "newer version");
        refuses(&good().set("database.url", &url), &[words], "20991231000001");
    }
    let fresh = database::url_of(&other);
    for (words, which) in
        [(["copy", "--from", &url, "--to", &fresh], "--from"), (["copy", "--from", &fresh, "--to", &url], "--to")]
    {
        if which == "--to" {
            // A database to copy from.
            Process::start(&other).kill();
        }
        let ran = handsup.run(&words);
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(!ran.status.success(), "{said}");
        assert!(said.contains(which) && said.contains("newer version"), "{said}");
    }
    assert_eq!(database::count(&newer, "__diesel_schema_migrations WHERE version = '20991231000001'"), 1);
    // The version that knows the schema still works.
    database::run(&newer, "DROP TABLE newer; DELETE FROM __diesel_schema_migrations WHERE version = '20991231000001'");
    Process::start(&newer).kill();
}
