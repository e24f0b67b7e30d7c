//! The bus: how the nodes of one service send each other what they have committed, over Redis.
//!
//! Alarms go to the nodes that hold sockets of their receivers, room events to the nodes that hold sockets of the room,
//! changes of presence to all nodes. The database stays the truth: sessions and rooms read from the store within
//! seconds what a lost message would have said. Nobody therefore waits for a message to be sent, least of all a bid.
//!
//! - `message`: what nodes send each other, and its encoding
//! - `channel`: what a node can subscribe to
//! - `subscriptions`: which channels this node is subscribed to, and which it should be
//! - `membership`: which other nodes live
//! - `link`: the connections to Redis and the thread that serves them
//! - `connection_quota`: the one thing that is kept in Redis, namely which sockets a user has
//!
//! Without `bus.url` there is one node and no bus: [`Topology`] says which it is.

mod channel;
mod connection_quota;
mod link;
mod membership;
mod message;
mod subscriptions;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot};
use url::Url;

use self::{
    membership::NodeMembership,
    message::{AnyChannel, Outgoing},
    subscriptions::Subscriptions,
};
use crate::{
    domain::{Alarm, GoodsId, Receiver},
    metrics::{Counter, ReadGauge, Registry},
    store::{MASK, Sharing},
};
pub(crate) use {
    self::channel::Channel,
    self::message::{BusMessage, NodeId, PresenceChange},
};
pub use {
    self::connection_quota::{IfFull, SocketClaim, UserSocket},
    self::message::ConnectionId,
};

/// Messages that may wait to be sent. More are dropped and counted; the nodes concerned read the store instead.
const OUTGOING_LIMIT: usize = 16_384;

/// How long a caller waits for Redis before it goes on without the answer.
const REPLY_TIMEOUT: Duration = Duration::from_millis(700);
/// How long [`Bus::stop`] waits for the last messages to be sent.
const STOP_TIMEOUT: Duration = Duration::from_millis(400);

/// What the bus reports to its [`BusListener`].
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Nearly all of them are the large one.
pub enum BusEvent {
    Message(NodeId, BusMessage),
    /// Alarms that other nodes have committed, in the order of their arrival, with the receivers that this node has
    /// subscribed to.
    Alarms(Vec<(Alarm, Vec<Receiver>)>),
    /// A node has stopped or crashed: its sockets no longer exist.
    NodeGone(NodeId),
    /// This node must announce again who is present on it: it has connected, or a message was dropped.
    AnnouncePresence,
    /// This node must claim all its sockets again: its counts in Redis are new, or may have expired.
    RecountSockets,
}

/// Receives the bus's events.
pub trait BusListener: Send {
    /// Called on the bus's thread; must not block.
    fn on_bus_event(&self, event: BusEvent);
}

impl<F: Fn(BusEvent) + Send> BusListener for F {
    fn on_bus_event(&self, event: BusEvent) {
        self(event);
    }
}

/// The URL of the bus has a wrong form.
#[derive(Debug, thiserror::Error)]
#[error("use redis://HOST:PORT or redis://USER:PASSWORD@HOST:PORT/NUMBER")]
pub struct BusUrlError;

/// The address of the Redis server (`bus.url`).
#[derive(Clone)]
pub struct BusUrl {
    client: redis::Client,
    shown: String,
}

impl BusUrl {
    /// Reads `redis://…`.
    ///
    /// # Errors
    /// The URL has a wrong form.
    pub fn parse(text: &str) -> Result<Self, BusUrlError> {
        let mut url = Url::parse(text).map_err(|_| BusUrlError)?;
        if url.scheme() != "redis" || !url.has_host() {
            return Err(BusUrlError);
        }
        let client = redis::Client::open(text).map_err(|_| BusUrlError)?;
        if url.password().is_some() {
            url.set_password(Some(MASK)).map_err(|()| BusUrlError)?;
        }
        // The query and the fragment may hold secrets too.
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { client, shown: url.into() })
    }
}

/// Without the password.
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

/// Figures for the health endpoint. Counts are since the node's start.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct BusFigures {
    /// Whether both connections to Redis are up.
    #[serde(skip)]
    pub is_up: bool,
    /// Other nodes that live.
    pub others: usize,
    /// Channels that this node is subscribed to.
    pub channels: usize,
    #[serde(rename = "told")]
    pub sent: u64,
    #[serde(rename = "heard")]
    pub received: u64,
    /// Messages dropped: too many waited, or there was no connection.
    #[serde(rename = "untold")]
    pub dropped: u64,
    /// Messages received that could not be decoded.
    #[serde(rename = "garbled")]
    pub unreadable: u64,
    /// Sockets admitted though Redis could not count them.
    pub uncounted: u64,
    pub connections_lost: u64,
}

