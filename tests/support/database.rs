//! A database for each test: an SQLite file in the test's folder or, if `HANDSUP_TEST_POSTGRES` names a server
//! (`postgres://USER@HOST:PORT`), a fresh database there. On either engine a test names it by the path of the file.
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
/// The number in the next database's name.
static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// The server that the tests use, if they run on PostgreSQL.
pub fn server() -> Option<String> {
    std::env::var("HANDSUP_TEST_POSTGRES").ok().filter(|server| !server.is_empty())
}

/// Whether a test about SQLite's files runs. `if !on_sqlite_only() { return }`.
pub fn on_sqlite_only() -> bool {
    server().is_none()
}

/// Whether a test about the connections to a server runs.
pub fn on_postgres_only() -> bool {
    server().is_some()
}

/// `database.url` of the default database in this folder.
pub fn url(folder: &Path) -> String {
    url_of(&default_path(folder))
}

/// The path of a folder's default database.
pub fn default_path(folder: &Path) -> PathBuf {
    folder.join("test.db")
}

/// `database.url` of a database: the same one for the same path.
pub fn url_of(database: &Path) -> String {
    match server() {
        None => format!("sqlite://{}", database.display()),
        Some(server) => format!("{server}/{}", server_database(database, "")),
    }
}

/// The name of this database on the server. It is created if it does not exist.
fn server_database(database: &Path, how: &str) -> String {
    let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(name) = made.get(database) {
        return name.clone();
    }
    let mut server = administrator();
    if made.is_empty() {
        drop_left_databases(&mut server);
    }
    // A database whose folder is gone is no longer used.
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

/// Drops a database, even if a node of a failed test is still connected.
fn drop_database(server: &mut PgConnection, name: &str) {
    let dropped = server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    assert!(dropped.is_ok(), "{name} can't be dropped: {dropped:?}");
}

/// Drops what earlier test processes have left behind.
fn drop_left_databases(server: &mut PgConnection) {
    let names: Vec<String> =
        sql::<Text>("SELECT datname::text FROM pg_database WHERE datname LIKE 'test\\_%'").load(server).unwrap();
    for name in names {
        let process = name.split('_').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            // Another test process may drop it at the same time.
            let _ = server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// A connection to a database's file that waits for its turn, as any writer does: a node that stops, and other tests'
/// connections, hold the lock for moments.
pub fn sqlite(database: &Path) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
    conn.batch_execute("PRAGMA busy_timeout = 30000").unwrap();
    conn
}

/// Runs statements directly in the database.
pub fn run(database: &Path, statements: &str) {
    match server() {
        None => sqlite(database).batch_execute(statements),
        Some(_) => PgConnection::establish(&url_of(database)).unwrap().batch_execute(statements),
    }
    .unwrap();
}

/// The one number that `SELECT what` returns, for example `count(*) FROM inbox`.
pub fn number(database: &Path, what: &str) -> i64 {
    let query = sql::<BigInt>(&format!("SELECT {what}"));
    match server() {
        None => query.get_result(&mut sqlite(database)),
        Some(_) => query.get_result(&mut PgConnection::establish(&url_of(database)).unwrap()),
    }
    .unwrap()
}

/// The number of rows of this table, or of `table WHERE …`.
pub fn count(database: &Path, rows: &str) -> i64 {
    number(database, &format!("count(*) FROM {rows}"))
}

/// Copies a database that nobody uses any more.
pub fn copy(from: &Path, to: &Path) {
    if on_sqlite_only() {
        // After an orderly end everything is in this one file, once the last reader has closed it: a read that was under
        // way on a thread of its own may outlive its node for a moment.
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while from.with_extension("db-wal").exists() {
            assert!(std::time::Instant::now() < give_up, "{} is still open", from.display());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::fs::copy(from, to).unwrap();
    } else {
        let from = server_database(from, "");
        server_database(to, &format!("TEMPLATE {from}"));
    }
}

/// Another connection that holds the writer's lock until it is dropped.
pub struct Locked(Box<dyn FnMut(&str) + Send>);

impl Locked {
    pub fn by_another_connection(folder: &Path) -> Self {
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

/// A server that is down for the service with this folder's database until this is dropped: its connections are broken
/// and it gets no new ones.
pub struct Stopped {
    server: PgConnection,
    name: String,
}

impl Stopped {
    pub fn server_of(folder: &Path) -> Self {
        let name = server_database(&default_path(folder), "");
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

/// A server that does not answer on the service's connections to this folder's database until this is dropped.
pub struct Silent(Vec<i32>);

impl Silent {
    /// `None` if this process may not stop the server's processes.
    pub fn server_of(folder: &Path) -> Option<Self> {
        let name = server_database(&default_path(folder), "");
        let of_service = format!("FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'handsup'");
        let mut server = administrator();
        let mut silent = Self(Vec::new());
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
        // Suspends each process while it is idle, since a busy one may hold what the whole server needs, until all are
        // suspended.
        loop {
            let query = format!("SELECT pid {of_service} AND state = 'idle'");
            let idle: Vec<i32> = sql::<Integer>(&query).load(&mut server).unwrap();
            let awake: Vec<i32> = idle.into_iter().filter(|process| !silent.0.contains(process)).collect();
            if !awake.is_empty() && !Self::signal_all(Signal::STOP, &awake) {
                return None;
            }
            silent.0.extend(awake);
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

/// Breaks all connections to this folder's database. New ones are accepted at once.
pub fn break_all_connections(folder: &Path) {
    break_connections(&mut administrator(), &server_database(&default_path(folder), ""));
}

fn break_connections(server: &mut PgConnection, name: &str) {
    server
        .batch_execute(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        .unwrap();
}

/// Everything that a stopped service has stored, in its folder and on the server, as bytes.
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
