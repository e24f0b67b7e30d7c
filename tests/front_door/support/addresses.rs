//! The addresses of a service's nodes. Clients and sockets go to them in turn, so that the effects of one node are seen
//! on another.

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The addresses of one service's nodes. Clones take turns together.
#[derive(Clone)]
pub struct NodeAddresses {
    addresses: Arc<[SocketAddr]>,
    sockets: Arc<AtomicUsize>,
    clients: Arc<AtomicUsize>,
}

impl NodeAddresses {
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

    /// A rotation for the requests of the next client.
    pub fn for_client(&self) -> Rotation {
        Rotation { addresses: self.clone(), turn: Cell::new(self.clients.fetch_add(1, Ordering::Relaxed)) }
    }
}

/// One client's rotation over the nodes.
pub struct Rotation {
    addresses: NodeAddresses,
    turn: Cell<usize>,
}

impl Rotation {
    /// `http://…` for the next request.
    pub fn for_request(&self) -> String {
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        base(self.addresses.addresses[turn % self.addresses.addresses.len()])
    }

    /// `http://…` for the next socket.
    pub fn for_socket(&self) -> String {
        base(self.addresses.next())
    }
}

/// `http://…`
pub fn base(address: SocketAddr) -> String {
    format!("http://{address}")
}
