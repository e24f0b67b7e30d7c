//! `handsup serve`: a node until a signal ends it. SIGHUP reads the settings again.

use std::{future::Future, io, path::PathBuf, sync::Arc};

use futures_util::future::OptionFuture;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{CommandError, say};
use crate::{
    app::{Logging, Node, Settings, SettingsError, make_room},
    time_source::SystemTime,
};

pub(super) async fn serve(settings: &Settings, file: Option<PathBuf>, logging: &Logging) -> Result<(), CommandError> {
    // Heard from the first moment on: a signal that comes while the node starts is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // A file that may not grow any more, be it the log's or the database's, is an error of that write and not the end.
    let _file_too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let fits = make_room(settings)?;
    let mut node = Node::start(settings, Arc::new(SystemTime))?;
    log::info!("open files are enough for session.max up to {fits}");
    warn_of_keys(settings);
    announce(&node);
    let mut reading = None;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = node.failed() => return Err(CommandError::Io(io::Error::other("the server has ended"))),
            _ = hangup.recv(), if reading.is_none() => reading = Some(Box::pin(read_again(file.clone()))),
            Some(read) = OptionFuture::from(reading.as_mut()) => {
                reading = None;
                change(&mut node, read, logging);
            }
        }
    }
    log::info!("ending: no new bids, sockets are told when to come back");
    node.stop().await;
    log::info!("ended");
    Ok(())
}

/// The line that says where the node listens; also in the log, for whoever keeps only that.
pub(super) fn announce(node: &Node) {
    for address in &node.addresses {
        log::info!("listening on http://{address}");
        say(format_args!("listening on http://{address}"));
    }
}

/// Reads the settings on a thread that nobody waits for at the end: a disk that is silent must not keep the process.
fn read_again(file: Option<PathBuf>) -> impl Future<Output = Option<Result<Settings, SettingsError>>> {
    let (tell, read) = oneshot::channel();
    let load = move || {
        let _ = tell.send(Settings::load(file.as_deref()));
    };
    // If there is no thread to be had, nothing is sent either.
    let _ = std::thread::Builder::new().name("settings".to_owned()).spawn(load);
    async { read.await.ok() }
}

/// Puts in force what can change while the node runs, all of it or nothing.
fn change(node: &mut Node, read: Option<Result<Settings, SettingsError>>, logging: &Logging) {
    let Some(read) = read else { return log::error!("SIGHUP: the settings could not be read; nothing is changed") };
    let changed = read.and_then(|settings| Ok((settings.log_rules()?, node.change_settings(&settings)?, settings)));
    match changed {
        Ok((rules, changed, settings)) => {
            logging.change(&rules);
            warn_of_keys(&settings);
            let in_force = if changed.in_force.is_empty() { "nothing".to_owned() } else { changed.in_force.join(", ") };
            log::info!("SIGHUP: the settings are read again; changed: {in_force}");
            if !changed.need_restart.is_empty() {
                log::warn!("SIGHUP: in force only after a restart: {}", changed.need_restart.join(", "));
            }
        }
        Err(error) => log::error!("SIGHUP: nothing is changed: {error}"),
    }
}

/// What is allowed, and not what an operator is likely to want.
fn warn_of_keys(settings: &Settings) {
    let auth = &settings.auth;
    let Some(secret) = &auth.jwt_secret else {
        return log::warn!("auth.insecure_dev_secret is on: anybody can make tokens for this server");
    };
    if auth.jwt_secret_previous.as_ref().is_some_and(|previous| previous.reveal() == secret.reveal()) {
        log::warn!("auth.jwt_secret_previous is the same key as auth.jwt_secret: no key is being rotated");
    }
}
