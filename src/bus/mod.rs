//! What the nodes of one service tell each other, over Redis: alarms to the nodes that hold their receivers' sockets,
//! news to those that hold sockets of the room, who is present to all. Only a nudge: what is lost here, sessions and
//! rooms read from the store within seconds, so nothing that is told waits for an answer and nobody's bid waits for it.
//!
//! `message` is what nodes send, `subscriptions` which channels this node listens on, `membership` which nodes live, `link`
//! the connections, `connection_quota` the one thing that is kept in Redis: which sockets a user has. Without `bus.url` there is one node, and all this is off.

mod channel;
mod connection_quota;
mod link;
mod membership;
mod message;
mod subscriptions;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot};
use url::Url;

pub use self::{
    channel::Channel,
    connection_quota::{IfFull, Seating, SocketOf},
    message::{BusMessage, NodeId, Presence},
};
use self::{
    membership::NodeMembership,
    message::{AnyChannel, Outgoing},
    subscriptions::Subscriptions,
};
use crate::domain::{Alarm, GoodsId, Receiver};

/// What may wait to be told; beyond, it is dropped, counted, and read from the store by whom it concerned.
const QUEUE: usize = 16_384;

/// How long somebody waits for the bus before he goes on without it.
const PATIENCE: Duration = Duration::from_millis(700);
/// How long the last words may take.
const STOP: Duration = Duration::from_millis(400);

/// What the house is told, on the bus's own thread: it must hand it on without waiting.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Nearly all of them are the large one.
pub enum Heard {
    /// Another node said so.
    Told(NodeId, BusMessage),
    /// Other nodes have committed these alarms, one after the other.
    Alarms(Vec<(Alarm, Vec<Receiver>)>),
    /// A node is gone, in order or not: its sockets are no more.
    Gone(NodeId),
    /// Others can be told (again), or something could not be told: this node must say again who is here.
    MustTell,
    /// Others can be told (again), over a connection that has counted no sockets yet.
    MustCount,
}

/// Who hears it.
pub type Ears = Box<dyn Fn(Heard) + Send>;

/// Why a bus can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The URL is none.
    #[error("{0}")]
    Url(String),
    /// No thread could be started.
    #[error("{0}")]
    Thread(#[from] std::io::Error),
}

/// Where the bus is (`bus.url`).
#[derive(Clone)]
pub struct BusUrl {
    client: redis::Client,
    shown: String,
}

impl BusUrl {
    /// Reads `redis://…`.
    ///
    /// # Errors
    /// What is wrong with it, without its password.
    pub fn parse(text: &str) -> Result<Self, BusError> {
        let wrong = || BusError::Url("use redis://HOST:PORT or redis://USER:PASSWORD@HOST:PORT/NUMBER".to_owned());
        let mut url = Url::parse(text).map_err(|_| wrong())?;
        if url.scheme() != "redis" || !url.has_host() {
            return Err(wrong());
        }
        let client = redis::Client::open(text).map_err(|_| wrong())?;
        if url.password().is_some() {
            url.set_password(Some("********")).map_err(|()| wrong())?;
        }
        // Whatever else may hold a secret has no business in a log.
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { client, shown: url.into() })
    }
}

/// Without its password.
impl std::fmt::Display for BusUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Figures for the health endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct BusFigures {
    /// Both connections are there.
    pub is_up: bool,
    /// Other nodes that live.
    pub others: usize,
    /// Channels that this node listens on.
    pub channels: usize,
    /// Messages told.
    pub told: u64,
    /// Messages of other nodes heard.
    pub heard: u64,
    /// Messages not told: too many waited, or there was no connection.
    pub untold: u64,
    /// Messages that nobody could read.
    pub garbled: u64,
    /// Sockets let in that could not be counted.
    pub uncounted: u64,
    /// Times that a connection was lost.
    pub lost: u64,
}

#[derive(Default)]
struct Stats {
    told: AtomicU64,
    heard: AtomicU64,
    untold: AtomicU64,
    garbled: AtomicU64,
    uncounted: AtomicU64,
    lost: AtomicU64,
}

/// A connection over which sockets are counted, and the name under which its counts stand. A new connection has a new
/// name: what was counted before, and may have changed unsaid, dies with the old one.
#[derive(Clone)]
struct Counting {
    connection: redis::aio::MultiplexedConnection,
    name: u64,
}

