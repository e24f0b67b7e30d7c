//! What the rows share: the real program and its database, callers, listeners, and what the kernel counts.

pub mod bare_loop;
pub mod bench_database;
pub mod bidders;
pub mod bulk;
pub mod callers;
pub mod cpu;
pub mod disk;
pub mod frames;
pub mod line_author;
pub mod listeners;
pub mod nchan;
pub mod one_by_one;
pub mod postgres;
pub mod server;
pub mod sizes;
pub mod window;

use handsup::test_support::{
    domain::UserId,
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};

/// A token for two hours.
pub fn token(user: i64) -> String {
    minted(user, false)
}

/// The same for an admin.
pub fn admin_token(user: i64) -> String {
    minted(user, true)
}

fn minted(user: i64, admin: bool) -> String {
    let new = NewToken { user: UserId::from_stored(user), username: None, ttl_s: 7200, admin };
    Keys::new(server::SECRET, None).mint(&new, SystemTime.now()).unwrap()
}
