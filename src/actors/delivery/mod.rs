//! Committed alarms on their way to the sessions of their receivers.

pub(crate) mod alarm_hub;
pub(crate) mod cluster;
pub(crate) mod encode;
pub(crate) mod frame;
pub(crate) mod outbox;
pub(crate) mod overflow;
pub(crate) mod read_state;
pub(crate) mod received;
pub(crate) mod registry;
pub(crate) mod shard;
