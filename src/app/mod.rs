//! Builds and wires everything once: settings, store, ledger, actors, server, and its orderly end.

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
    open_files::{make_room, most_sockets},
    reload::SettingsChange,
    settings::{DEV_SECRET, Secret, Settings},
    settings_error::SettingsError,
};
