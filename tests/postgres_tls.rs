//! TLS to PostgreSQL, with a program built with the feature `postgres-tls`, against a server with a self-signed
//! certificate (`scripts/postgres` starts one).
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/database.rs"]
mod database;

use std::{path::Path, process::Command};

use diesel::{Connection, PgConnection, RunQueryDsl, dsl::sql, sql_types::BigInt};
use handsup::test_support::store::{DatabaseUrl, OpenedStore, Store};

fn open(folder: &Path, parameters: &str) -> Result<OpenedStore, String> {
    let url = DatabaseUrl::parse(&format!("{}?{parameters}", database::url(folder))).unwrap();
    Store::open(&url, 2).map_err(|error| error.to_string())
}

/// The service's connections to this database: with TLS and without.
fn connections(folder: &Path) -> [i64; 2] {
    let mut conn = PgConnection::establish(&database::url(folder)).unwrap();
    [true, false].map(|with_tls| {
        let count = format!(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
             WHERE datname = current_database() AND application_name = 'handsup' AND ssl = {with_tls}"
        );
        sql::<BigInt>(&count).get_result(&mut conn).unwrap()
    })
}

fn certificate_of_the_server() -> String {
    std::env::var("HANDSUP_TEST_POSTGRES_CA").expect("a server with TLS: see scripts/postgres")
}

#[test]
fn all_connections_are_encrypted_on_request() {
    let folder = tempfile::tempdir().unwrap();
    for parameters in
        ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={}", certificate_of_the_server())]
    {
        let opened = open(folder.path(), &parameters).unwrap();
        let [encrypted, clear] = connections(folder.path());
        assert!(encrypted >= 3 && clear == 0, "{parameters}: {encrypted} and {clear}");
        drop(opened);
    }
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout"])
        .arg(folder.path().join("key.pem"))
        .arg("-out")
        .arg(&other)
        .output()
        .unwrap();
    assert!(made.status.success());
    let refused = open(folder.path(), &format!("sslmode=verify-full&sslrootcert={}", other.display()));
    let why = refused.err().expect("it must not be opened");
    assert!(why.contains("certificate verify failed") && !why.contains('\n'), "{why}");
}
