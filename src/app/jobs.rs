//! What a node does periodically.

use std::{sync::Arc, time::Duration};

use actix::Addr;
use actix_web::{rt::spawn, web};

use super::{erasure_recovery, fanout_recovery, retention::Retention};
use crate::{
    actors::{BroadcastWatchers, Rooms},
    bus::Topology,
    http::Services,
};

/// Time between two removals of idle rate limits.
const FORGET_IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Time between two broadcasts of the numbers of watchers.
const WATCHERS_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two probes of a database that fails.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Starts all periodic jobs. `keep_days` is `alarms.keep_days`.
pub(super) fn start(services: &web::Data<Services>, keep_days: u32) {
    spawn(forget_idle(services.clone()));
    spawn(probe_if_failing(services.clone()));
    spawn(broadcast_watchers(services.rooms.clone()));
    let (store, ledger, time) = (services.store.clone(), services.ledger.clone(), Arc::clone(&services.time));
    if let Topology::Cluster(_) = services.topology {
        spawn(fanout_recovery::run(store.clone(), ledger.clone()));
    }
    spawn(erasure_recovery::run(store.clone(), ledger.clone(), Arc::clone(&time)));
    spawn(Retention { store, ledger, time, keep_days }.run());
}

/// Sends rooms how many watch them.
async fn broadcast_watchers(rooms: Addr<Rooms>) {
    loop {
        tokio::time::sleep(WATCHERS_INTERVAL).await;
        rooms.do_send(BroadcastWatchers);
    }
}

/// Notices that a failing database works again, even if nobody uses it.
async fn probe_if_failing(services: web::Data<Services>) {
    loop {
        tokio::time::sleep(PROBE_INTERVAL).await;
        services.ledger.probe_if_failing();
        services.store.probe_if_failing().await;
    }
}

/// Removes rate limits that nobody has used for a while.
async fn forget_idle(services: web::Data<Services>) {
    loop {
        tokio::time::sleep(FORGET_IDLE_INTERVAL).await;
        services.live.load().rates.forget_idle();
    }
}
