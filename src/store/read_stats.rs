//! Figures about reads: how long they wait for a connection and take, and how many fail.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::metrics::{Counter, Histogram, ReadGauge, Registry};

/// Counts of all reads since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadStats {
    /// How long each waited for a connection.
    pub connection_wait: Histogram,
    /// How long each took, with that wait.
    pub time: Histogram,
    /// Those without a result, whatever the reason.
    pub failures: Counter,
    /// Those of them that found no connection in time, or took too long.
    pub timeouts: Counter,
}

/// Permits, and how many there are.
pub(super) type Permits<'a> = (&'a Arc<Semaphore>, usize);

impl ReadStats {
    /// Adds the figures to the metrics. `connections` has a permit for each connection, `pending` one for each read that
    /// may run or wait.
    pub(super) fn register(&self, to: &mut Registry, connections: Permits<'_>, pending: Permits<'_>) {
        let Self { connection_wait, time, failures, timeouts } = self.clone();
        let taken = |(permits, of): Permits<'_>| {
            let permits = Arc::clone(permits);
            ReadGauge::new(move || of.saturating_sub(permits.available_permits()))
        };
        let (_, size) = connections;
        to.register("database_connections", "Connections that reads may use", ReadGauge::new(move || size));
        to.register("database_connections_busy", "Connections that a read is using", taken(connections));
        to.register("database_reads", "Reads that run or wait for a connection", taken(pending));
        to.register("database_connection_wait_seconds", "Time that reads waited for a connection", connection_wait);
        to.register("database_read_seconds", "Time of reads, with their wait for a connection", time);
        to.register("database_read_failures", "Reads without a result, whatever the reason", failures);
        to.register("database_read_timeouts", "Reads that found no connection in time or took too long", timeouts);
    }
}
