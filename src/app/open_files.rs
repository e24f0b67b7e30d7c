//! The process's limit of open files. Every connection of a client takes one. The node reserves the files that it needs
//! itself, so that clients can't keep it from its database, and a connection beyond the limit is refused at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Settings, SettingsError, settings_error::invalid};
use crate::http::ConnectionLimits;

/// Files of the process itself: stdio, runtimes, listeners, the ledger's connection, the bus, pictures being served.
const OWN_FILES: u64 = 48;
const FILES_PER_WORKER: u64 = 4;
/// A reading connection to SQLite opens the database, its WAL, and at times a temporary file.
const FILES_PER_READER: u64 = 3;
/// For this many sockets, one file is reserved for a connection that only sends requests …
const SOCKETS_PER_REQUEST_CONNECTION: u64 = 8;
/// … and at least this many in all.
const MIN_REQUEST_CONNECTIONS: u64 = 16;

/// Raises the limit of open files as far as allowed, and returns the largest `session.max` that fits it.
///
/// # Errors
/// `session.max` does not fit.
pub(crate) fn ensure_sockets_fit(settings: &Settings) -> Result<u64, SettingsError> {
    let limit = raise();
    let (max, fits) = (settings.session.max as u64, fitting(limit, settings));
    if max > fits {
        let problem = format!(
            "{max} sockets do not fit: this process may have {limit} files open, which is enough for {fits}; raise that limit \
             (ulimit -n, LimitNOFILE=) or lower session.max"
        );
        return Err(invalid("session.max", problem));
    }
    Ok(fits)
}

/// Raises the limit like [`ensure_sockets_fit`], and returns the largest `session.max` that fits it.
#[cfg(feature = "demo")]
pub(crate) fn max_sockets(settings: &Settings) -> usize {
    usize::try_from(fitting(raise(), settings)).unwrap_or(usize::MAX)
}

/// How many connections of clients may be open at once, sockets and others: on the node, under the current limit, and
/// of one address.
pub(super) fn connection_limits(settings: &Settings) -> Result<ConnectionLimits, SettingsError> {
    let limit = soft(getrlimit(Resource::Nofile));
    let node = usize::try_from(limit.saturating_sub(reserved(settings))).unwrap_or(usize::MAX);
    let (address, proxies) = (settings.limits.connections_per_address, settings.trusted_proxies()?);
    Ok(ConnectionLimits { node, address, proxies })
}

fn soft(limit: Rlimit) -> u64 {
    limit.current.unwrap_or(u64::MAX)
}

/// Raises the soft limit to the hard one, and returns the limit that then holds.
fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        log::warn!(limit = soft(limit), error:%; "the limit of open files can't be raised");
    }
    soft(getrlimit(Resource::Nofile))
}

fn reserved(settings: &Settings) -> u64 {
    OWN_FILES + FILES_PER_WORKER * settings.workers() as u64 + FILES_PER_READER * u64::from(settings.database.pool)
}

/// How many sockets fit into a number of open files.
fn fitting(files: u64, settings: &Settings) -> u64 {
    let rest = files.saturating_sub(reserved(settings));
    let by_share = rest.saturating_mul(SOCKETS_PER_REQUEST_CONNECTION) / (SOCKETS_PER_REQUEST_CONNECTION + 1);
    by_share.min(rest.saturating_sub(MIN_REQUEST_CONNECTIONS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_that_fit_leave_files_for_the_node_and_for_other_connections() {
        let mut settings = Settings::defaults().unwrap();
        settings.server.workers = Some(2);
        assert_eq!(reserved(&settings), 80);
        for (files, fits) in [(0, 0), (80, 0), (96, 0), (97, 1), (300, 195), (20_000, 17_706), (u64::MAX, u64::MAX / 9)]
        {
            assert_eq!(fitting(files, &settings), fits, "{files}");
        }
    }
}
