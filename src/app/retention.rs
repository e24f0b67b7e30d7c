//! Forgetting what is old: past `alarms.keep_days`, and idempotency keys past their day. Portion by portion through
//! the ledger, so that no bid waits for it.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{AlarmId, Timestamp},
    store::{
        Ledger, Store, StoreError, WriteError,
        writes::{ForgetAlarms, ForgetInbox, ForgetKeys},
    },
    time_source::TimeSource,
};

/// How often it is looked for what is old.
const EVERY_MS: i64 = 3_600_000;
/// Inboxes of one portion.
const INBOXES: i64 = 200;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Retention {
    pub store: Store,
    pub ledger: Ledger,
    pub time: Arc<dyn TimeSource>,
    pub keep_days: u32,
}

#[derive(Debug, thiserror::Error)]
enum NotKept {
    #[error("{0}")]
    Read(#[from] StoreError),
    #[error("{0}")]
    Write(#[from] WriteError),
}

impl Retention {
    /// Looks at the start and then every hour, as long as the node runs. What fails is tried again the next time.
    pub(crate) async fn keep_house(self) {
        loop {
            let now = self.time.now();
            if let Err(error) = self.forget(now).await {
                log::warn!("old alarms or keys could not be removed: {error}");
            }
            self.time.wait_until(now.plus_ms(EVERY_MS)).await;
        }
    }

    async fn forget(&self, now: Timestamp) -> Result<(), NotKept> {
        while !self.ledger.write(ForgetKeys, PATIENCE).await? {}
        let cutoff = now.plus_ms(-i64::from(self.keep_days) * 86_400_000);
        if let Some(up_to) = self.store.newest_alarm_before(cutoff).await? {
            self.forget_inboxes(up_to).await?;
            // Only now is none of them in anybody's inbox.
            while !self.ledger.write(ForgetAlarms { up_to }, PATIENCE).await? {}
        }
        Ok(())
    }

    async fn forget_inboxes(&self, up_to: AlarmId) -> Result<(), NotKept> {
        let mut after = None;
        loop {
            let users = self.store.users_after(after, INBOXES).await?;
            let Some(last) = users.last().copied() else { return Ok(()) };
            let portion = ForgetInbox { users, up_to };
            while ForgetInbox::may_have_more(self.ledger.write(portion.clone(), PATIENCE).await?) {}
            after = Some(last);
        }
    }
}
