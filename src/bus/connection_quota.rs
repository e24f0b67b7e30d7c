//! Which sockets a user has on all nodes together. No node can know this alone, so it is kept in Redis, which decides
//! in one step which socket has to close. While Redis is away, each node knows its own sockets only.

use std::sync::{Arc, LazyLock};

use redis::Script;

use super::{Bus, ConnectionId, NodeId, REPLY_TIMEOUT, SocketCounter, link::COUNTS_LIVE_MS, locked};
use crate::domain::{Timestamp, UserId};

/// A user's set of sockets expires when nothing has been added to it for this time. No token lives that long.
const KEPT_S: u64 = 14 * 24 * 3600;

/// Adds a socket to its user's sockets and returns those that have to close, so that at most `most` remain (0: no
/// limit). Returns false, and does not add the socket, if `refuse_newest` is set and the user already has `most`.
///
/// The sockets of a user are one sorted set, oldest first. A member is `node:name:connection`, where `name` is the
/// [`SocketCounter`] that added it. Members are removed when the key of their counter has expired. A socket that is
/// added with a limit becomes the newest, even if the node's clock is behind.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local counter, socket, at, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
        local refuse_newest, counter_keys = ARGV[5], ARGV[6]
        redis.call('SET', counter_keys .. counter, 1, 'PX', ARGV[7])
        local lives = {}
        for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
            local name = string.match(member, '^%d+:(%d+):')
            if lives[name] == nil then lives[name] = redis.call('EXISTS', counter_keys .. name) end
            if lives[name] == 0 then redis.call('ZREM', KEYS[1], member) end
        end
        if refuse_newest == '1' and redis.call('ZCARD', KEYS[1]) >= most then return false end
        if most > 0 then
            local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
            if newest then at = math.max(at, tonumber(newest) + 1) end
        end
        redis.call('ZADD', KEYS[1], string.format('%.0f', at), socket)
        redis.call('EXPIRE', KEYS[1], ARGV[8])
        local evicted = {}
        while most > 0 and redis.call('ZCARD', KEYS[1]) > most do
            table.insert(evicted, redis.call('ZPOPMIN', KEYS[1])[1])
        end
        return evicted
        ",
    )
});

/// Counts a user's sockets. Those of a counter whose key has expired don't count.
static COUNT_LIVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local lives, live = {}, 0
        for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
            local name = string.match(member, '^%d+:(%d+):')
            if lives[name] == nil then lives[name] = redis.call('EXISTS', ARGV[1] .. name) end
            live = live + lives[name]
        end
        return live
        ",
    )
});

/// One socket of a user, on this or another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserSocket {
    pub node: NodeId,
    /// Its connection to that node.
    pub connection: ConnectionId,
}

/// The answer to [`Bus::claim_socket`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketClaim {
    /// The socket is counted. The user's limit is kept if these sockets close.
    Granted(Vec<UserSocket>),
    /// The user has as many sockets as allowed, and the new one was to be refused then. It is not counted.
    Full,
    /// Redis did not answer in time. The socket is admitted without being counted.
    Unknown,
}

/// What happens when a user opens a socket and already has as many as allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfFull {
    /// Their oldest socket closes.
    EvictOldest,
    /// The new socket is refused.
    RefuseNewest,
}

impl Bus {
    /// Counts a socket that a user has opened on this node. `at` is when it was opened: it orders the sockets that are
    /// counted again after Redis has lost them.
    pub fn claim_socket(
        &self,
        user: UserId,
        (connection, at): (ConnectionId, Timestamp),
        (most, if_full): (usize, IfFull),
    ) -> impl Future<Output = SocketClaim> + Send + use<> {
        let count = self.count(user, connection, at, most, if_full);
        let shared = Arc::clone(&self.0);
        async move {
            match count.await {
                Some(Some(evicted)) => SocketClaim::Granted(evicted),
                Some(None) => SocketClaim::Full,
                None => {
                    shared.stats.uncounted.inc();
                    SocketClaim::Unknown
                }
            }
        }
    }

