//! Counts the connections that have left HTTP and are still open. A node that shuts down waits until none is left.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The counter, shared by all workers of the node.
#[derive(Debug, Clone, Default)]
pub struct OpenSockets(Arc<AtomicUsize>);

impl OpenSockets {
    /// How many are open now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more connection until the returned guard is dropped.
    pub(crate) fn add(&self) -> OpenSocket {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenSocket(self.clone())
    }
}

/// Counts one open connection.
pub(crate) struct OpenSocket(OpenSockets);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
