//! A database of its own for each test: an SQLite file in the test's folder, or, where `HANDSUP_TEST_POSTGRES` names a
//! server (`postgres://USER@HOST:PORT`), a fresh one there.

use std::path::Path;

use diesel::{Connection, PgConnection, SqliteConnection, connection::SimpleConnection};

/// The server that the tests use, if they run on PostgreSQL.
pub fn server() -> Option<String> {
    std::env::var("HANDSUP_TEST_POSTGRES").ok().filter(|server| !server.is_empty())
}

/// `database.url` for a test with this folder; the same for the same folder, with what is stored there.
pub fn url(folder: &Path) -> String {
    let Some(server) = server() else { return format!("sqlite://{}", folder.join("test.db").display()) };
    let name: String =
        folder.file_name().unwrap().to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect();
    let name = format!("test_{}_{}", std::process::id(), hex(&name));
    let mut conn = PgConnection::establish(&format!("{server}/postgres")).expect("the PostgreSQL of the tests");
    // It is there already when the test starts its second node.
    let _ = conn.batch_execute(&format!("CREATE DATABASE {name}"));
    format!("{server}/{name}")
}

/// Names fold to lower case there.
fn hex(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Somebody else who holds the database, so that no writer gets to it, until this is dropped.
#[allow(dead_code)] // Not every suite has one.
pub struct Locked(Box<dyn FnMut(&str)>);

#[allow(dead_code)]
impl Locked {
    pub fn by_somebody(folder: &Path) -> Self {
        let url = url(folder);
        let mut run: Box<dyn FnMut(&str)> = match url.strip_prefix("sqlite://") {
            Some(path) => {
                let mut conn = SqliteConnection::establish(path).unwrap();
                Box::new(move |sql| conn.batch_execute(sql).unwrap())
            }
            None => {
                let mut conn = PgConnection::establish(&url).unwrap();
                Box::new(move |sql| conn.batch_execute(sql).unwrap())
            }
        };
        run(if url.starts_with("sqlite") {
            "BEGIN IMMEDIATE"
        } else {
            "BEGIN; SELECT one FROM id_counters FOR UPDATE"
        });
        Self(run)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        (self.0)("ROLLBACK");
    }
}
