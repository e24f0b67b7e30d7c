//! Removes what is old: inbox rows and alarms after `alarms.keep_days`, idempotency keys after a day. It does so in
//! small portions through the ledger, so that no bid waits long for it.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{AlarmId, Timestamp},
    store::{
        Ledger, Store, StoreError, WriteError,
        writes::{PruneAlarms, PruneInbox, PruneKeys, Pruned},
    },
    time_source::TimeSource,
};

/// Time between two runs.
const RUN_INTERVAL_MS: i64 = 3_600_000;
/// Users whose inboxes are one portion.
const USERS_LIMIT: i64 = 200;
/// How long the write of one portion may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The job and what it needs.
pub(crate) struct Retention {
    pub store: Store,
    pub ledger: Ledger,
    pub time: Arc<dyn TimeSource>,
    pub keep_days: u32,
}

#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Read(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Retention {
    /// Removes what is old at the start and then every hour, for as long as the node lives. A failed run is repeated an
    /// hour later.
    pub(crate) async fn run(self) {
        loop {
            let now = self.time.now();
            if let Err(error) = self.prune(now).await {
                log::warn!(error:%; "old alarms or keys could not be removed");
            }
            self.time.wait_until(now.plus_ms(RUN_INTERVAL_MS)).await;
        }
    }

    async fn prune(&self, now: Timestamp) -> Result<(), RetentionError> {
        while self.ledger.write(PruneKeys, WRITE_TIMEOUT).await? == Pruned::Portion {}
        let cutoff = now.plus_ms(-i64::from(self.keep_days) * 86_400_000);
        if let Some(up_to) = self.store.newest_alarm_before(cutoff).await? {
            self.prune_inboxes(up_to).await?;
            // Not before the inboxes: their rows refer to these alarms.
            while self.ledger.write(PruneAlarms { up_to }, WRITE_TIMEOUT).await? == Pruned::Portion {}
        }
        Ok(())
    }

    async fn prune_inboxes(&self, up_to: AlarmId) -> Result<(), RetentionError> {
        let mut after = None;
        loop {
            let users = self.store.users_with_alarms(after, USERS_LIMIT).await?;
            let Some(last) = users.last().copied() else { return Ok(()) };
            let portion = PruneInbox { users, up_to };
            while self.ledger.write(portion.clone(), WRITE_TIMEOUT).await? == Pruned::Portion {}
            after = Some(last);
        }
    }
}
