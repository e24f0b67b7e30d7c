//! The bus's thread and its two connections to Redis: one subscribes and receives, one publishes and counts sockets.
//! Both reconnect by themselves.
//!
//! A node also receives what it sends to all nodes. Its own heartbeat, which comes back every second, proves that the
//! subscription works; without it the connection counts as lost.

use std::{
    cell::Cell,
    fmt::Display,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use redis::{
    AsyncConnectionConfig, Msg, RedisError, RedisResult,
    aio::{MultiplexedConnection, PubSub, PubSubSink},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    BusEvent, BusListener, Channel, NodeId, Shared, SocketCounter, locked,
    message::{self, AnyChannel, BusMessage, Outgoing},
    subscriptions::Steps,
};
use crate::{
    domain::{Alarm, Receiver},
    outage::Outage,
};

/// How long connecting to Redis may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long Redis may take for one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two attempts to connect.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two heartbeats of this node.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The subscription counts as lost when none of this node's own messages has come back for this time.
const OWN_MESSAGE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a heartbeat keeps this node's counts of sockets alive in Redis.
pub(super) const COUNTS_LIVE_MS: u64 = 3500;
/// When two heartbeats are this far apart, the counts may have expired although the connection holds: the process was
/// suspended.
const HEARTBEAT_LATE_AFTER: Duration = Duration::from_secs(3);
/// Messages sent in one round trip, or received at once.
const MESSAGES_LIMIT: usize = 512;
/// Channels in one SUBSCRIBE or UNSUBSCRIBE.
const CHANNELS_LIMIT: usize = 500;
/// An alarm with at most this many receivers is sent to each of them. For more, the node first asks Redis which of them have subscribers.
const BLIND_RECEIVERS_LIMIT: usize = 8;

const NO_ANSWER: &str = "no answer in time";

/// Starts the thread. It ends when it has sent [`Outgoing::Stop`].
pub(super) fn start(
    client: redis::Client,
    shared: Arc<Shared>,
    outgoing: mpsc::Receiver<Outgoing>,
    listener: Box<dyn BusListener>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let link = Link {
        client,
        shared,
        listener,
        own_message_at: Cell::new(Instant::now()),
        was_connected: Cell::new(false),
        outage: Outage::new(),
        refused_commands: Outage::new(),
        counter_name: Cell::new(0),
    };
    std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = link.send_until_stopped(outgoing) => {}
                () = link.receive_forever() => {}
                () = link.beat_forever() => {}
            }
            link.sender_lost();
            link.receiver_lost();
        });
    })
}

struct Link {
    client: redis::Client,
    shared: Arc<Shared>,
    listener: Box<dyn BusListener>,
    own_message_at: Cell<Instant>,
    /// Whether the subscription has worked at least once.
    was_connected: Cell<bool>,
    /// Of either connection.
    outage: Outage,
    /// Single commands fail while the connection works.
    refused_commands: Outage,
    /// Of the current [`SocketCounter`].
    counter_name: Cell<u64>,
}

/// Whether the error means that the connection can't be used any more.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

impl Link {
    fn log_failure(&self, cause: &dyn Display) {
        if let Some(report) = self.outage.record_failure(Instant::now()) {
            let (failures, lasted_s) = (report.failures, report.lasted_s());
            log::warn!(failures, lasted_s, error:% = cause; "no connection to Redis, reconnecting");
        }
    }

    // Receiving.

