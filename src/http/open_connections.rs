//! Counts the connections of clients, and limits them so that the node keeps the open files that it needs itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{
    metrics::{Counter, CounterSet, ReadGauge, Registry},
    outage::Outage,
};

/// Statuses of refusals that never reach the app.
const BARE_REFUSALS: [(u16, &str); 3] = [(400, "400"), (408, "408"), (431, "431")];

/// The open connections of the node, shared by all its workers.
#[derive(Clone)]
pub(crate) struct OpenConnections(Arc<Counts>);

struct Counts {
    limit: usize,
    open: AtomicUsize,
    /// Those of `open` that have left HTTP.
    outside_http: AtomicUsize,
    /// Limits how often a refusal is logged.
    full: Outage,
    /// Connections closed at once because the limit was reached.
    refused: Counter,
    /// Requests refused before they reached the app, by status.
    bare_refusals: CounterSet,
}

/// Permission for one connection. Dropping it frees the place for another.
pub(crate) struct ConnectionPermit {
    connections: OpenConnections,
    is_outside_http: bool,
}

impl OpenConnections {
    /// Allows at most `limit` open connections.
    pub(crate) fn new(limit: usize) -> Self {
        let (open, outside_http) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (full, refused) = (Outage::default(), Counter::default());
        let bare_refusals = CounterSet::by("status", BARE_REFUSALS.map(|(_, label)| label));
        Self(Arc::new(Counts { limit, open, outside_http, full, refused, bare_refusals }))
    }

    /// Takes a permit for one more connection; `None` if the limit is reached.
    pub(crate) fn try_acquire(&self) -> Option<ConnectionPermit> {
        let Counts { limit, open, full, .. } = &*self.0;
        if open.fetch_add(1, Ordering::Relaxed) < *limit {
            if let Some(over) = full.record_success(Instant::now) {
                log::info!(refused = over.failures, lasted_s = over.lasted_s(); "connections are accepted again");
            }
            return Some(ConnectionPermit { connections: self.clone(), is_outside_http: false });
        }
        open.fetch_sub(1, Ordering::Relaxed);
        self.0.refused.inc();
        if let Some(failing) = full.record_failure(Instant::now()) {
            let (refused, lasted_s) = (failing.failures, failing.lasted_s());
            log::warn!(limit, refused, lasted_s; "a connection is refused: open files allow no more");
        }
        None
    }

    /// How many connections have left HTTP and are still open. A node that stops waits until none is left.
    pub(crate) fn outside_http(&self) -> usize {
        self.0.outside_http.load(Ordering::Relaxed)
    }

    /// Adds the figures to the metrics.
    pub(crate) fn register(&self, to: &mut Registry) {
        let read = |figure: fn(&Counts) -> usize| {
            let counts = Arc::clone(&self.0);
            ReadGauge::new(move || figure(&counts))
        };
        let open = read(|counts| counts.open.load(Ordering::Relaxed));
        to.register("connections", "Open connections of clients, those of sockets included", open);
        to.register("connections_limit", "Connections that open files allow", read(|counts| counts.limit));
        to.register("connections_refused", "Connections closed at once at that limit", self.0.refused.clone());
        let help = "Malformed or late requests refused before any route, by status";
        to.register("http_malformed_requests", help, self.0.bare_refusals.clone());
    }
}

impl ConnectionPermit {
    /// Counts a request that was refused before it reached the app.
    pub(super) fn count_bare_refusal(&self, status: u16) {
        if let Some(index) = BARE_REFUSALS.iter().position(|(one, _)| *one == status) {
            self.connections.0.bare_refusals.add(index, 1);
        }
    }

    /// Notes that the connection leaves HTTP.
    pub(super) fn leave_http(&mut self) {
        if !std::mem::replace(&mut self.is_outside_http, true) {
            self.connections.0.outside_http.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Counts { open, outside_http, .. } = &*self.connections.0;
        open.fetch_sub(1, Ordering::Relaxed);
        outside_http.fetch_sub(self.is_outside_http.into(), Ordering::Relaxed);
    }
}
