//! Hands-Up alarms: a service for live auctions. It judges bids, and notifies everybody concerned at once: no alarm is
//! lost, doubled or late.
//!
//! `ARCHITECTURE.md` describes the modules as layers, and which may import which. `tests/architecture` enforces it.
#![forbid(unsafe_code)]
// `print!` and `eprint!` panic when their output is closed.
#![warn(clippy::print_stderr)]
// Only with the feature: without it nothing but the command line is reachable.
#![cfg_attr(feature = "test-support", warn(unreachable_pub))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod actors;
mod app;
mod bus;
pub mod cli;
mod domain;
mod http;
mod metrics;
mod outage;
mod protocol;
mod store;
#[cfg(feature = "test-support")]
pub mod test_support;
mod time_source;
