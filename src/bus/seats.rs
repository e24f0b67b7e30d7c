//! How many sockets a user has on all nodes together: the one count that nodes can't each keep for themselves. It stands
//! in Redis, which adds up and decides at once; while it is away each node counts its own.

use std::sync::{LazyLock, atomic::Ordering};

use redis::Script;

use super::{Bus, Counting, PATIENCE, link::COUNTS_LIVE_MS, locked};
use crate::domain::UserId;

/// A count that nobody has changed for so long is of no socket: tokens don't live that long.
const KEPT_S: u64 = 14 * 24 * 3600;
/// Counts of nothing are kept for so long that an older one that comes late finds them.
const NONE_KEPT_S: u64 = 60;

/// The counts of one user stand in one hash, by the connection that counts, each with the version of its writer: an older
/// count that comes late changes nothing, and fits if the newer one does, in which it is contained. Those of connections
/// that are gone don't count; who counts lives. With the most that are allowed it answers whether the new count fits;
/// without, it only writes it down.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local me, version, mine, most, living = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
        redis.call('SET', living .. me, 1, 'PX', ARGV[7])
        local others, newer, all = 0, nil, redis.call('HGETALL', KEYS[1])
        for i = 1, #all, 2 do
            local at, count = string.match(all[i + 1], '^(%d+) (%d+)$')
            if all[i] == me then
                if tonumber(at) > version then newer = tonumber(count) end
            elseif redis.call('EXISTS', living .. all[i]) == 1 then
                others = others + tonumber(count)
            else
                redis.call('HDEL', KEYS[1], all[i])
            end
        end
        if most > 0 and others + (newer or mine) > most then return 0 end
        if not newer then
            redis.call('HSET', KEYS[1], me, ARGV[2] .. ' ' .. ARGV[3])
            redis.call('EXPIRE', KEYS[1], others + mine > 0 and ARGV[6] or ARGV[8])
        end
        return 1
        ",
    )
});

impl Bus {
    /// Whether a user who has `mine` sockets on this node, the new one among them, has no more than `most` on all nodes.
    /// What can't be asked is not refused.
    pub fn seat(&self, user: UserId, mine: usize, most: usize) -> impl Future<Output = bool> + Send + use<> {
        let asked = self.count(user, mine, most);
        let shared = self.0.clone();
        async move {
            let fits = asked.await;
            if let (None, Some(shared)) = (fits, shared) {
                shared.stats.uncounted.fetch_add(1, Ordering::Relaxed);
            }
            fits != Some(0)
        }
    }

    /// The user has so many sockets on this node now.
    pub fn seated(&self, user: UserId, mine: usize) -> impl Future<Output = ()> + Send + use<> {
        let told = self.count(user, mine, 0);
        async move {
            told.await;
        }
    }

    fn count(&self, user: UserId, mine: usize, most: usize) -> impl Future<Output = Option<u8>> + Send + use<> {
        let ready = self.0.as_ref().and_then(|shared| {
            let Counting { connection, name } = locked(&shared.counting).clone()?;
            // Taken here, in the order in which the counts were true.
            let version = shared.seats_version.fetch_add(1, Ordering::Relaxed);
            let mut count = COUNT.key(format!("{}seats:{user}", shared.prefix));
            count
                .arg(name)
                .arg(version)
                .arg(mine)
                .arg(most)
                .arg(format!("{}counts:", shared.prefix))
                .arg(KEPT_S)
                .arg(COUNTS_LIVE_MS)
                .arg(NONE_KEPT_S);
            Some((connection, count))
        });
        async move {
            let (mut conn, count) = ready?;
            match tokio::time::timeout(PATIENCE, count.invoke_async(&mut conn)).await {
                Ok(Ok(fits)) => Some(fits),
                Ok(Err(error)) => {
                    log::debug!("sockets can't be counted: {error}");
                    None
                }
                Err(_) => None,
            }
        }
    }
}
