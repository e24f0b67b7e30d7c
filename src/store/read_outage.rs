//! Log lines about reads that fail: when an outage begins, while it lasts (rarely), and when it is over.

use std::time::Instant;

use crate::outage::{Outage, OutageReport};

pub(crate) fn log_reads_recovered(over: Option<OutageReport>) {
    if let Some(over) = over {
        log::info!(failures = over.failures, lasted_s = over.lasted_s(); "the database can be read again");
    }
}

pub(crate) fn log_read_failure(outage: &Outage, error: &dyn std::fmt::Display) {
    if let Some(failing) = outage.record_failure(Instant::now()) {
        let (failures, lasted_s) = (failing.failures, failing.lasted_s());
        log::error!(failures, lasted_s, error:%; "the database can't be read");
    }
}
