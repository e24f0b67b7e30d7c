//! Counts the connections of clients, and limits them: those of the node, so that it keeps the open files that it needs
//! itself, and those of one address, so that no client takes all of them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::rate_limits::network;
use crate::{
    metrics::{Counter, CounterSet, ReadGauge, Registry},
    outage::Outage,
};

/// Statuses of refusals that never reach the app.
const BARE_REFUSALS: [(u16, &str); 3] = [(400, "400"), (408, "408"), (431, "431")];

/// Refusals that may be under way at once. Beyond them a connection is closed without one: clients that open many
/// connections must not keep the node busy with telling them so.
const REFUSALS_LIMIT: usize = 64;

/// How many connections may be open.
pub(crate) struct ConnectionLimits {
    /// On the node.
    pub node: usize,
    /// From one address or IPv6 /64 network.
    pub address: usize,
    /// Addresses whose connections are those of many clients, without a limit of their own.
    pub proxies: Vec<IpAddr>,
}

/// Whether a connection may stay.
pub(crate) enum Admission {
    Open(ConnectionPermit),
    /// The address has too many. The permit is for telling the client so.
    Refused(ConnectionPermit),
    Closed,
}

/// The open connections of the node, shared by all its workers.
#[derive(Clone)]
pub(crate) struct OpenConnections(Arc<Counts>);

struct Counts {
    limits: ConnectionLimits,
    open: AtomicUsize,
    /// Those of `open` that count against the limit of their address, by address. There are no empty entries.
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// Those of `open` that are being refused.
    refusing: AtomicUsize,
    /// Those of `open` that have left HTTP.
    outside_http: AtomicUsize,
    /// Limits how often a refusal is logged.
    full: Outage,
    /// The same for addresses that have too many.
    crowded: Outage,
    /// Connections closed at once because the node's limit was reached.
    refused: Counter,
    /// Connections refused because their address has too many.
    refused_of_address: Counter,
    /// Requests refused before they reached the app, by status.
    bare_refusals: CounterSet,
}

/// Permission for one connection. Dropping it frees the place for another.
pub(crate) struct ConnectionPermit {
    connections: OpenConnections,
    counted: Counted,
    is_outside_http: bool,
}

/// Where else than in `open` a connection counts.
#[derive(Clone, Copy)]
enum Counted {
    Nowhere,
    OfAddress(IpAddr),
    Refusing,
}

impl OpenConnections {
    /// With no connection open yet.
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Counts {
            limits,
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
            refusing: AtomicUsize::new(0),
            outside_http: AtomicUsize::new(0),
            full: Outage::default(),
            crowded: Outage::default(),
            refused: Counter::default(),
            refused_of_address: Counter::default(),
            bare_refusals: CounterSet::by("status", BARE_REFUSALS.map(|(_, label)| label)),
        }))
    }

    /// Counts one more connection, of this client or proxy, if it may stay.
    pub(crate) fn admit(&self, peer: Option<IpAddr>) -> Admission {
        let Some(mut permit) = self.try_acquire() else { return Admission::Closed };
        let peer = peer.map(|peer| peer.to_canonical());
        let Some(address) = peer.filter(|peer| !self.0.limits.proxies.contains(peer)).map(network) else {
            return Admission::Open(permit);
        };
        if self.0.count(address) {
            permit.counted = Counted::OfAddress(address);
            if let Some(over) = self.0.crowded.record_success(Instant::now) {
                let (refused, lasted_s) = (over.failures, over.lasted_s());
                log::info!(refused, lasted_s; "no address has too many connections any more");
            }
            return Admission::Open(permit);
        }
        self.0.refused_of_address.inc();
        if let Some(failing) = self.0.crowded.record_failure(Instant::now()) {
            let (refused, lasted_s) = (failing.failures, failing.lasted_s());
            log::warn!(address:%, refused, lasted_s; "a connection is refused: its address has too many");
        }
        if self.0.refusing.fetch_add(1, Ordering::Relaxed) < REFUSALS_LIMIT {
            permit.counted = Counted::Refusing;
            Admission::Refused(permit)
        } else {
            self.0.refusing.fetch_sub(1, Ordering::Relaxed);
            Admission::Closed
        }
    }

    /// Takes a permit for one more connection; `None` if the node's limit is reached.
    fn try_acquire(&self) -> Option<ConnectionPermit> {
        let Counts { limits, open, full, .. } = &*self.0;
        if open.fetch_add(1, Ordering::Relaxed) < limits.node {
            if let Some(over) = full.record_success(Instant::now) {
                log::info!(refused = over.failures, lasted_s = over.lasted_s(); "connections are accepted again");
            }
            return Some(ConnectionPermit {
                connections: self.clone(),
                counted: Counted::Nowhere,
                is_outside_http: false,
            });
        }
        open.fetch_sub(1, Ordering::Relaxed);
        self.0.refused.inc();
        if let Some(failing) = full.record_failure(Instant::now()) {
            let (limit, refused, lasted_s) = (limits.node, failing.failures, failing.lasted_s());
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
        to.register("connections_limit", "Connections that open files allow", read(|counts| counts.limits.node));
        to.register("connections_refused", "Connections closed at once at that limit", self.0.refused.clone());
        let help = "Connections refused because their address has too many";
        to.register("connections_refused_of_address", help, self.0.refused_of_address.clone());
        let help = "Malformed or late requests refused before any route, by status";
        to.register("http_malformed_requests", help, self.0.bare_refusals.clone());
    }
}

