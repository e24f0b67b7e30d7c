//! Whether one node or a cluster of nodes uses the database.

/// How many nodes the service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One node, which alone uses the database.
    Single,
    /// Several nodes that share the database and a bus.
    Cluster,
}
