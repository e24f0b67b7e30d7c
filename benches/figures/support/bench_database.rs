//! A database for a server: on the measured disk, filled through the library's own ledger, and by SQL where that would
//! take minutes.

use std::path::PathBuf;

use diesel::{Connection, PgConnection, SqliteConnection, connection::SimpleConnection};
use handsup::test_support::time_source::{SystemTime, TimeSource};
use tempfile::TempDir;

use super::{
    disk, postgres,
    server::{Server, ServerOptions},
};
use crate::seed::Seed;

pub const SELLER: i64 = 1;
/// The first id of bidders and of listeners.
pub const FIRST_BIDDER: i64 = 100;
pub const FIRST_LISTENER: i64 = 1_000_000;

pub struct BenchDatabase {
    pub url: String,
    folder: TempDir,
}

impl BenchDatabase {
    /// An SQLite database.
    pub fn new() -> Self {
        let folder = disk::folder();
        Self { url: format!("sqlite://{}", folder.path().join("figures.db").display()), folder }
    }

    /// A fresh database on this server.
    pub fn on(server: &postgres::Server) -> Self {
        Self { url: server.make_database(), folder: disk::folder() }
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn seed(&self) -> Seed {
        Seed::open(&self.url)
    }

    /// Makes a seller, so many bidders, and so many goods that are live for a day; returns the goods.
    pub fn with_auctions(&self, bidders: usize, goods: usize) -> Vec<i64> {
        let seed = self.seed();
        seed.users([SELLER].into_iter().chain(bidders_of(bidders)));
        let now = SystemTime.now();
        let goods = seed.goods(SELLER, "camera", (0..goods).map(|_| now));
        seed.finish();
        goods
    }

    /// Runs statements while the database is not open.
    pub fn sql(&self, statements: &str) {
        let done = match self.url.strip_prefix("sqlite://") {
            Some(path) => SqliteConnection::establish(path).unwrap().batch_execute(statements),
            None => PgConnection::establish(&self.url).unwrap().batch_execute(statements),
        };
        done.expect("the statements fit the schema");
    }

    pub fn serve(&self, options: &ServerOptions) -> Server {
        Server::start(&self.url, self.folder.path(), options)
    }
}

pub fn bidders_of(many: usize) -> impl Iterator<Item = i64> + Clone {
    (0..many as i64).map(|nth| FIRST_BIDDER + nth)
}

pub fn listeners_of(many: usize) -> impl Iterator<Item = i64> + Clone {
    (0..many as i64).map(|nth| FIRST_LISTENER + nth)
}