impl Counts {
    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more connection of this address; false if it has as many as allowed.
    fn count(&self, address: IpAddr) -> bool {
        let mut by_address = self.by_address();
        let open = by_address.entry(address).or_default();
        let has_room = *open < self.limits.address;
        *open += usize::from(has_room);
        has_room
    }

    fn forget(&self, address: IpAddr) {
        let mut by_address = self.by_address();
        match by_address.get_mut(&address) {
            Some(open) if *open > 1 => *open -= 1,
            _ => _ = by_address.remove(&address),
        }
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
        let Counts { open, outside_http, refusing, .. } = &*self.connections.0;
        match self.counted {
            Counted::Nowhere => {}
            Counted::OfAddress(address) => self.connections.0.forget(address),
            Counted::Refusing => _ = refusing.fetch_sub(1, Ordering::Relaxed),
        }
        open.fetch_sub(1, Ordering::Relaxed);
        outside_http.fetch_sub(self.is_outside_http.into(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(node: usize, address: usize) -> OpenConnections {
        let proxies = vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        OpenConnections::new(ConnectionLimits { node, address, proxies })
    }

    fn admit(connections: &OpenConnections, peer: &str) -> Admission {
        connections.admit(Some(peer.parse().unwrap()))
    }

    /// The permits of those that may stay.
    fn open(connections: &OpenConnections, peers: &[&str]) -> Vec<ConnectionPermit> {
        let admissions = peers.iter().map(|peer| admit(connections, peer));
        admissions.filter_map(|it| if let Admission::Open(permit) = it { Some(permit) } else { None }).collect()
    }

    #[test]
    fn an_address_has_so_many_connections_and_an_ipv6_network_is_one() {
        let connections = connections(100, 2);
        let permits = open(&connections, &["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(permits.len(), 3);
        let of_network =
            open(&connections, &["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:3::4", "2001:db8:1:3::1"]);
        assert_eq!(of_network.len(), 3);
        drop(permits);
        assert_eq!(open(&connections, &["192.0.2.1"; 3]).len(), 2, "those that have ended count no more");
        assert!(matches!(connections.admit(None), Admission::Open(_)), "the kernel may not know its address any more");
    }

    #[test]
    fn proxies_have_no_limit_of_their_own_and_the_nodes_holds_for_all() {
        let connections = connections(7, 1);
        let peers = ["10.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1", "192.0.2.1", "192.0.2.2"];
        let permits = open(&connections, &peers);
        assert_eq!(permits.len(), peers.len());
        assert!(matches!(admit(&connections, "10.0.0.1"), Admission::Closed));
        drop(permits);
        assert!(matches!(admit(&connections, "10.0.0.1"), Admission::Open(_)));
    }

    #[test]
    fn only_so_many_are_told_at_once_that_their_address_has_too_many() {
        let connections = connections(1000, 1);
        let _permits = open(&connections, &["192.0.2.1"]);
        let all: Vec<Admission> = (0..REFUSALS_LIMIT + 9).map(|_| admit(&connections, "192.0.2.1")).collect();
        let told = all.iter().filter(|it| matches!(it, Admission::Refused(_))).count();
        let closed = all.iter().filter(|it| matches!(it, Admission::Closed)).count();
        assert_eq!((told, closed), (REFUSALS_LIMIT, 9));
        drop(all);
        assert!(matches!(admit(&connections, "192.0.2.1"), Admission::Refused(_)));
        assert_eq!(connections.0.open.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn only_addresses_with_open_connections_are_remembered() {
        let connections = connections(10, 1);
        for peer in 0..1000_u32 {
            let permit = connections.admit(Some(IpAddr::from(peer.to_be_bytes())));
            assert!(matches!(permit, Admission::Open(_)));
            assert_eq!(connections.0.by_address().len(), 1);
        }
        assert!(connections.0.by_address().is_empty());
        assert_eq!(connections.0.open.load(Ordering::Relaxed), 0);
    }
}
