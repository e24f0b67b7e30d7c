//! A database of its own for each test: an SQLite file in the test's folder, or, where `HANDSUP_TEST_POSTGRES` names a
//! server (`postgres://USER@HOST:PORT`), a fresh one there. A test names it by the path of the file on either engine.
#![allow(dead_code)] // Each suite uses its own part.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use diesel::{
    Connection, PgConnection, RunQueryDsl, SqliteConnection,
    connection::SimpleConnection,
    dsl::sql,
    sql_types::{BigInt, Integer, Text},
};
use rustix::process::{Pid, Signal, kill_process};

/// Databases of this process on the server, by the path that names them.
static MADE: LazyLock<Mutex<BTreeMap<PathBuf, String>>> = LazyLock::new(Mutex::default);
/// Each has a number of its own.
static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// The server that the tests use, if they run on PostgreSQL.
pub fn server() -> Option<String> {
    std::env::var("HANDSUP_TEST_POSTGRES").ok().filter(|server| !server.is_empty())
}

/// For a test about the files of SQLite: whether it is to run. `if !on_sqlite_only() { return }`.
pub fn on_sqlite_only() -> bool {
    server().is_none()
}

/// For a test about the connections to a server: whether it is to run.
pub fn on_postgres_only() -> bool {
    server().is_some()
}

/// `database.url` of a test's usual database in its folder.
pub fn url(folder: &Path) -> String {
    url_of(&usual(folder))
}

/// The usual database of a folder.
pub fn usual(folder: &Path) -> PathBuf {
    folder.join("test.db")
}

/// `database.url` of a database; the same for the same path, with what is stored there.
pub fn url_of(database: &Path) -> String {
    match server() {
        None => format!("sqlite://{}", database.display()),
        Some(server) => format!("{server}/{}", on_server(database, "")),
    }
}

/// The name of a database on the server, where it is made if it is not there.
fn on_server(database: &Path, how: &str) -> String {
    let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(name) = made.get(database) {
        return name.clone();
    }
    let mut server = administrator();
    if made.is_empty() {
        drop_those_of_the_dead(&mut server);
    }
    // Whose folder is gone is no longer used.
    made.retain(|path, name| {
        let is_used = path.parent().is_some_and(Path::exists);
        if !is_used {
            drop_database(&mut server, name);
        }
        is_used
    });
    let name = format!("test_{}_{}", std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed));
    server.batch_execute(&format!("CREATE DATABASE {name} {how}")).expect("a database");
    made.insert(database.to_owned(), name.clone());
    name
}

fn administrator() -> PgConnection {
    let server = server().expect("HANDSUP_TEST_POSTGRES");
    let mut conn = PgConnection::establish(&format!("{server}/postgres")).expect("the PostgreSQL of the tests");
    conn.batch_execute("SET client_min_messages = warning").unwrap();
    conn
}

/// Somebody may still be connected: a node that a failed test has left.
fn drop_database(server: &mut PgConnection, name: &str) {
    let dropped = server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    assert!(dropped.is_ok(), "{name} can't be dropped: {dropped:?}");
}

