//! Whether the node was ready when somebody last looked.

use std::time::{Duration, Instant};

/// How long an answer about readiness holds.
const READINESS_HOLDS: Duration = Duration::from_millis(250);

/// When it was last seen whether the node is ready, and whether it was.
#[derive(Debug, Default)]
pub struct Readiness(tokio::sync::Mutex<Option<(Instant, bool)>>);

impl Readiness {
    /// Looks once for all who ask within a moment: anybody may ask, and must not cost the bidders anything.
    pub(crate) async fn look<F: Future<Output = bool>>(&self, look: impl FnOnce() -> F) -> bool {
        let mut seen = self.0.lock().await;
        match *seen {
            Some((at, ready)) if at.elapsed() < READINESS_HOLDS => ready,
            _ => {
                let ready = look().await;
                *seen = Some((Instant::now(), ready));
                ready
            }
        }
    }
}
