//! Which sockets a user has on all nodes together: the one thing that nodes can't each keep for themselves. It stands in
//! Redis, which decides at once whose turn it is to go; while it is away each node knows only its own.

use std::sync::{LazyLock, atomic::Ordering};

use redis::Script;

use super::{Bus, Counting, NodeId, PATIENCE, link::COUNTS_LIVE_MS, locked};
use crate::domain::{Timestamp, UserId};

/// A user's sockets that nobody has added to for so long are none: tokens don't live that long.
const KEPT_S: u64 = 14 * 24 * 3600;

/// The sockets of one user stand in one sorted set, oldest first, each with its node and the connection that counts it
/// there; those of connections that are gone don't count, and who counts lives. A socket that is counted is always the
/// newest, whatever the clocks of the nodes say. Answers which sockets have to go so that there are no more than the most
/// that are allowed (0: as many as there are), or nothing if the socket itself was to give way and has not been counted.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local name, socket, at, most, gives_way, living = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
        redis.call('SET', living .. name, 1, 'PX', ARGV[7])
        local lives = {}
        for _, one in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
            local of = string.match(one, '^%d+:(%d+):')
            if lives[of] == nil then lives[of] = redis.call('EXISTS', living .. of) end
            if lives[of] == 0 then redis.call('ZREM', KEYS[1], one) end
        end
        if gives_way == '1' and redis.call('ZCARD', KEYS[1]) >= most then return false end
        if most > 0 then
            local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
            if newest then at = math.max(at, tonumber(newest) + 1) end
        end
        redis.call('ZADD', KEYS[1], string.format('%.0f', at), socket)
        redis.call('EXPIRE', KEYS[1], ARGV[8])
        local gone = {}
        while most > 0 and redis.call('ZCARD', KEYS[1]) > most do
            table.insert(gone, redis.call('ZPOPMIN', KEYS[1])[1])
        end
        return gone
        ",
    )
});

/// One socket of a user, on whichever node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOf {
    /// Where it is.
    pub node: NodeId,
    /// Which one there.
    pub connection: u64,
}

/// What becomes of a socket that a user opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seating {
    /// It is counted, and these are too many now.
    Counted(Vec<SocketOf>),
    /// There are as many as there may be, and it gives way.
    Full,
    /// Nobody could be asked: it is let in.
    Unknown,
}

/// Who goes if a user has as many sockets as he may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfFull {
    /// His oldest one.
    OldestGoes,
    /// The new one.
    NewestGoes,
}

impl Bus {
    /// Counts a socket that a user has opened on this node. `at` orders it among those that are counted again after Redis
    /// has lost them.
    pub fn seat(
        &self,
        user: UserId,
        (connection, at): (u64, Timestamp),
        (most, if_full): (usize, IfFull),
    ) -> impl Future<Output = Seating> + Send + use<> {
        let asked = self.count(user, connection, at, most, if_full);
        let shared = self.0.clone();
        async move {
            match asked.await {
                Some(Some(gone)) => Seating::Counted(gone),
                Some(None) => Seating::Full,
                None => {
                    if let Some(shared) = shared {
                        shared.stats.uncounted.fetch_add(1, Ordering::Relaxed);
                    }
                    Seating::Unknown
                }
            }
        }
    }

    /// Counts a socket that has been open for a while; nobody has to go for it.
    pub fn seat_again(&self, user: UserId, connection: u64, at: Timestamp) -> impl Future<Output = ()> + Send + use<> {
        let counted = self.count(user, connection, at, 0, IfFull::OldestGoes);
        async move {
            counted.await;
        }
    }

    /// A socket that was counted is gone.
    pub fn unseat(&self, user: UserId, connection: u64) -> impl Future<Output = ()> + Send + use<> {
        let ready = self.counting().map(|(me, prefix, Counting { connection: redis, name })| {
            let gone =
                redis::Cmd::zrem(format!("{prefix}sockets:{user}"), format!("{}:{name}:{connection}", me.bits()));
            (redis, gone)
        });
        async move {
            let Some((mut redis, gone)) = ready else { return };
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, gone.exec_async(&mut redis)).await {
                log::debug!("a socket that is gone still counts: {error}");
            }
        }
    }

    fn counting(&self) -> Option<(NodeId, &str, Counting)> {
        let shared = self.0.as_ref()?;
        let counting = locked(&shared.counting).clone()?;
        Some((shared.me, &shared.prefix, counting))
    }

    fn count(
        &self,
        user: UserId,
        connection: u64,
        at: Timestamp,
        most: usize,
        if_full: IfFull,
    ) -> impl Future<Output = Option<Option<Vec<SocketOf>>>> + Send + use<> {
        let ready = self.counting().map(|(me, prefix, Counting { connection: redis, name })| {
            let mut count = COUNT.key(format!("{prefix}sockets:{user}"));
            count
                .arg(name)
                .arg(format!("{}:{name}:{connection}", me.bits()))
                .arg(at.micros())
                .arg(most)
                .arg(u8::from(if_full == IfFull::NewestGoes))
                .arg(format!("{prefix}counts:"))
                .arg(COUNTS_LIVE_MS)
                .arg(KEPT_S);
            (redis, count)
        });
        async move {
            let (mut redis, count) = ready?;
            match tokio::time::timeout(PATIENCE, count.invoke_async::<Option<Vec<String>>>(&mut redis)).await {
                Ok(Ok(gone)) => Some(gone.map(|gone| gone.iter().filter_map(|one| SocketOf::parse(one)).collect())),
                Ok(Err(error)) => {
                    log::debug!("sockets can't be counted: {error}");
                    None
                }
                Err(_) => None,
            }
        }
    }
}

impl SocketOf {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let node = NodeId::from_bits(parts.next()?.parse().ok()?);
        let connection = parts.nth(1)?.parse().ok()?;
        Some(Self { node, connection })
    }
}