#[derive(Default)]
struct Stats {
    sent: Counter,
    received: Counter,
    dropped: Counter,
    unreadable: Counter,
    uncounted: Counter,
    connections_lost: Counter,
}

/// The connection over which this node counts sockets in Redis, and the random name under which it counts them. A new
/// connection gets a new name: counts of the old name may miss changes, so they expire with it.
#[derive(Clone)]
struct SocketCounter {
    connection: redis::aio::MultiplexedConnection,
    name: u64,
}

/// What [`Bus`] and the bus's thread share.
struct Shared {
    me: NodeId,
    /// Begins the names of all channels and keys: it holds the service's id and the version of the encoding.
    prefix: String,
    queue: mpsc::Sender<Outgoing>,
    subscriptions: Mutex<Subscriptions>,
    /// Wakes the thread when `subscriptions` has something to do.
    subscriptions_changed: Notify,
    membership: Mutex<NodeMembership>,
    /// `None` while there is no connection.
    counter: Mutex<Option<SocketCounter>>,
    /// A message was dropped. It may have been about presence, which no other node can read from the store.
    must_announce: AtomicBool,
    is_receiving: AtomicBool,
    is_sending: AtomicBool,
    stats: Stats,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A lock that a panic has poisoned is fine: the value is consistent between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle to the bus; cheap to clone.
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

/// The bus's end towards Redis, to be started with the listener.
pub struct BusLink {
    client: redis::Client,
    shared: Arc<Shared>,
    outgoing: mpsc::Receiver<Outgoing>,
}

impl BusLink {
    /// Starts the thread. It connects as soon as Redis is reachable and reconnects whenever the connection is lost.
    ///
    /// # Errors
    /// The thread could not be started. A Redis that is not reachable is no error.
    pub fn start(self, listener: Box<dyn BusListener>) -> io::Result<BusThread> {
        link::start(self.client, self.shared, self.outgoing, listener).map(BusThread)
    }
}

/// The thread that serves the connections to Redis.
pub struct BusThread(JoinHandle<()>);

impl BusThread {
    /// False when the thread has ended, be it in order or by a panic.
    pub fn is_running(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Bus {
    /// Makes a bus, over which messages wait until its link is started. `service` tells services apart that use the
    /// same Redis.
    pub fn new(url: &BusUrl, service: i64) -> (Self, BusLink) {
        let me = NodeId::random();
        let (queue, outgoing) = mpsc::channel(OUTGOING_LIMIT);
        let shared = Arc::new(Shared {
            me,
            prefix: format!("handsup:{service}:{}:", message::FORMAT),
            queue,
            subscriptions: Mutex::default(),
            subscriptions_changed: Notify::new(),
            membership: Mutex::new(NodeMembership::new(me)),
            counter: Mutex::new(None),
            must_announce: AtomicBool::new(false),
            is_receiving: AtomicBool::new(false),
            is_sending: AtomicBool::new(false),
            stats: Stats::default(),
        });
        (Self(Arc::clone(&shared)), BusLink { client: url.client.clone(), shared, outgoing })
    }

    /// Sends what waits, tells the other nodes that this one stops, and closes the connections.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let stop = async {
            if self.0.queue.send(Outgoing::Stop(done)).await.is_ok() {
                let _ = stopped.await;
            }
        };
        // If this takes too long, the other nodes notice by the missing heartbeats.
        let _ = tokio::time::timeout(STOP_TIMEOUT, stop).await;
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.0.me
    }

    /// Whether messages of other nodes arrive now.
    pub fn is_receiving(&self) -> bool {
        self.0.is_receiving.load(Ordering::Relaxed)
    }

    fn enqueue(&self, outgoing: Outgoing) {
        if self.0.queue.try_send(outgoing).is_err() {
            self.0.stats.dropped.inc();
            self.0.must_announce.store(true, Ordering::Relaxed);
        }
    }

    /// Sends a message to the nodes that are subscribed to this channel.
    pub fn send(&self, channel: Channel, message: BusMessage) {
        self.enqueue(Outgoing::Message(AnyChannel::One(channel), message));
    }

    /// Sends a message to all nodes.
    pub fn broadcast(&self, message: BusMessage) {
        self.enqueue(Outgoing::Message(AnyChannel::AllNodes, message));
    }

