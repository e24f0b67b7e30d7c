//! Ends a node in order, and notices when one of its parts has stopped by itself.

use std::time::{Duration, Instant};

use super::{build::Node, restart_time};
use crate::{
    actors::{CloseAll, FlushReceived},
    bus::BusThread,
};

/// How long a stopping node waits for the bids that are under way.
const BIDS_TIMEOUT: Duration = Duration::from_secs(4);
/// How long it then waits for its sockets to close, which takes an answer of the client.
const SOCKETS_TIMEOUT: Duration = Duration::from_millis(1750);
/// How long it then waits until the received cursors of its users are on disk.
const CURSORS_TIMEOUT: Duration = Duration::from_millis(250);
/// How long it then waits for the writes in the ledger's queue.
const LEDGER_TIMEOUT: Duration = Duration::from_millis(2500);
/// Time between two polls while it waits for any of these.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The times at which sockets reconnect are spread over this, so that they don't all come at once.
const RETRY_SPREAD_MS: u64 = 5000;
/// Time between two checks whether all parts of the node are alive.
const CHECK_PARTS_INTERVAL: Duration = Duration::from_secs(1);

impl Node {
    /// Stops in order, within 10 s: refuses new bids, waits for those under way, closes the sockets with a time to
    /// reconnect, ends the server, and writes what is in the ledger's queue.
    pub async fn stop(self) {
        self.services.ingress.drain();
        let deadline = Instant::now() + BIDS_TIMEOUT;
        while self.services.ingress.in_flight() > 0 && Instant::now() < deadline {
            tokio::time::sleep(STOP_POLL_INTERVAL).await;
        }
        // The answer comes when all shards have been notified.
        let (from_ms, spread_ms) = (self.retry_from_ms, RETRY_SPREAD_MS);
        let _ = self.services.hub.send(CloseAll { from_ms, spread_ms }).await;
        restart_time::record_stop(&self.services).await;
        // The server itself does not wait for connections that were upgraded.
        let deadline = Instant::now() + SOCKETS_TIMEOUT;
        while self.connections.outside_http() > 0 && Instant::now() < deadline {
            tokio::time::sleep(STOP_POLL_INTERVAL).await;
        }
        self.server.stop(true).await;
        if let Ok(Err(error)) = self.server_task.await {
            log::error!(error:%; "the server ended with an error");
        }
        // A user who comes back without `since` then gets nothing again that they have received already.
        let deadline = Instant::now() + CURSORS_TIMEOUT;
        while let Ok(false) = self.services.hub.send(FlushReceived).await
            && Instant::now() < deadline
        {
            tokio::time::sleep(STOP_POLL_INTERVAL).await;
        }
        let (ledger, (done, stopped)) = (self.ledger, tokio::sync::oneshot::channel());
        // On a thread of its own, which may outlive this call: a database that hangs must not keep the process alive.
        std::thread::spawn(move || {
            ledger.stop();
            let _ = done.send(());
        });
        if tokio::time::timeout(LEDGER_TIMEOUT, stopped).await.is_err() {
            log::error!("the ledger did not stop in time; no write that it still held was answered as stored");
        }
        // Last, so that the other nodes get everything that was committed.
        if let Some(bus) = self.services.topology.bus() {
            bus.stop().await;
        }
    }

    /// Resolves if a part ends by itself that the node can't replace. The process should then end and be started again,
    /// which is safe at any moment, and better than a node that takes no bids.
    pub async fn failed(&mut self) {
        let services = self.services.clone();
        let (ledger, bus) = (&self.ledger, &self.bus);
        let dead_part = async {
            loop {
                tokio::time::sleep(CHECK_PARTS_INTERVAL).await;
                let parts = [
                    ("bid router", services.router.connected()),
                    ("alarm hub", services.hub.connected()),
                    ("rooms", services.rooms.connected()),
                    ("auction clock", services.clock.connected()),
                    ("ledger", ledger.is_running()),
                    ("bus", bus.as_ref().is_none_or(BusThread::is_running)),
                ];
                if let Some((part, _)) = parts.iter().find(|(_, is_alive)| !is_alive) {
                    break *part;
                }
            }
        };
        tokio::select! {
            part = dead_part => log::error!(part; "a part has stopped unexpectedly"),
            ended = &mut self.server_task => match ended {
                Ok(Ok(())) | Err(_) => log::error!(part = "server"; "a part has stopped unexpectedly"),
                Ok(Err(error)) => log::error!(part = "server", error:%; "a part has stopped unexpectedly"),
            },
        }
    }
}
