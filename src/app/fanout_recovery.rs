//! Fan-outs of nodes that are gone: whichever node first sees one that has stood still goes on with it.

use std::{collections::HashSet, time::Duration};

use crate::store::{Ledger, Store, writes::AdoptFanout};

/// Between two looks. A fan-out whose node lives comes farther in this time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long taking one over may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks for as long as the node lives.
pub(crate) async fn adopt(store: Store, ledger: Ledger) {
    let mut before = HashSet::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match store.open_fanouts().await {
            Ok(open) => {
                for one in open.iter().filter(|one| before.contains(*one)) {
                    match ledger.write(AdoptFanout(one.0), PATIENCE).await {
                        Ok(true) => log::warn!("resuming fan-out {} abandoned by another node", one.0),
                        Ok(false) => {}
                        Err(error) => log::debug!("a fan-out could not be taken over: {error}"),
                    }
                }
                before = open.into_iter().collect();
            }
            Err(error) => log::debug!("open fan-outs can't be looked up: {error}"),
        }
    }
}
