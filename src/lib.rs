//! Hands-Up alarms: a service for live auctions. It judges bids, and notifies everybody concerned at once: no alarm is
//! lost, doubled or late.
//!
//! `ARCHITECTURE.md` describes the modules as layers, and which may import which. `tests/architecture` enforces it.
#![forbid(unsafe_code)]
// `print!` and `eprint!` panic when their output is closed.
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
