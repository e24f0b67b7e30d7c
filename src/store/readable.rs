//! What the log says of a database that can't be read: when it begins, how long it lasts, and that it is over.

use std::time::Instant;

use crate::outage::{Failing, Outage};

pub(crate) fn say_readable(over: Option<Failing>) {
    if let Some(over) = over {
        log::info!("the database can be read again after {}", over.in_all());
    }
}

pub(crate) fn say_unreadable(outage: &Outage, error: &dyn std::fmt::Display) {
    if let Some(failing) = outage.failed(Instant::now()) {
        log::error!("the database can't be read{failing}: {error}");
    }
}
