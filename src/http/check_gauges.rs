//! What the last checks of the parts have found, for the metrics.

use crate::metrics::{Gauge, GaugeSet, Registry};

/// The parts, in the order in which the health report has them.
const PARTS: [&str; 7] = ["database", "ledger", "alarm_hub", "auction_clock", "bid_actors", "bus", "sessions"];

/// The status of each part, and whether the node is ready.
#[derive(Debug)]
pub(crate) struct CheckGauges {
    statuses: GaugeSet,
    ready: Gauge,
}

impl Default for CheckGauges {
    fn default() -> Self {
        Self { statuses: GaugeSet::by("check", PARTS), ready: Gauge::default() }
    }
}

impl CheckGauges {
    /// Sets the status of each part: 0 pass, 1 warn, 2 fail.
    pub(super) fn set(&self, statuses: [u64; PARTS.len()]) {
        for (index, status) in statuses.into_iter().enumerate() {
            self.statuses.set(index, status);
        }
    }

    /// Sets whether the node is ready.
    pub(super) fn set_ready(&self, is_ready: bool) {
        self.ready.set(is_ready.into());
    }

    /// Adds the gauges to the metrics.
    pub(crate) fn register(&self, to: &mut Registry) {
        to.register("check_status", "What a part's check has found: 0 pass, 1 warn, 2 fail", self.statuses.clone());
        to.register("ready", "Whether the node can take bids and does not shut down", self.ready.clone());
    }
}
