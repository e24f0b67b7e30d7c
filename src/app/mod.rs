//! Builds and wires everything once: settings, store, ledger, actors, server, and its orderly end.

mod adoption;
mod housekeeping;
mod node;
mod server;
mod settings;
mod watch;

pub use self::{
    node::{Node, StartError},
    settings::{DEV_SECRET, Secret, Settings, SettingsError},
};
