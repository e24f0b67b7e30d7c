//! What a user reads on one device, all his sessions hear. The same way for HTTP and for sockets.

use std::time::Duration;

use actix::Addr;

use super::alarm_hub::{AlarmHub, TellUnread};
use crate::{
    domain::UserId,
    store::{
        Ledger, Store, StoreError, WriteError,
        writes::{MarkRead, ReadAlarms},
    },
};

const PATIENCE: Duration = Duration::from_millis(800);

/// Why alarms were not marked as read, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not written.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// Written, but what is left could not be counted.
    #[error("{0}")]
    Count(#[from] StoreError),
}

/// Marks alarms as read, tells all of the user's sessions, and returns how many are unread and the newest id.
///
/// # Errors
/// [`ReadError`]; trying again does no harm.
pub async fn mark_read(
    ledger: Ledger,
    store: Store,
    hub: Addr<AlarmHub>,
    user: UserId,
    alarms: ReadAlarms,
) -> Result<(i64, i64), ReadError> {
    ledger.write(MarkRead { user, alarms }, PATIENCE).await?;
    // Counted on a reading connection: a long inbox must not hold up the ledger.
    let (unread, last_id) = store.unread(user).await?;
    hub.do_send(TellUnread { user, unread, last_id });
    Ok((unread, last_id))
}
