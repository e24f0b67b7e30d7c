//! Builds and wires everything once: settings, store, ledger, actors, server, and its orderly end.

mod housekeeping;
mod node;
mod settings;

pub use self::{
    node::{Node, StartError},
    settings::{DEV_SECRET, Secret, Settings, SettingsError},
};
