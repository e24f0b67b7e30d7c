//! The path of a bid to the ledger.
//!
//! `ingress` stamps a bid at the `arrival_gate` and refuses what `load_shedder` or `committed_goods` rule out.
//! `bid_router` sends it to the `bid_actor` of its goods, which queues it in a `bid_queue` and submits batches to the
//! ledger. `bid_stats` counts.

pub(crate) mod arrival_gate;
pub(crate) mod bid_actor;
pub(crate) mod bid_queue;
pub(crate) mod bid_router;
pub(crate) mod bid_stats;
pub(crate) mod committed_goods;
pub(crate) mod ingress;
pub(crate) mod load_shedder;
