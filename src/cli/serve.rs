//! `handsup serve`: runs a node until SIGTERM or SIGINT stops it. SIGHUP reloads the settings.

use std::{future::Future, io, path::PathBuf, sync::Arc};

use futures_util::future::OptionFuture;
use secrecy::ExposeSecret;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{CommandError, print_line};
use crate::{
    app::{Logging, Node, Settings, SettingsError, ensure_sockets_fit},
    http::{Keys, TokenAlgorithm},
    time_source::SystemTime,
};

pub(super) async fn serve(settings: &Settings, file: Option<PathBuf>, logging: &Logging) -> Result<(), CommandError> {
    // Registered before the node starts, so that no signal is lost meanwhile.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Without a handler, a write beyond the limit of a file's size would kill the process. Like this, only the write
    // fails.
    let _file_too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let fits = ensure_sockets_fit(settings)?;
    let mut node = Node::start(settings, Arc::new(SystemTime))?;
    log::info!(session_max = fits; "the limit of open files allows this many sockets");
    warn_of_weak_keys(settings);
    announce(&node);
    let mut reload = None;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = node.failed() => return Err(CommandError::Io(io::Error::other("the server has stopped unexpectedly"))),
            _ = hangup.recv(), if reload.is_none() => reload = Some(Box::pin(read_settings(file.clone()))),
            Some(read) = OptionFuture::from(reload.as_mut()) => {
                reload = None;
                apply_settings(&mut node, read, logging);
            }
        }
    }
    log::info!("stopping: no new bids, sockets are closed with a time to reconnect");
    node.stop().await;
    log::info!("stopped");
    Ok(())
}

/// Prints the addresses that the node listens on, and logs them.
pub(super) fn announce(node: &Node) {
    for address in &node.addresses {
        log::info!(address = format!("http://{address}"); "listening");
        print_line(format_args!("listening on http://{address}"));
    }
}

/// Reads the settings and their keys on a thread of its own, which may outlive this call: a disk that hangs must not
/// keep the process alive. `None` if the thread could not be started, or panicked.
fn read_settings(file: Option<PathBuf>) -> impl Future<Output = Option<Result<(Settings, Keys), SettingsError>>> {
    let (sender, read) = oneshot::channel();
    let load = move || {
        let read = Settings::load(file.as_deref()).and_then(|settings| {
            let keys = settings.auth.read_keys()?;
            Ok((settings, keys))
        });
        let _ = sender.send(read);
    };
    // If the thread can't be started, the sender is dropped, and the receiver gets `None`.
    let _ = std::thread::Builder::new().name("settings".to_owned()).spawn(load);
    async { read.await.ok() }
}

/// Applies the settings that can change while the node runs, all of them or none.
fn apply_settings(node: &mut Node, read: Option<Result<(Settings, Keys), SettingsError>>, logging: &Logging) {
    let Some(read) = read else { return log::error!("SIGHUP: settings not reloaded: they could not be read") };
    let changed = read.and_then(|(settings, keys)| {
        let rules = settings.log_rules()?;
        Ok((rules, node.change_settings(&settings, keys)?, settings))
    });
    match changed {
        Ok((rules, changed, settings)) => {
            logging.change(&rules);
            warn_of_weak_keys(&settings);
            let applied = if changed.applied.is_empty() { "nothing".to_owned() } else { changed.applied.join(", ") };
            log::info!(changed = applied; "SIGHUP: settings reloaded");
            if !changed.needs_restart.is_empty() {
                log::warn!(changed = changed.needs_restart.join(", "); "SIGHUP: needs a restart");
            }
        }
        Err(error) => log::error!(error:%; "SIGHUP: settings not reloaded"),
    }
}

/// Warns of keys that are allowed but probably not intended.
fn warn_of_weak_keys(settings: &Settings) {
    let auth = &settings.auth;
    if auth.algorithm != TokenAlgorithm::Hs256 {
        for (key, _) in auth.secrets().iter().filter(|(_, secret)| secret.is_some()) {
            log::warn!(key, algorithm:% = auth.algorithm; "a setting is not used with this auth.algorithm");
        }
        return;
    }
    let Some(secret) = &auth.jwt_secret else {
        return log::warn!("auth.insecure_dev_secret is on: anybody can make tokens for this server");
    };
    if auth.jwt_secret_previous.as_ref().is_some_and(|previous| previous.expose_secret() == secret.expose_secret()) {
        log::warn!("auth.jwt_secret_previous is the same key as auth.jwt_secret: no key is being rotated");
    }
}
