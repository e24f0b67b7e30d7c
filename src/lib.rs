//! Hands-Up alarms: live auctions whose bidders hear at once what concerns them, with nothing lost, doubled or late.
//!
//! The rooms and who may import whom are in `ARCHITECTURE.md`; `tests/architecture` holds the direction.
#![forbid(unsafe_code)]
// `print!` and `eprint!` panic when nobody can read them.
#![warn(clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod actors;
pub mod app;
pub mod bus;
pub mod cli;
pub mod domain;
pub mod http;
pub mod outage;
pub mod protocol;
pub mod store;
pub mod time_source;
