//! Builds and wires everything once: settings, store, ledger, actors, server, and its orderly end.

mod adoption;
mod housekeeping;
mod logging;
mod node;
mod open_files;
mod reload;
mod server;
mod settings;
mod watch;

pub use self::{
    logging::{LogRules, Logging},
    node::{Node, StartError},
    open_files::{make_room, most_sockets},
    reload::SettingsChange,
    settings::{DEV_SECRET, Secret, Settings, SettingsError},
};
