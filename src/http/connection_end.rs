//! The end of a client's connection, for whoever serves a long response on it.

use std::rc::Rc;

use tokio::sync::Notify;

/// Resolves when the client has ended the connection or reading from it has failed. It is among the data of each request
/// and can be awaited only on the connection's thread, by one task.
#[derive(Clone, Default)]
pub(super) struct ConnectionEnd(Rc<Notify>);

impl ConnectionEnd {
    /// Waits for the end, which may be over already.
    pub(super) async fn wait(&self) {
        self.0.notified().await;
    }

    pub(super) fn resolve(&self) {
        self.0.notify_one();
    }
}
