//! Bids on their way to the ledger: ingress stamps them, the router finds the goods' actor, which queues them and hands them on.

pub(crate) mod arrival_gate;
pub(crate) mod bid_actor;
pub(crate) mod bid_queue;
pub(crate) mod bid_router;
pub(crate) mod committed_goods;
pub(crate) mod ingress;
pub(crate) mod load_shedder;