/// What the connections and the house share.
struct Shared {
    me: NodeId,
    /// Before the names of channels and keys: which service, and how its nodes write.
    prefix: String,
    queue: mpsc::Sender<Outgoing>,
    wanted: Mutex<Subscriptions>,
    /// Something about what is wanted has changed.
    changed: Notify,
    members: Mutex<NodeMembership>,
    /// Where sockets are counted; none while there is no connection.
    counting: Mutex<Option<Counting>>,
    /// Something could not be told that nobody finds in the store.
    owes: AtomicBool,
    hears: AtomicBool,
    tells: AtomicBool,
    stats: Stats,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What stands inside is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way to the other nodes; cheap to clone. Off when there is one node: then nothing here does anything.
#[derive(Clone)]
pub struct Bus(Option<Arc<Shared>>);

/// The thread of the connections.
pub struct BusThread(JoinHandle<()>);

impl BusThread {
    /// Whether it is there.
    pub fn is_running(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Bus {
    /// One node, nobody to tell.
    pub fn off() -> Self {
        Self(None)
    }

    /// Connects, now or as soon as it can, and from then on for ever. `service` names the service among those that use
    /// the same Redis.
    ///
    /// # Errors
    /// No thread could be started. A Redis that is not there is none.
    pub fn open(url: &BusUrl, service: i64, ears: Ears) -> Result<(Self, BusThread), BusError> {
        let me = NodeId::random();
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            me,
            prefix: format!("handsup:{service}:{}:", message::FORMAT),
            queue,
            wanted: Mutex::default(),
            changed: Notify::new(),
            members: Mutex::new(NodeMembership::new(me)),
            counting: Mutex::new(None),
            owes: AtomicBool::new(false),
            hears: AtomicBool::new(false),
            tells: AtomicBool::new(false),
            stats: Stats::default(),
        });
        let thread = link::start(url.client.clone(), Arc::clone(&shared), outgoing, ears)?;
        Ok((Self(Some(shared)), BusThread(thread)))
    }

    /// Tells what waits, and the others that this node is no more. The connections end.
    pub async fn stop(&self) {
        if let Some(shared) = &self.0 {
            let (tell, told) = oneshot::channel();
            let last_words = async {
                if shared.queue.send(Outgoing::Stop(tell)).await.is_ok() {
                    let _ = told.await;
                }
            };
            // Others notice by themselves if it doesn't come to this.
            let _ = tokio::time::timeout(STOP, last_words).await;
        }
    }

    /// Whether there are, or may be, other nodes.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// This node among the others.
    pub fn me(&self) -> Option<NodeId> {
        self.0.as_ref().map(|shared| shared.me)
    }

    /// Whether others can be heard now. Always, where there are none.
    pub fn is_up(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| shared.hears.load(Ordering::Relaxed))
    }

    fn put(&self, outgoing: Outgoing) {
        if let Some(shared) = &self.0
            && shared.queue.try_send(outgoing).is_err()
        {
            shared.stats.untold.fetch_add(1, Ordering::Relaxed);
            shared.owes.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whoever listens on this channel.
    pub fn tell(&self, channel: Channel, told: BusMessage) {
        self.put(Outgoing::One(AnyChannel::Held(channel), told));
    }

    /// Tells all nodes.
    pub fn tell_all(&self, told: BusMessage) {
        self.put(Outgoing::One(AnyChannel::Nodes, told));
    }

    /// Tells the nodes that hold sockets of these receivers.
    pub fn tell_alarm(&self, alarm: Alarm, receivers: Vec<Receiver>) {
        if !receivers.is_empty() {
            self.put(Outgoing::Alarm(alarm, receivers));
        }
    }

    /// Listens on a channel. Resolves when everything that is told from then on is heard; at once if there is no
    /// connection: then it is read from the store. Each call needs its [`release`](Self::release).
    pub fn hold(&self, channel: Channel) -> impl Future<Output = ()> + Send + use<> {
        let confirmed = self.0.as_ref().and_then(|shared| {
            let (tell, told) = oneshot::channel();
            let waits = locked(&shared.wanted).hold(channel, tell);
            shared.changed.notify_one();
            waits.then_some(told)
        });
        async move {
            if let Some(confirmed) = confirmed {
                let _ = tokio::time::timeout(PATIENCE, confirmed).await;
            }
        }
    }

    /// One listener less.
    pub fn release(&self, channel: Channel) {
        if let Some(shared) = &self.0 {
            locked(&shared.wanted).release(channel);
            shared.changed.notify_one();
        }
    }

    /// Whether this node is the first to do what is due for these goods; the others do it a little later, should it
    /// still be undone.
    pub fn is_first_for(&self, goods: GoodsId) -> bool {
        self.0.as_ref().is_none_or(|shared| locked(&shared.members).is_first_for(goods))
    }

    /// Figures now.
    pub fn figures(&self) -> Option<BusFigures> {
        let shared = self.0.as_ref()?;
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Some(BusFigures {
            is_up: shared.hears.load(Ordering::Relaxed) && shared.tells.load(Ordering::Relaxed),
            others: locked(&shared.members).others(),
            channels: locked(&shared.wanted).len(),
            told: read(&shared.stats.told),
            heard: read(&shared.stats.heard),
            untold: read(&shared.stats.untold),
            garbled: read(&shared.stats.garbled),
            uncounted: read(&shared.stats.uncounted),
            lost: read(&shared.stats.lost),
        })
    }
}