    /// Counts a socket again that has been open for a while. No other socket has to close for it.
    pub fn reclaim_socket(
        &self,
        user: UserId,
        connection: ConnectionId,
        at: Timestamp,
    ) -> impl Future<Output = ()> + Send + use<> {
        let count = self.count(user, connection, at, 0, IfFull::EvictOldest);
        async move {
            count.await;
        }
    }

    /// Stops counting a socket that has closed.
    pub fn release_socket(&self, user: UserId, connection: ConnectionId) -> impl Future<Output = ()> + Send + use<> {
        let ready = self.counter().map(|(me, prefix, SocketCounter { connection: redis, name })| {
            let remove =
                redis::Cmd::zrem(format!("{prefix}sockets:{user}"), format!("{}:{name}:{connection}", me.bits()));
            (redis, remove)
        });
        async move {
            let Some((mut redis, remove)) = ready else { return };
            if let Ok(Err(error)) = tokio::time::timeout(REPLY_TIMEOUT, remove.exec_async(&mut redis)).await {
                log::debug!(connection:%, user = user.get(), error:%; "a closed socket is still counted in Redis");
            }
        }
    }

    /// How many sockets the user has on all nodes; `None` if Redis does not say so in time.
    pub(crate) fn count_sockets(&self, user: UserId) -> impl Future<Output = Option<usize>> + Send + use<> {
        let ready = self.counter().map(|(_, prefix, SocketCounter { connection: redis, .. })| {
            let mut count = COUNT_LIVE.key(format!("{prefix}sockets:{user}"));
            count.arg(format!("{prefix}counts:"));
            (redis, count)
        });
        async move {
            let (mut redis, count) = ready?;
            tokio::time::timeout(REPLY_TIMEOUT, count.invoke_async(&mut redis)).await.ok()?.ok()
        }
    }

    fn counter(&self) -> Option<(NodeId, &str, SocketCounter)> {
        let counter = locked(&self.0.counter).clone()?;
        Some((self.0.me, &self.0.prefix, counter))
    }

    /// Runs [`COUNT`]. The outer `None` means that Redis gave no answer, the inner one that the socket was refused.
    fn count(
        &self,
        user: UserId,
        connection: ConnectionId,
        at: Timestamp,
        most: usize,
        if_full: IfFull,
    ) -> impl Future<Output = Option<Option<Vec<UserSocket>>>> + Send + use<> {
        let ready = self.counter().map(|(me, prefix, SocketCounter { connection: redis, name })| {
            let mut count = COUNT.key(format!("{prefix}sockets:{user}"));
            count
                .arg(name)
                .arg(format!("{}:{name}:{connection}", me.bits()))
                .arg(at.micros())
                .arg(most)
                .arg(u8::from(if_full == IfFull::RefuseNewest))
                .arg(format!("{prefix}counts:"))
                .arg(COUNTS_LIVE_MS)
                .arg(KEPT_S);
            (redis, count)
        });
        async move {
            let (mut redis, count) = ready?;
            match tokio::time::timeout(REPLY_TIMEOUT, count.invoke_async::<Option<Vec<String>>>(&mut redis)).await {
                Ok(Ok(evicted)) => {
                    Some(evicted.map(|all| all.iter().filter_map(|member| UserSocket::parse(member)).collect()))
                }
                Ok(Err(error)) => {
                    log::debug!(user = user.get(), error:%; "the sockets of a user can't be counted in Redis");
                    None
                }
                Err(_) => None,
            }
        }
    }
}

impl UserSocket {
    /// Reads a member of the sorted set: `node:name:connection`.
    fn parse(member: &str) -> Option<Self> {
        let mut parts = member.split(':');
        let node = NodeId::from_bits(parts.next()?.parse().ok()?);
        let connection = ConnectionId(parts.nth(1)?.parse().ok()?);
        Some(Self { node, connection })
    }
}