    async fn receive_forever(&self) {
        loop {
            match timeout(CONNECT_TIMEOUT, self.client.get_async_pubsub()).await {
                Ok(Ok(connection)) => {
                    if self.receive(connection).await {
                        self.shared.stats.connections_lost.inc();
                        self.log_failure(&"subscription lost");
                    }
                    self.receiver_lost();
                }
                Ok(Err(error)) => self.log_failure(&error),
                Err(_) => self.log_failure(&NO_ANSWER),
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    fn receiver_lost(&self) {
        self.shared.is_receiving.store(false, Ordering::Relaxed);
        locked(&self.shared.subscriptions).disconnected();
    }

    /// Receives until the connection is lost. False if it could not even subscribe.
    async fn receive(&self, connection: PubSub) -> bool {
        let (mut sink, stream) = connection.split();
        let nodes = AnyChannel::AllNodes.name(&self.shared.prefix);
        match timeout(COMMAND_TIMEOUT, sink.subscribe(nodes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.log_failure(&error);
                return false;
            }
            Err(_) => {
                self.log_failure(&NO_ANSWER);
                return false;
            }
        }
        locked(&self.shared.subscriptions).connected();
        if !self.update_subscriptions(&mut sink).await {
            return false;
        }
        self.own_message_at.set(Instant::now());
        locked(&self.shared.membership).reconnected(Instant::now());
        self.shared.is_receiving.store(true, Ordering::Relaxed);
        if !self.was_connected.replace(true) {
            log::info!("connected to Redis");
        }
        self.heartbeat(true);
        let subscribing = async {
            while self.update_subscriptions(&mut sink).await {
                self.shared.subscriptions_changed.notified().await;
            }
        };
        let receiving = async {
            // Alarms that arrive together are handed on as one event: a large audience costs one call.
            let mut stream = stream.ready_chunks(MESSAGES_LIMIT);
            while let Some(messages) = stream.next().await {
                let mut alarms = Vec::new();
                for message in &messages {
                    self.handle(message, &mut alarms);
                }
                if !alarms.is_empty() {
                    self.listener.on_bus_event(BusEvent::Alarms(alarms));
                }
            }
        };
        let silence = async {
            while self.own_message_at.get().elapsed() < OWN_MESSAGE_TIMEOUT {
                tokio::time::sleep(HEARTBEAT_INTERVAL).await;
            }
        };
        tokio::select! {
            () = subscribing => {}
            () = receiving => {}
            () = silence => {}
        }
        true
    }

    /// Subscribes to and unsubscribes from all channels that need it. False if Redis fails.
    async fn update_subscriptions(&self, sink: &mut PubSubSink) -> bool {
        loop {
            let steps = locked(&self.shared.subscriptions).steps(CHANNELS_LIMIT);
            if steps.is_empty() {
                return true;
            }
            let Steps { subscribe, unsubscribe } = &steps;
            if !subscribe.is_empty()
                && !matches!(timeout(COMMAND_TIMEOUT, sink.subscribe(self.names(subscribe))).await, Ok(Ok(())))
            {
                return false;
            }
            if !unsubscribe.is_empty()
                && !matches!(timeout(COMMAND_TIMEOUT, sink.unsubscribe(self.names(unsubscribe))).await, Ok(Ok(())))
            {
                return false;
            }
            locked(&self.shared.subscriptions).done(&steps);
        }
    }

    fn names(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| AnyChannel::One(*channel).name(&self.shared.prefix)).collect()
    }

    /// Handles one message. Alarms are collected in `alarms`; everything else goes to the listener, behind the alarms
    /// that came before it.
    fn handle(&self, message: &Msg, alarms: &mut Vec<(Alarm, Vec<Receiver>)>) {
        let unreadable = || self.shared.stats.unreadable.inc();
        let Some((node, rest)) = message::decode_sender(message.get_payload_bytes()) else {
            unreadable();
            return;
        };
        if node == self.shared.me {
            self.own_message_at.set(Instant::now());
            if let Some(report) = self.outage.record_success(Instant::now) {
                log::info!(failures = report.failures, lasted_s = report.lasted_s(); "connected to Redis again");
            }
            return;
        }
        let Some(message) = message::decode(rest) else {
            unreadable();
            return;
        };
        self.shared.stats.received.inc();
        if message == BusMessage::Leaving {
            if locked(&self.shared.membership).left(node) {
                log::info!(node:%; "a node has stopped");
                self.listener.on_bus_event(BusEvent::NodeGone(node));
            }
            return;
        }
        if locked(&self.shared.membership).seen(node, Instant::now()) {
            log::info!(node:%; "a node has joined");
            // Presence that it announced earlier was not received, or was forgotten: ask for it.
            self.heartbeat(true);
        }
        match message {
            BusMessage::Alarm(alarm, receiver) => match alarms.last_mut() {
                Some((last, receivers)) if last.id == alarm.id => receivers.push(receiver),
                _ => alarms.push((alarm, vec![receiver])),
            },
            message => {
                if !alarms.is_empty() {
                    self.listener.on_bus_event(BusEvent::Alarms(std::mem::take(alarms)));
                }
                self.listener.on_bus_event(BusEvent::Message(node, message));
            }
        }
    }

    /// Sends a heartbeat. With `wants_presence` the other nodes answer with who is present on them.
    fn heartbeat(&self, wants_presence: bool) {
        let message = BusMessage::Heartbeat { wants_presence };
        if self.shared.queue.try_send(Outgoing::Message(AnyChannel::AllNodes, message)).is_err() {
            self.shared.must_announce.store(true, Ordering::Relaxed);
        }
    }

    // Sending.

    async fn send_until_stopped(&self, mut outgoing: mpsc::Receiver<Outgoing>) {
        let mut connection: Option<MultiplexedConnection> = None;
        let mut next_attempt = Instant::now();
        let mut batch = Vec::with_capacity(MESSAGES_LIMIT);
        while outgoing.recv_many(&mut batch, MESSAGES_LIMIT).await > 0 {
            if connection.is_none() && Instant::now() >= next_attempt {
                connection = self.connect().await;
                next_attempt = Instant::now() + RETRY_INTERVAL;
            }
            let count = batch.len() as u64;
            let is_sent = match &mut connection {
                Some(connection) => self.send(connection, &mut batch).await,
                None => false,
            };
            let stats = &self.shared.stats;
            if is_sent { &stats.sent } else { &stats.dropped }.inc_by(count);
            if !is_sent {
                self.shared.must_announce.store(true, Ordering::Relaxed);
            }
            if !is_sent && connection.take().is_some() {
                stats.connections_lost.inc();
                self.log_failure(&"sending failed");
                self.sender_lost();
            }
            let stop = batch.drain(..).find_map(|one| if let Outgoing::Stop(done) = one { Some(done) } else { None });
            if let Some(done) = stop {
                let _ = done.send(());
                return;
            }
        }
    }

    async fn connect(&self) -> Option<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.inspect_err(|error| self.log_failure(error)).ok()?;
        let previous = self.counter_name.get();
        let name = rand::random();
        self.counter_name.set(name);
        let mut pipe = redis::pipe();
        pipe.cmd("DEL").arg(self.counter_key(previous)).ignore();
        self.extend_counts(&mut pipe);
        // A Redis that refuses writes counts no sockets, but still carries messages.
        let _ = pipe.exec_async(&mut connection).await;
        *locked(&self.shared.counter) = Some(SocketCounter { connection: connection.clone(), name });
        self.shared.is_sending.store(true, Ordering::Relaxed);
        // Messages may have been dropped while there was no connection.
        self.shared.must_announce.store(true, Ordering::Relaxed);
        self.listener.on_bus_event(BusEvent::RecountSockets);
        Some(connection)
    }

    /// Sockets counted under this name count for as long as this key exists.
    fn counter_key(&self, name: u64) -> String {
        format!("{}counts:{name}", self.shared.prefix)
    }

    fn extend_counts(&self, pipe: &mut redis::Pipeline) {
        pipe.cmd("SET").arg(self.counter_key(self.counter_name.get())).arg(1).arg("PX").arg(COUNTS_LIVE_MS).ignore();
    }

    fn sender_lost(&self) {
        self.shared.is_sending.store(false, Ordering::Relaxed);
        *locked(&self.shared.counter) = None;
    }

    /// Sends the batch in order, in one round trip. False if the connection is lost: some of it may have been sent all
    /// the same, and other nodes may receive it again, which they notice.
    async fn send(&self, connection: &mut MultiplexedConnection, batch: &mut [Outgoing]) -> bool {
        let mut pipe = redis::pipe();
        for outgoing in batch {
            match outgoing {
                Outgoing::Message(channel, message) => {
                    if let BusMessage::Heartbeat { .. } = message {
                        self.extend_counts(&mut pipe);
                    }
                    self.publish(&mut pipe, *channel, message);
                }
                Outgoing::Alarm(alarm, receivers) => {
                    if receivers.len() > BLIND_RECEIVERS_LIMIT {
                        match self.with_subscribers(connection, receivers).await {
                            Ok(found) => *receivers = found,
                            Err(error) if is_lost(&error) => return false,
                            // Redis can't say who has subscribers: send to all of them.
                            Err(_) => {}
                        }
                    }
                    self.publish_alarm(&mut pipe, alarm, receivers);
                }
                Outgoing::Stop(_) => {
                    pipe.cmd("DEL").arg(self.counter_key(self.counter_name.get())).ignore();
                    self.publish(&mut pipe, AnyChannel::AllNodes, &BusMessage::Leaving);
                }
            }
        }
        match pipe.exec_async(connection).await {
            Ok(()) => {
                if let Some(report) = self.refused_commands.record_success(Instant::now) {
                    let (failures, lasted_s) = (report.failures, report.lasted_s());
                    log::info!(failures, lasted_s; "Redis refuses no more commands");
                }
                true
            }
            Err(error) if is_lost(&error) => false,
            Err(error) => {
                // Redis refuses one command, for example because it may not write. It has run the others.
                if let Some(report) = self.refused_commands.record_failure(Instant::now()) {
                    let (failures, lasted_s) = (report.failures, report.lasted_s());
                    log::warn!(failures, lasted_s, error:%; "Redis refuses a command");
                }
                true
            }
        }
    }

    fn publish(&self, pipe: &mut redis::Pipeline, channel: AnyChannel, message: &BusMessage) {
        let name = channel.name(&self.shared.prefix);
        pipe.cmd("PUBLISH").arg(name).arg(message::encode(self.shared.me, message)).ignore();
    }

    fn publish_alarm(&self, pipe: &mut redis::Pipeline, alarm: &Alarm, receivers: &[Receiver]) {
        for receiver in receivers {
            let channel = AnyChannel::One(Channel::User(receiver.user));
            self.publish(pipe, channel, &BusMessage::Alarm(alarm.clone(), *receiver));
        }
    }

    /// Those receivers to whose channel some node is subscribed. A user who connects later finds the alarm in the
    /// store.
    async fn with_subscribers(
        &self,
        connection: &mut MultiplexedConnection,
        receivers: &[Receiver],
    ) -> RedisResult<Vec<Receiver>> {
        let channels: Vec<Channel> = receivers.iter().map(|receiver| Channel::User(receiver.user)).collect();
        let counts: Vec<(String, u64)> =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(self.names(&channels)).query_async(connection).await?;
        // Redis answers in the order of the question.
        Ok(receivers.iter().zip(counts).filter(|(_, (_, count))| *count > 0).map(|(receiver, _)| *receiver).collect())
    }

    /// Sends a heartbeat every second, and notices nodes that send none.
    async fn beat_forever(&self) {
        let mut last_beat = Instant::now();
        loop {
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
            if std::mem::replace(&mut last_beat, Instant::now()).elapsed() > HEARTBEAT_LATE_AFTER {
                self.listener.on_bus_event(BusEvent::RecountSockets);
            }
            let must_announce = self.shared.is_sending.load(Ordering::Relaxed)
                && self.shared.must_announce.swap(false, Ordering::Relaxed);
            if must_announce {
                self.listener.on_bus_event(BusEvent::AnnouncePresence);
            }
            self.heartbeat(must_announce);
            if self.shared.is_receiving.load(Ordering::Relaxed) {
                let gone: Vec<NodeId> = locked(&self.shared.membership).take_gone(Instant::now());
                for node in gone {
                    log::warn!(node:%; "a node is gone: it sends no heartbeat");
                    self.listener.on_bus_event(BusEvent::NodeGone(node));
                }
            }
        }
    }
}
