//! Marks alarms as read, for HTTP and for sockets alike, and sends the new unread count to all sessions of the user.

use std::time::Duration;

use actix::Addr;

use super::alarm_hub::{AlarmHub, NotifyUnread};
use crate::{
    domain::UserId,
    store::{
        Ledger, Store, StoreError, WriteError,
        writes::{MarkRead, ReadAlarms},
    },
};

/// Time limit for the write.
const MARK_READ_TIMEOUT: Duration = Duration::from_millis(800);

/// Why [`mark_read`] failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The alarms may not be marked as read.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The alarms are marked as read, but the unread ones could not be counted.
    #[error(transparent)]
    Count(#[from] StoreError),
}

/// Marks alarms as read and notifies all sessions of the user. Returns the number of unread alarms and the newest alarm
/// id in the inbox (0 if it is empty).
///
/// # Errors
/// [`ReadError`]. The call is idempotent and may be repeated.
pub(crate) async fn mark_read(
    ledger: Ledger,
    store: Store,
    hub: Addr<AlarmHub>,
    user: UserId,
    alarms: ReadAlarms,
) -> Result<(i64, i64), ReadError> {
    ledger.write(MarkRead { user, alarms }, MARK_READ_TIMEOUT).await?;
    // Counting uses a read connection: a long inbox must not delay the ledger.
    let (unread, last_id) = store.unread(user).await?;
    hub.do_send(NotifyUnread { user, unread, last_id });
    Ok((unread, last_id))
}
