//! What is stored, read behind the service's back.

use std::path::Path;

use diesel::{Connection, RunQueryDsl, SqliteConnection, connection::SimpleConnection, dsl::sql, sql_types::BigInt};

/// How many rows there are of this table, or of `table WHERE …`.
pub fn count(database: &Path, rows: &str) -> i64 {
    let mut conn = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
    conn.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
    sql::<BigInt>(&format!("SELECT count(*) FROM {rows}")).get_result(&mut conn).unwrap()
}