    /// Sends an alarm to the nodes that hold sockets of its receivers.
    pub fn send_alarm(&self, alarm: Alarm, receivers: Vec<Receiver>) {
        if !receivers.is_empty() {
            self.enqueue(Outgoing::Alarm(alarm, receivers));
        }
    }

    /// Subscribes to a channel. The future resolves when every message sent from then on is received. It resolves at
    /// once if there is no connection, and after 0.7 s in any case: the caller then reads the store, which holds what
    /// it misses. Each call needs one call of [`unsubscribe`](Self::unsubscribe).
    pub fn subscribe(&self, channel: Channel) -> impl Future<Output = ()> + Send + use<> {
        let (confirm, confirmed) = oneshot::channel();
        let must_wait = locked(&self.0.subscriptions).add(channel, confirm);
        self.0.subscriptions_changed.notify_one();
        async move {
            if must_wait {
                let _ = tokio::time::timeout(REPLY_TIMEOUT, confirmed).await;
            }
        }
    }

    /// Takes back one call of [`subscribe`](Self::subscribe). The last one ends the subscription.
    pub fn unsubscribe(&self, channel: Channel) {
        locked(&self.0.subscriptions).remove(channel);
        self.0.subscriptions_changed.notify_one();
    }

    /// Whether this node is the first to do what is due for these goods. The others do it a little later, if it is
    /// still undone then.
    pub fn is_first_for(&self, goods: GoodsId) -> bool {
        locked(&self.0.membership).is_first_for(goods)
    }

    /// The figures as they are now.
    pub fn figures(&self) -> BusFigures {
        let Shared { stats, membership, subscriptions, is_receiving, is_sending, .. } = &*self.0;
        BusFigures {
            is_up: is_receiving.load(Ordering::Relaxed) && is_sending.load(Ordering::Relaxed),
            others: locked(membership).others(),
            channels: locked(subscriptions).len(),
            sent: stats.sent.get(),
            received: stats.received.get(),
            dropped: stats.dropped.get(),
            unreadable: stats.unreadable.get(),
            uncounted: stats.uncounted.get(),
            connections_lost: stats.connections_lost.get(),
        }
    }
}

impl Topology {
    /// Adds the bus's figures to the metrics. Without a bus they are there too, so that whoever shows them finds them.
    pub(crate) fn register(&self, to: &mut Registry) {
        let bus = self.bus();
        let read = |figure: fn(&Bus) -> usize| {
            let bus = bus.cloned();
            ReadGauge::new(move || bus.as_ref().map_or(0, figure))
        };
        to.register("bus_configured", "Whether there is a bus", read(|_| 1));
        to.register("bus_up", "Whether both connections to Redis are up", read(|bus| bus.figures().is_up.into()));
        let others = read(|bus| bus.figures().others);
        to.register("bus_other_nodes", "Other nodes that live", others);
        to.register("bus_channels", "Channels that this node is subscribed to", read(|bus| bus.figures().channels));
        let queue = read(|Bus(shared)| OUTGOING_LIMIT - shared.queue.capacity());
        to.register("bus_queue", "Messages that wait to be sent", queue);
        let none = Stats::default();
        let stats = bus.map_or(&none, |Bus(shared)| &shared.stats);
        let Stats { sent, received, dropped, unreadable, uncounted, connections_lost } = stats;
        let counters = [
            ("bus_sent", "Messages sent", sent),
            ("bus_received", "Messages of other nodes received", received),
            ("bus_dropped", "Messages dropped: too many waited, or there was no connection", dropped),
            ("bus_unreadable", "Messages received that could not be decoded", unreadable),
            ("bus_uncounted_sockets", "Sockets admitted though Redis could not count them", uncounted),
            ("bus_connections_lost", "Connections to Redis lost", connections_lost),
        ];
        for (name, help, counter) in counters {
            to.register(name, help, counter.clone());
        }
    }
}

/// Whether the service has one node or several.
#[derive(Clone)]
pub enum Topology {
    Single,
    /// Several nodes on this bus.
    Cluster(Bus),
}

impl Topology {
    /// The bus; `None` with one node.
    pub fn bus(&self) -> Option<&Bus> {
        match self {
            Self::Single => None,
            Self::Cluster(bus) => Some(bus),
        }
    }

    /// Who uses the database.
    pub fn sharing(&self) -> Sharing {
        match self {
            Self::Single => Sharing::Exclusive,
            Self::Cluster(_) => Sharing::Shared,
        }
    }
}
