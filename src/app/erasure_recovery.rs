//! Ends erasures of users: goes over each once more when nothing of the user can be under way, also over those that a
//! node has left unfinished because it crashed or was stopped.

use std::{sync::Arc, time::Duration};

use crate::{
    store::{Ledger, Store, writes::ErasureRun},
    time_source::TimeSource,
};

/// Time between two polls.
const ERASURE_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Time after which no write of an erased user is under way on any node. It is longer than a node takes to learn that the
/// user is inactive, and longer than a write may wait.
const SETTLE_MS: i64 = 10_000;

/// Polls for erasures, for as long as the node lives. Several nodes may do the same one.
pub(crate) async fn run(store: Store, ledger: Ledger, time: Arc<dyn TimeSource>) {
    loop {
        tokio::time::sleep(ERASURE_POLL_INTERVAL).await;
        match store.open_erasures(time.now().plus_ms(-SETTLE_MS)).await {
            Ok(users) => {
                for user in users {
                    match ledger.erase(user, ErasureRun::Last).await {
                        Ok(()) => log::info!(user = user.get(); "a user is erased"),
                        Err(error) => log::debug!(user = user.get(), error:%; "a user could not be erased"),
                    }
                }
            }
            Err(error) => log::debug!(error:%; "unfinished erasures can't be read"),
        }
    }
}
