//! Delivers committed alarms to the sessions of their receivers, and room frames to the sockets of a room.
//!
//! - `alarm_hub`: the `AlarmHub` actor, one per node.
//! - `cluster`: the hub's link to the other nodes.
//! - `registry`: which users are connected, and how their sessions are sent something.
//! - `received`: how far users have received alarms, written in batches.
//! - `shard`: one actor per worker; it puts frames into the outboxes of the sessions on its thread, which
//!   `worker_outboxes` holds. The hub and the rooms reach it through its `ShardLink`. `shard_stats` counts.
//! - `outbox`: the frames that wait for one client; plain data.
//! - `frame`, `encode`: frames encoded for the wire, and the pings behind them.
//! - `receipts`: collects proofs of receipt and sends them to the hub in batches.
//! - `read_state`: marks alarms as read and notifies the user's sessions.
//! - `mailbox`, `mailbox_overflow`: send to a bounded mailbox, and record what it could not take.

pub(crate) mod alarm_hub;
pub(crate) mod cluster;
pub(crate) mod encode;
pub(crate) mod frame;
pub(crate) mod mailbox;
pub(crate) mod mailbox_overflow;
pub(crate) mod outbox;
pub(crate) mod read_state;
pub(crate) mod receipts;
pub(crate) mod received;
pub(crate) mod registry;
pub(crate) mod shard;
pub(crate) mod shard_stats;
pub(crate) mod worker_outboxes;
