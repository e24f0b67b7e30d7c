//! The application: what turns settings into a running node.
//!
//! - `settings` (with `auth_settings`), `settings_error`, `reload`: the settings, their checks, and which of them can
//!   change while the node runs
//! - `logging`: the log; `log_line`: how a record becomes a line of it
//! - `build`: builds and starts one node; `shutdown`: stops it, and notices that one of its parts has stopped
//! - `restart_time`: how long a restart takes
//! - `server`: the HTTP server and its workers
//! - `open_files`: how many connections the limit of open files allows
//! - `commit_dispatcher`: who is notified of what is committed; `commit_counts` counts it
//! - `process_stats`: the metrics that every process has
//! - `jobs`: what a node does periodically; `retention`, `fanout_recovery`, `erasure_recovery`: three such jobs

mod auth_settings;
mod build;
mod commit_counts;
mod commit_dispatcher;
mod erasure_recovery;
mod fanout_recovery;
mod jobs;
mod log_line;
mod logging;
mod open_files;
mod process_stats;
mod reload;
mod restart_time;
mod retention;
mod server;
mod settings;
mod settings_error;
mod shutdown;

#[cfg(feature = "test-support")]
pub use self::auth_settings::DEV_SECRET;
#[cfg(feature = "demo")]
pub(crate) use self::open_files::max_sockets;
pub use self::{build::Node, settings::Settings};
pub(crate) use self::{
    build::StartError, logging::Logging, open_files::ensure_sockets_fit, settings_error::SettingsError,
};
