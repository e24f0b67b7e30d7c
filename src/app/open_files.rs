//! Open files of the process: every connection is one. What the node needs besides is kept for it, so that clients who
//! take all the rest neither keep the database from being reached nor wait for ever.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Settings, SettingsError, settings_error::wrong};

/// Of the process itself: stdio, runtimes, listeners, the writer, the bus, pictures on their way.
const OWN: u64 = 48;
const PER_WORKER: u64 = 4;
/// A reading connection to SQLite has the database, its log, and now and then a temporary file.
const PER_READER: u64 = 3;
/// Beside sockets there are clients that only ask: one for so many sockets, and not fewer than this.
const SOCKETS_PER_ASKING: u64 = 8;
const LEAST_ASKING: u64 = 16;

/// Raises what this process may have open as far as it goes. Gives the largest `session.max` that fits.
///
/// # Errors
/// `session.max` does not fit.
pub fn make_room(settings: &Settings) -> Result<u64, SettingsError> {
    let most = raise();
    let (max, fits) = (settings.session.max as u64, fitting(most, settings));
    if max > fits {
        let problem = format!(
            "{max} sockets do not fit: this process may have {most} files open, which is enough for {fits}; raise that limit \
             (ulimit -n, LimitNOFILE=) or lower session.max"
        );
        return Err(wrong("session.max", problem));
    }
    Ok(fits)
}

/// The largest `session.max` that fits, once all is raised that can be.
pub fn most_sockets(settings: &Settings) -> usize {
    usize::try_from(fitting(raise(), settings)).unwrap_or(usize::MAX)
}

/// Connections of clients that may be open at once, sockets or not, as the limit is now.
pub(super) fn for_clients(settings: &Settings) -> usize {
    let limit = soft(getrlimit(Resource::Nofile));
    usize::try_from(limit.saturating_sub(own(settings))).unwrap_or(usize::MAX)
}

fn soft(limit: Rlimit) -> u64 {
    limit.current.unwrap_or(u64::MAX)
}

/// Raises the soft limit to the hard one; gives what holds then.
fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        log::warn!("the limit of open files stays at {}, it can't be raised: {error}", soft(limit));
    }
    soft(getrlimit(Resource::Nofile))
}

fn own(settings: &Settings) -> u64 {
    OWN + PER_WORKER * settings.workers() as u64 + PER_READER * u64::from(settings.database.pool)
}

fn fitting(files: u64, settings: &Settings) -> u64 {
    let rest = files.saturating_sub(own(settings));
    let by_share = rest.saturating_mul(SOCKETS_PER_ASKING) / (SOCKETS_PER_ASKING + 1);
    by_share.min(rest.saturating_sub(LEAST_ASKING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_leaves_files_for_the_node_and_for_clients_that_only_ask() {
        let mut settings = Settings::defaults().unwrap();
        settings.server.workers = Some(2);
        assert_eq!(own(&settings), 80);
        for (files, fits) in [(0, 0), (80, 0), (96, 0), (97, 1), (300, 195), (20_000, 17_706), (u64::MAX, u64::MAX / 9)]
        {
            assert_eq!(fitting(files, &settings), fits, "{files}");
        }
    }
}
