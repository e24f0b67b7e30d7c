//! Where the nodes of a service listen. Whoever comes goes to the next one, so that what a test does on one node is seen
//! on another.

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// All doors of one service; clones take turns together.
#[derive(Clone)]
pub struct Doors {
    addresses: Arc<[SocketAddr]>,
    sockets: Arc<AtomicUsize>,
    clients: Arc<AtomicUsize>,
}

impl Doors {
    pub fn of(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses: addresses.into(), sockets: Arc::default(), clients: Arc::default() }
    }

    pub fn all(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// For the next socket.
    pub fn next(&self) -> SocketAddr {
        self.addresses[self.sockets.fetch_add(1, Ordering::Relaxed) % self.addresses.len()]
    }

    /// For the requests of the next client.
    pub fn for_client(&self) -> Rounds {
        Rounds { doors: self.clone(), turn: Cell::new(self.clients.fetch_add(1, Ordering::Relaxed)) }
    }
}

/// The doors as one client takes them.
pub struct Rounds {
    doors: Doors,
    turn: Cell<usize>,
}

impl Rounds {
    /// `http://…` for the next request.
    pub fn for_request(&self) -> String {
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        base(self.doors.addresses[turn % self.doors.addresses.len()])
    }

    /// `http://…` for the next socket.
    pub fn for_socket(&self) -> String {
        base(self.doors.next())
    }
}

/// `http://…`
pub fn base(address: SocketAddr) -> String {
    format!("http://{address}")
}