/// What test processes have left that are no more.
fn drop_those_of_the_dead(server: &mut PgConnection) {
    let names: Vec<String> =
        sql::<Text>("SELECT datname::text FROM pg_database WHERE datname LIKE 'test\\_%'").load(server).unwrap();
    for name in names {
        let process = name.split('_').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            // Another test process may be at it as well.
            let _ = server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// A connection to a database's file that waits for its turn, as any writer does: a node that ends, and others who look
/// behind the service's back, hold the lock for moments.
pub fn sqlite(database: &Path) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
    conn.batch_execute("PRAGMA busy_timeout = 30000").unwrap();
    conn
}

/// Runs statements behind the service's back.
pub fn run(database: &Path, statements: &str) {
    match server() {
        None => sqlite(database).batch_execute(statements),
        Some(_) => PgConnection::establish(&url_of(database)).unwrap().batch_execute(statements),
    }
    .unwrap();
}

/// The one number that a SELECT's expression and the rest of it (`count(*) FROM inbox`) give.
pub fn number(database: &Path, what: &str) -> i64 {
    let query = sql::<BigInt>(&format!("SELECT {what}"));
    match server() {
        None => query.get_result(&mut sqlite(database)),
        Some(_) => query.get_result(&mut PgConnection::establish(&url_of(database)).unwrap()),
    }
    .unwrap()
}

/// How many rows there are of this table, or of `table WHERE …`.
pub fn count(database: &Path, rows: &str) -> i64 {
    number(database, &format!("count(*) FROM {rows}"))
}

/// Copies a database that nobody has open.
pub fn copy(from: &Path, to: &Path) {
    if on_sqlite_only() {
        // An end in order leaves everything in this one file.
        assert!(!from.with_extension("db-wal").exists(), "{} is still open", from.display());
        std::fs::copy(from, to).unwrap();
    } else {
        let from = on_server(from, "");
        on_server(to, &format!("TEMPLATE {from}"));
    }
}

/// Somebody else who holds the database, so that no writer gets to it, until this is dropped.
pub struct Locked(Box<dyn FnMut(&str) + Send>);

impl Locked {
    pub fn by_somebody(folder: &Path) -> Self {
        let url = url(folder);
        let mut run: Box<dyn FnMut(&str) + Send> = match url.strip_prefix("sqlite://") {
            Some(path) => {
                let mut conn = sqlite(Path::new(path));
                Box::new(move |sql| conn.batch_execute(sql).unwrap())
            }
            None => {
                let mut conn = PgConnection::establish(&url).unwrap();
                Box::new(move |sql| conn.batch_execute(sql).unwrap())
            }
        };
        run(if on_sqlite_only() { "BEGIN IMMEDIATE" } else { "BEGIN; SELECT one FROM id_counters FOR UPDATE" });
        Self(run)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        (self.0)("ROLLBACK");
    }
}

/// A server that has stopped, as far as a service with this folder's database can tell, until this is dropped: all its
/// connections are broken and it gets no new ones.
pub struct Stopped {
    server: PgConnection,
    name: String,
}

impl Stopped {
    pub fn server_of(folder: &Path) -> Self {
        let name = on_server(&usual(folder), "");
        let mut server = administrator();
        server.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).unwrap();
        break_connections(&mut server, &name);
        Self { server, name }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.server.batch_execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)).unwrap();
    }
}

/// A server that answers nobody on the connections that a service with this folder's database has, until this is dropped.
pub struct Silent(Vec<i32>);

impl Silent {
    /// `None` where this process may not stop those of the server.
    pub fn server_of(folder: &Path) -> Option<Self> {
        let name = on_server(&usual(folder), "");
        let of_service = format!("FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'handsup'");
        let mut server = administrator();
        let mut silent = Self(Vec::new());
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
        // Each when it is idle: one that is at work may hold what the whole server needs. Until none is left that speaks.
        loop {
            let query = format!("SELECT pid {of_service} AND state = 'idle'");
            let idle: Vec<i32> = sql::<Integer>(&query).load(&mut server).unwrap();
            let speaking: Vec<i32> = idle.into_iter().filter(|process| !silent.0.contains(process)).collect();
            if !speaking.is_empty() && !Self::signal_all(Signal::STOP, &speaking) {
                return None;
            }
            silent.0.extend(speaking);
            let all: i64 = sql::<BigInt>(&format!("SELECT count(*) {of_service}")).get_result(&mut server).unwrap();
            if all <= silent.0.len() as i64 {
                return Some(silent);
            }
            assert!(std::time::Instant::now() < give_up, "some of the server's processes are always at work");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn signal_all(signal: Signal, processes: &[i32]) -> bool {
        let send = |process: &i32| kill_process(Pid::from_raw(*process).unwrap(), signal).is_ok();
        processes.iter().all(send)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        Self::signal_all(Signal::CONT, &self.0);
    }
}

/// Breaks all connections to this folder's database; new ones are taken at once.
pub fn break_all_connections(folder: &Path) {
    break_connections(&mut administrator(), &on_server(&usual(folder), ""));
}

fn break_connections(server: &mut PgConnection, name: &str) {
    server
        .batch_execute(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        .unwrap();
}

/// All that a stopped service has stored, beside its folder too, as bytes.
pub fn all_that_is_stored(folder: &Path) -> Vec<u8> {
    let mut stored = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        stored.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    if server().is_some() {
        let mut conn = PgConnection::establish(&url(folder)).unwrap();
        let text = |query: &str, conn: &mut PgConnection| -> Vec<String> { sql::<Text>(query).load(conn).unwrap() };
        let tables = text("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'", &mut conn);
        for table in tables {
            for row in text(&format!("SELECT row_to_json(t)::text FROM {table} t"), &mut conn) {
                stored.extend(row.into_bytes());
            }
        }
    }
    stored
}
