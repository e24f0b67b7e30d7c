//! Caches for a moment whether the node is ready.

use std::time::{Duration, Instant};

/// How long a result is reused.
const CACHE_TIME: Duration = Duration::from_millis(250);

/// The last readiness check: when it was done, and whether the node was ready. `None` before the first.
#[derive(Debug, Default)]
pub(crate) struct Readiness(tokio::sync::Mutex<Option<(Instant, bool)>>);

impl Readiness {
    /// Runs `check` unless its last result is recent. `/health/ready` needs no token and the check uses the ledger, so
    /// however often it is called, bidders must not pay for it.
    pub(crate) async fn check<F: Future<Output = bool>>(&self, check: impl FnOnce() -> F) -> bool {
        let mut last = self.0.lock().await;
        match *last {
            Some((at, is_ready)) if at.elapsed() < CACHE_TIME => is_ready,
            _ => {
                let is_ready = check().await;
                *last = Some((Instant::now(), is_ready));
                is_ready
            }
        }
    }
}
