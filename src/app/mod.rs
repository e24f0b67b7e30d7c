//! The application: what turns settings into a running node.
//!
//! - `settings`, `settings_error`, `reload`: the settings, their checks, and which of them can change while the node
//!   runs
//! - `logging`: the log
//! - `node`: builds, starts, watches and stops one node
//! - `server`: the HTTP server and its workers
//! - `open_files`: how many connections the limit of open files allows
//! - `commit_dispatcher`: who is notified of what is committed
//! - `retention`, `fanout_recovery`: background jobs

mod commit_dispatcher;
mod fanout_recovery;
mod logging;
mod node;
mod open_files;
mod reload;
mod retention;
mod server;
mod settings;
mod settings_error;

pub use self::{
    logging::{LogRules, Logging},
    node::{Node, StartError},
    open_files::{ensure_sockets_fit, max_sockets},
    reload::SettingsChange,
    settings::{DEV_SECRET, Settings},
    settings_error::SettingsError,
};
