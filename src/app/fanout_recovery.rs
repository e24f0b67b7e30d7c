//! Resumes fan-outs that a node has left unfinished because it crashed or was stopped.

use std::{collections::HashSet, time::Duration};

use crate::store::{
    Ledger, Store,
    writes::{ResumeFanout, Resumed},
};

/// Time between two polls. A fan-out that looks the same in two of them has been abandoned: with a living node it
/// progresses in this time.
const FAN_OUT_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long the write that takes a fan-out over may take.
const RESUME_TIMEOUT: Duration = Duration::from_secs(2);

/// Polls for abandoned fan-outs, for as long as the node lives.
pub(crate) async fn run(store: Store, ledger: Ledger) {
    let mut previous = HashSet::new();
    loop {
        tokio::time::sleep(FAN_OUT_POLL_INTERVAL).await;
        match store.open_fanouts().await {
            Ok(open) => {
                for fanout in open.iter().filter(|fanout| previous.contains(*fanout)) {
                    let id = fanout.0;
                    match ledger.write(ResumeFanout(id), RESUME_TIMEOUT).await {
                        Ok(Resumed::Yes) => log::warn!(fanout:% = id; "resuming a fan-out abandoned by another node"),
                        Ok(Resumed::Finished) => {}
                        Err(error) => log::debug!(fanout:% = id, error:%; "a fan-out could not be resumed"),
                    }
                }
                previous = open.into_iter().collect();
            }
            Err(error) => log::debug!(error:%; "unfinished fan-outs can't be read"),
        }
    }
}
