//! How long a restart takes: a node records when it stops, and the next one measures the time from there.

use std::time::{Duration, Instant};

use crate::{
    bus::Topology,
    http::Services,
    store::{
        StoreError,
        writes::{ClearStop, RecordStop},
    },
};

/// Sessions reconnect no sooner than this after they are closed.
const MIN_RETRY_MS: u64 = 1000;
/// A longer downtime was no restart: it says nothing about how long the next restart takes.
const MAX_RESTART_MS: i64 = 60_000;
/// How long recording the time of the stop may take.
const RECORD_STOP_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the record of the last stop may take to be cleared.
const CLEAR_STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Records the time of the stop, unless other nodes go on. If this fails, the next stop sends sockets away for the
/// shortest time.
pub(super) async fn record_stop(services: &Services) {
    if let Topology::Single = services.topology {
        let _ = services.ledger.write(RecordStop, RECORD_STOP_TIMEOUT).await;
    }
}

/// The shortest time after which sockets reconnect when this node stops: the duration of the restart that has just
/// ended, since the next one will take about as long. With other nodes it is the minimum: clients reconnect to one of
/// them.
pub(super) fn retry_from_ms(services: &Services) -> Result<u64, StoreError> {
    if let Topology::Cluster(_) = services.topology {
        return Ok(MIN_RETRY_MS);
    }
    let Some(at) = services.store.stopped_at()? else { return Ok(MIN_RETRY_MS) };
    services.ledger.submit(ClearStop, Instant::now() + CLEAR_STOP_TIMEOUT, |_| {});
    let took_ms = services.time.now().ms_since(at);
    if !(0..=MAX_RESTART_MS).contains(&took_ms) {
        return Ok(MIN_RETRY_MS);
    }
    log::info!(took_ms; "restarted: listening again after the sockets were closed");
    Ok(took_ms.unsigned_abs().max(MIN_RETRY_MS))
}
